"""OpenAI's Chat Completions API (OpenAI API reference, "Chat Completions")."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fleet.sim.provider import api_errors
from fleet.sim.provider.api_writer import (
    ContentBlock,
    ResponseEnvelope,
    Stop,
    cut,
    decoded_size,
    frame,
    members,
    number,
    word,
)
from fleet.sim.provider.normalized_request import (
    AssistantText,
    BadRequest,
    Item,
    NormalizedRequest,
    Picture,
    RequestedCall,
    Segment,
    ToolOutcome,
    UserText,
)
from fleet.sim.provider.prompt_directives import UseTool
from fleet.sim.provider.token_count import BilledTokens, segment

_STOPS: dict[Stop, str] = {"end": "stop", "tool": "tool_calls", "length": "length"}


def read(body: Mapping[str, Any]) -> NormalizedRequest:
    """Read a request to `/v1/chat/completions`.

    Raises:
        BadRequest: a field is missing or of the wrong kind.
    """
    items: list[Item] = []
    segments: list[Segment] = []
    tools: dict[str, Mapping[str, Any]] = {}
    for tool in members(body.get("tools") or [], "tools"):
        function = tool.get("function")
        if not isinstance(function, dict):
            raise BadRequest("tools: function: an object is required")
        tools[word(function, "name", "tools: ")] = function.get("parameters") or {}
        segments.append(segment(tool))
    messages = members(body.get("messages"), "messages")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    for index, message in enumerate(messages):
        for source, found in _message(message, f"messages.{index}."):
            segments.append(segment(source, picture=isinstance(found, Picture)))
            items.extend([found] if found else [])
    options = body.get("stream_options") or {}
    return NormalizedRequest(
        api="chat",
        model=word(body, "model"),
        items=tuple(items),
        segments=tuple(segments),
        tools=tools,
        stream=bool(body.get("stream")),
        max_tokens=number(body, "max_completion_tokens", "max_tokens"),
        include_usage=bool(isinstance(options, dict) and options.get("include_usage")),
    )


def _message(message: Mapping[str, Any], where: str) -> Iterator[tuple[dict[str, Any], Item | None]]:
    role, content = word(message, "role", where), message.get("content")
    if role == "tool":
        yield dict(message), ToolOutcome(word(message, "tool_call_id", where), _text(content))
        return
    parts = (
        [{"type": "text", "text": content}] if isinstance(content, str) else members(content or [], f"{where}content")
    )
    for part in parts:
        source = {"role": role, **part}
        text = part.get("text")
        if part.get("type") == "image_url":
            pointer: Any = part.get("image_url")
            address = str(pointer.get("url", "")) if isinstance(pointer, dict) else ""
            media_type, _, data = address.removeprefix("data:").partition(";base64,")
            yield source, Picture(media_type if data else "image", decoded_size(data))
        elif isinstance(text, str) and role in {"user", "assistant"}:
            yield source, UserText(text) if role == "user" else AssistantText(text)
        else:
            yield source, None
    for call in members(message.get("tool_calls") or [], f"{where}tool_calls"):
        function = call.get("function") or {}
        yield {"role": role, **call}, RequestedCall(word(call, "id", where), str(function.get("name", "")))


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


class CompletionsWriter:
    """Writes one answer. Thoughts have no place in this API: they are billed, not shown."""

    def __init__(self, envelope: ResponseEnvelope) -> None:
        self._envelope = envelope
        self._text = ""
        self._calls: list[ContentBlock] = []

    def begin(self, usage: BilledTokens) -> Iterator[bytes]:
        yield self._chunk({"role": "assistant", "content": "", "refusal": None})

    def thought(self, delta: str) -> Iterator[bytes]:
        yield from ()

    def text(self, delta: str) -> Iterator[bytes]:
        self._text += delta
        yield self._chunk({"content": delta})

    def call(self, step: UseTool) -> Iterator[bytes]:
        index = len(self._calls)
        block = ContentBlock(
            "call", f"call_{self._envelope.id}{index:02d}", json.dumps(step.input, ensure_ascii=False), step.name
        )
        self._calls.append(block)
        head = {"index": index, "id": block.id, "type": "function", "function": {"name": step.name, "arguments": ""}}
        yield self._chunk({"tool_calls": [head]})
        for piece in cut(block.text, 24):
            yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})

    def end(self, stop: Stop, usage: BilledTokens) -> Iterator[bytes]:
        yield self._chunk({}, _STOPS[stop])
        if self._envelope.include_usage:
            chunk = {**self._head("chat.completion.chunk"), "choices": []}
            yield frame(self._envelope.report.put(chunk, "chat", "end", usage))
        yield frame("[DONE]")

    def failure(self, status: int, message: str, usage: BilledTokens | None = None) -> Iterator[bytes]:
        yield frame(api_errors.body("chat", status, message, self._envelope.request_id))

    def document(self, stop: Stop, usage: BilledTokens) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text or None, "refusal": None}
        if self._calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}
                for call in self._calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _STOPS[stop]}
        document = {**self._head("chat.completion"), "choices": [choice]}
        return self._envelope.report.put(document, "chat", "document", usage)

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._envelope.id}",
            "object": kind,
            "created": self._envelope.created,
            "model": self._envelope.model,
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        source: dict[str, Any] = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if self._envelope.include_usage:
            source["usage"] = None
        return frame(source)
