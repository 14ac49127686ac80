"""What the writers of answers have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from fleet.sim.provider import token_count
from fleet.sim.provider.normalized_request import BadRequest
from fleet.sim.provider.prompt_directives import UseTool
from fleet.sim.provider.token_count import BilledTokens
from fleet.sim.provider.usage_report import UsageReport

Stop: TypeAlias = Literal["end", "tool", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ResponseEnvelope:
    """What an answer is called."""

    id: str
    """Letters and digits; each API puts its own prefix before it."""
    model: str
    created: int
    """Epoch seconds."""
    include_usage: bool = True
    request_id: str = ""
    report: UsageReport = field(default_factory=UsageReport)
    """How usage is told."""


@dataclass(slots=True)
class ContentBlock:
    """One piece of the answer, while it grows."""

    kind: Literal["text", "thought", "call"]
    id: str
    text: str = ""
    """The words, or a tool call's input as JSON."""
    name: str = ""
    freeform: bool = False
    """The tool call's input is no JSON."""


class ApiWriter(Protocol):
    """Turns an answer, as it comes into being, into the frames of one API; or, at its end, into one document."""

    def begin(self, usage: BilledTokens) -> Iterable[bytes]: ...
    def thought(self, delta: str) -> Iterable[bytes]: ...
    def text(self, delta: str) -> Iterable[bytes]: ...
    def call(self, step: UseTool) -> Iterable[bytes]: ...
    def end(self, stop: Stop, usage: BilledTokens) -> Iterable[bytes]: ...
    def failure(self, status: int, message: str, usage: BilledTokens | None = None) -> Iterable[bytes]:
        """Return an error in mid-stream; with `usage` it tells what was billed, where the API has a place for that."""
        ...

    def document(self, stop: Stop, usage: BilledTokens) -> dict[str, Any]: ...


def frame(data: Mapping[str, Any] | str, event: str | None = None) -> bytes:
    """Return one server-sent event (WHATWG HTML, section 9.2)."""
    line = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {line}\n\n".encode("utf-8", "replace")


def cut(text: str, size: int) -> list[str]:
    """`text` in pieces of at most `size` characters; at least one, perhaps empty."""
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


def call_tokens(step: UseTool) -> int:
    return token_count.count(step.name) + token_count.count(token_count.compact(step.input)) + token_count.CALL_OVERHEAD


def members(value: object, where: str) -> list[Mapping[str, Any]]:
    """Return a list of JSON objects, or a complaint that names the place."""
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        raise BadRequest(f"{where}: a list of objects is required")
    return value


def word(source: Mapping[str, Any], key: str, where: str = "") -> str:
    value = source.get(key)
    if not isinstance(value, str):
        raise BadRequest(f"{where}{key}: a string is required")
    return value


def number(source: Mapping[str, Any], *keys: str) -> int | None:
    """Return the first of these keys that is there, a positive whole number."""
    for key in keys:
        value = source.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadRequest(f"{key}: a whole number of at least 1 is required")
        return value
    return None


def decoded_size(data: str) -> int:
    """Return bytes of a base64 text, without decoding it."""
    return len(data) * 3 // 4 - data[-2:].count("=")
