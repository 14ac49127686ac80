"""Anthropic's Messages API (Anthropic API documentation, "Messages" and "Streaming messages")."""

from __future__ import annotations

import dataclasses
import hashlib
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
from fleet.sim.provider.usage_report import Place

_STOPS: dict[Stop, str] = {"end": "end_turn", "tool": "tool_use", "length": "max_tokens"}


def read(body: Mapping[str, Any], *, counting: bool = False) -> NormalizedRequest:
    """Read a request to `/v1/messages`, or with `counting` to `/v1/messages/count_tokens`.

    Raises:
        BadRequest: a field is missing or of the wrong kind.
    """
    items: list[Item] = []
    segments: list[Segment] = []
    tools: dict[str, Mapping[str, Any]] = {}
    for tool in members(body.get("tools") or [], "tools"):
        tools[word(tool, "name", "tools: ")] = tool.get("input_schema") or {}
        segments.append(segment(tool))
    segments.extend(segment(block) for block in _blocks(body.get("system") or [], "system"))
    messages = members(body.get("messages"), "messages")
    if not messages:
        raise BadRequest("messages: at least one message is required")
    for index, message in enumerate(messages):
        role = word(message, "role", f"messages.{index}.")
        if role not in {"user", "assistant", "system"}:
            raise BadRequest(f"messages.{index}.role: user or assistant is required, not {role!r}")
        for block in _blocks(message.get("content"), f"messages.{index}.content"):
            segments.append(segment(block, picture=block.get("type") == "image"))
            items.extend(_items(role, block))
    max_tokens = number(body, "max_tokens")
    if max_tokens is None and not counting:
        raise BadRequest("max_tokens: a whole number of at least 1 is required")
    return NormalizedRequest(
        api="anthropic",
        model=word(body, "model"),
        items=tuple(items),
        segments=tuple(segments),
        tools=tools,
        stream=bool(body.get("stream")),
        max_tokens=max_tokens,
    )


def _blocks(content: object, where: str) -> list[Mapping[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else members(content, where)


def _items(role: str, block: Mapping[str, Any]) -> Iterator[Item]:
    match block.get("type"):
        case "text":
            text = word(block, "text")
            if role != "system":
                yield UserText(text) if role == "user" else AssistantText(text)
        case "image":
            source = block.get("source") or {}
            yield Picture(str(source.get("media_type", "image")), decoded_size(str(source.get("data", ""))))
        case "tool_use":
            yield RequestedCall(word(block, "id"), word(block, "name"))
        case "tool_result":
            content = block.get("content") or ""
            parts = _blocks(content, "tool_result.content")
            yield ToolOutcome(word(block, "tool_use_id"), "\n".join(str(p["text"]) for p in parts if "text" in p))


class AnthropicWriter:
    """Writes one answer. One content block is open at a time."""

    def __init__(self, envelope: ResponseEnvelope) -> None:
        self._envelope = envelope
        self._blocks: list[ContentBlock] = []
        self._open = False

    def begin(self, usage: BilledTokens) -> Iterator[bytes]:
        placeholder = dataclasses.replace(usage, output=min(1, usage.output))
        message = self._message([], None, placeholder, "start")
        yield _event({"type": "message_start", "message": message})
        yield _event({"type": "ping"})

    def thought(self, delta: str) -> Iterator[bytes]:
        yield from self._into("thought", {"type": "thinking", "thinking": "", "signature": ""})
        self._blocks[-1].text += delta
        yield self._delta({"type": "thinking_delta", "thinking": delta})

    def text(self, delta: str) -> Iterator[bytes]:
        yield from self._into("text", {"type": "text", "text": ""})
        self._blocks[-1].text += delta
        yield self._delta({"type": "text_delta", "text": delta})

    def call(self, step: UseTool) -> Iterator[bytes]:
        source = json.dumps(step.input, ensure_ascii=False)
        call_id = f"toolu_{self._envelope.id}{len(self._blocks):02d}"
        yield from self._close()
        self._blocks.append(ContentBlock("call", call_id, source, step.name))
        yield self._start({"type": "tool_use", "id": call_id, "name": step.name, "input": {}})
        yield self._delta({"type": "input_json_delta", "partial_json": ""})
        for piece in cut(source, 24):
            yield self._delta({"type": "input_json_delta", "partial_json": piece})

    def end(self, stop: Stop, usage: BilledTokens) -> Iterator[bytes]:
        yield from self._close()
        delta = {"type": "message_delta", "delta": {"stop_reason": _STOPS[stop], "stop_sequence": None}}
        yield _event(self._envelope.report.put(delta, "anthropic", "end", usage))
        yield _event({"type": "message_stop"})

    def failure(self, status: int, message: str, usage: BilledTokens | None = None) -> Iterator[bytes]:
        yield frame(api_errors.body("anthropic", status, message, self._envelope.request_id), "error")

    def document(self, stop: Stop, usage: BilledTokens) -> dict[str, Any]:
        return self._message([_content(block) for block in self._blocks], _STOPS[stop], usage, "document")

    def _message(
        self, content: list[dict[str, Any]], stop: str | None, usage: BilledTokens, place: Place
    ) -> dict[str, Any]:
        message = {
            "id": f"msg_{self._envelope.id}",
            "type": "message",
            "role": "assistant",
            "model": self._envelope.model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
        }
        return self._envelope.report.put(message, "anthropic", place, usage)

    def _into(self, kind: Any, empty: dict[str, Any]) -> Iterator[bytes]:
        if self._open and self._blocks[-1].kind == kind:
            return
        yield from self._close()
        self._blocks.append(ContentBlock(kind, ""))
        yield self._start(empty)

    def _start(self, empty: dict[str, Any]) -> bytes:
        self._open = True
        return _event({"type": "content_block_start", "index": len(self._blocks) - 1, "content_block": empty})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event({"type": "content_block_delta", "index": len(self._blocks) - 1, "delta": delta})

    def _close(self) -> Iterator[bytes]:
        if not self._open:
            return
        if self._blocks[-1].kind == "thought":
            yield self._delta({"type": "signature_delta", "signature": _signature(self._blocks[-1].text)})
        self._open = False
        yield _event({"type": "content_block_stop", "index": len(self._blocks) - 1})


def _event(data: dict[str, Any]) -> bytes:
    return frame(data, data["type"])


def _signature(thought: str) -> str:
    return hashlib.sha256(thought.encode("utf-8", "replace")).hexdigest()


def _content(block: ContentBlock) -> dict[str, Any]:
    match block.kind:
        case "thought":
            return {"type": "thinking", "thinking": block.text, "signature": _signature(block.text)}
        case "call":
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": json.loads(block.text)}
    return {"type": "text", "text": block.text}
