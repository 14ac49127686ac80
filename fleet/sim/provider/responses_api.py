"""OpenAI's Responses API (OpenAI API reference, "Responses" and its streaming events)."""

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

_CALLS = {"function_call", "custom_tool_call", "local_shell_call"}
_OUTPUTS = {"function_call_output", "custom_tool_call_output", "local_shell_call_output"}


def read(body: Mapping[str, Any]) -> NormalizedRequest:
    """Read a request to `/v1/responses`.

    Raises:
        BadRequest: a field is missing or of the wrong kind.
    """
    items: list[Item] = []
    segments: list[Segment] = []
    tools: dict[str, Mapping[str, Any]] = {}
    for tool in members(body.get("tools") or [], "tools"):
        tools.update(_tools(tool))
        segments.append(segment(tool))
    if instructions := body.get("instructions"):
        segments.append(segment({"role": "system", "content": instructions}))
    asked = body.get("input")
    listed = [{"role": "user", "content": asked}] if isinstance(asked, str) else members(asked, "input")
    if not listed:
        raise BadRequest("input: at least one item is required")
    for index, item in enumerate(listed):
        kind = item.get("type", "message")
        if kind == "message":
            for part, found in _message(item, f"input.{index}."):
                segments.append(segment(part, picture=isinstance(found, Picture)))
                items.extend([found] if found else [])
            continue
        segments.append(segment(item))
        if kind == "additional_tools":
            for tool in members(item.get("tools") or [], f"input.{index}.tools"):
                tools.update(_tools(tool))
        elif kind in _CALLS:
            items.append(RequestedCall(word(item, "call_id"), str(item.get("name", kind))))
        elif kind in _OUTPUTS:
            items.append(ToolOutcome(word(item, "call_id"), _output(item.get("output"))))
    return NormalizedRequest(
        api="responses",
        model=word(body, "model"),
        items=tuple(items),
        segments=tuple(segments),
        tools=tools,
        stream=bool(body.get("stream")),
        max_tokens=number(body, "max_output_tokens"),
    )


def _tools(tool: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the tools in one entry: itself, or those of a namespace. One that takes text has the schema ``custom``."""
    match tool.get("type"):
        case "function":
            yield word(tool, "name", "tools: "), tool.get("parameters") or {}
        case "custom":
            yield word(tool, "name", "tools: "), {"type": "custom"}
        case "namespace":
            for inner in members(tool.get("tools") or [], "tools: "):
                yield from _tools(inner)


def _message(item: Mapping[str, Any], where: str) -> Iterator[tuple[dict[str, Any], Item | None]]:
    role, content = word(item, "role", where), item.get("content")
    parts = (
        [{"type": "input_text", "text": content}] if isinstance(content, str) else members(content, f"{where}content")
    )
    for part in parts:
        source = {"role": role, **part}
        text = part.get("text")
        if part.get("type") == "input_image":
            address = str(part.get("image_url") or "")
            media_type, _, data = address.removeprefix("data:").partition(";base64,")
            yield source, Picture(media_type if data else "image", decoded_size(data))
        elif role == "user" and isinstance(text, str):
            yield source, UserText(text)
        elif role == "assistant" and isinstance(text, str):
            yield source, AssistantText(text)
        else:
            yield source, None


def _output(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(str(part.get("text", "")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else json.dumps(value)


class ResponsesWriter:
    """Writes one answer. One output item is open at a time; every event carries the next sequence number."""

    def __init__(self, envelope: ResponseEnvelope) -> None:
        self._envelope = envelope
        self._blocks: list[ContentBlock] = []
        self._open = False
        self._sequence = -1

    def begin(self, usage: BilledTokens) -> Iterator[bytes]:
        yield self._event("response.created", response=self._response("in_progress"))
        yield self._event("response.in_progress", response=self._response("in_progress"))

    def thought(self, delta: str) -> Iterator[bytes]:
        if not self._is_open("thought"):
            yield from self._close()
            yield from self._add("thought", "rs")
            part = {"type": "summary_text", "text": ""}
            yield self._event("response.reasoning_summary_part.added", **self._place("summary_index"), part=part)
        self._blocks[-1].text += delta
        yield self._event("response.reasoning_summary_text.delta", **self._place("summary_index"), delta=delta)

    def text(self, delta: str) -> Iterator[bytes]:
        if not self._is_open("text"):
            yield from self._close()
            yield from self._add("text", "msg")
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield self._event("response.content_part.added", **self._place("content_index"), part=part)
        self._blocks[-1].text += delta
        yield self._event("response.output_text.delta", **self._place("content_index"), delta=delta, logprobs=[])

    def call(self, step: UseTool) -> Iterator[bytes]:
        source = str(step.input["input"]) if step.freeform else json.dumps(step.input, ensure_ascii=False)
        kind = _call_event(step.freeform)
        yield from self._close()
        yield from self._add("call", "ctc" if step.freeform else "fc", step.name, step.freeform)
        for piece in cut(source, 24):
            self._blocks[-1].text += piece
            yield self._event(f"{kind}.delta", **self._place(), delta=piece)
        yield from self._close()

    def end(self, stop: Stop, usage: BilledTokens) -> Iterator[bytes]:
        yield from self._close()
        document = self.document(stop, usage)
        yield self._event(f"response.{document['status']}", response=document)

    def failure(self, status: int, message: str, usage: BilledTokens | None = None) -> Iterator[bytes]:
        refused = api_errors.body("responses", status, message, "")["error"]
        error = {"code": refused["code"] or refused["type"], "message": refused["message"]}
        response = {**self._response("failed"), "error": error}
        if usage is not None:
            response = self._envelope.report.put(response, "responses", "end", usage)
        yield self._event("response.failed", response=response)

    def document(self, stop: Stop, usage: BilledTokens) -> dict[str, Any]:
        cut_short = stop == "length"
        document = {
            **self._response("incomplete" if cut_short else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if cut_short else None,
            "output": [_item(block, "completed") for block in self._blocks],
        }
        return self._envelope.report.put(document, "responses", "document", usage)

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": f"resp_{self._envelope.id}",
            "object": "response",
            "created_at": self._envelope.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._envelope.model,
            "output": [],
            "parallel_tool_calls": False,
            "usage": None,
        }

    def _is_open(self, kind: str) -> bool:
        return self._open and self._blocks[-1].kind == kind

    def _add(self, kind: Any, prefix: str, name: str = "", freeform: bool = False) -> Iterator[bytes]:
        self._blocks.append(
            ContentBlock(kind, f"{prefix}_{self._envelope.id}{len(self._blocks):02d}", "", name, freeform)
        )
        self._open = True
        item = _item(self._blocks[-1], "in_progress")
        if kind == "text":
            item["content"] = []
        if kind == "thought":
            item["summary"] = []
        yield self._event("response.output_item.added", output_index=len(self._blocks) - 1, item=item)

    def _close(self) -> Iterator[bytes]:
        if not self._open:
            return
        self._open = False
        block = self._blocks[-1]
        item = _item(block, "completed")
        match block.kind:
            case "text":
                place, part = self._place("content_index"), item["content"][0]
                yield self._event("response.output_text.done", **place, text=block.text, logprobs=[])
                yield self._event("response.content_part.done", **place, part=part)
            case "thought":
                place, part = self._place("summary_index"), item["summary"][0]
                yield self._event("response.reasoning_summary_text.done", **place, text=block.text)
                yield self._event("response.reasoning_summary_part.done", **place, part=part)
            case "call":
                words = {"input": block.text} if block.freeform else {"name": block.name, "arguments": block.text}
                yield self._event(f"{_call_event(block.freeform)}.done", **self._place(), **words)
        yield self._event("response.output_item.done", output_index=len(self._blocks) - 1, item=item)

    def _place(self, inner: str | None = None) -> dict[str, Any]:
        place = {"item_id": self._blocks[-1].id, "output_index": len(self._blocks) - 1}
        return {**place, inner: 0} if inner else place

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return frame({"type": kind, "sequence_number": self._sequence, **fields}, kind)


def _call_event(freeform: bool) -> str:
    return "response.custom_tool_call_input" if freeform else "response.function_call_arguments"


def _item(block: ContentBlock, status: str) -> dict[str, Any]:
    match block.kind:
        case "thought":
            return {"id": block.id, "type": "reasoning", "summary": [{"type": "summary_text", "text": block.text}]}
        case "call":
            call_id = f"call_{block.id.partition('_')[2]}"
            if block.freeform:
                head = {"id": block.id, "type": "custom_tool_call", "status": status}
                return {**head, "call_id": call_id, "name": block.name, "input": block.text}
            head = {"id": block.id, "type": "function_call", "status": status}
            return {**head, "call_id": call_id, "name": block.name, "arguments": block.text}
    part = {"type": "output_text", "text": block.text, "annotations": [], "logprobs": []}
    return {"id": block.id, "type": "message", "status": status, "role": "assistant", "content": [part]}
