"""From what a runtime says (Agent Client Protocol, as decoded JSON) to the journal's events.

Pure, and lenient on purpose: a runtime may be newer than we are, or broken, or hostile. What is not understood is left
out; nothing here raises.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from fleet.journal.events import Event, PlanUpdated, TextChunk, ThoughtChunk, ToolCall, UsageReported

#: Longer texts are split over several entries.
_CHUNK_CHARACTERS: Final = 2**19
_TITLE_CHARACTERS: Final = 2000
_DETAIL_CHARACTERS: Final = 2**14
_PLAN_ENTRIES: Final = 200
_OPTIONS: Final = 20
#: Agent Client Protocol, permission options.
OPTION_KINDS: Final = ("allow_once", "allow_always", "reject_once", "reject_always")
#: What is to be allowed must be shown whole; what is longer than this cannot be, and is denied.
PERMISSION_CHARACTERS: Final = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownToolCall:
    """What is known of one tool call; updates and permission requests name only what is new."""

    call: str
    title: str | None = None
    tool_kind: str | None = None
    raw_input: Any = None
    content: Any = None
    locations: Any = None

    def with_update(self, source: Mapping[str, Any]) -> KnownToolCall:
        return replace(
            self,
            title=_text(source.get("title"), PERMISSION_CHARACTERS) or self.title,
            tool_kind=_text(source.get("kind"), 100) or self.tool_kind,
            raw_input=source.get("rawInput") or self.raw_input,
            content=source.get("content") or self.content,
            locations=source.get("locations") or self.locations,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedPermissionRequest:
    """A permission request, ready to be asked."""

    title: str
    detail: str
    digest: str
    options: tuple[Mapping[str, str], ...]

    def option_of(self, *kinds: str) -> str | None:
        """Return the id of the first option of the first of these kinds that is offered."""
        return option_of(self.options, *kinds)


def option_of(options: tuple[Mapping[str, str], ...], *kinds: str) -> str | None:
    """Return the id of the first option of the first of these kinds that is among `options`."""
    return next((option["id"] for kind in kinds for option in options if option["kind"] == kind), None)


def clean(text: str) -> str:
    """Return the text without lone surrogates, which no database and no chat system takes."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def quoted(text: str, limit: int = 2000) -> str:
    """Return a runtime's words inside a sentence of ours: on one line, in a Markdown code span that they cannot end."""
    words = " ".join(clean(text).split())
    words = words if len(words) <= limit else f"{words[:limit]}…"
    fence = "`" * (max((len(run) for run in re.findall("`+", words)), default=0) + 1)
    pad = " " if words.startswith("`") or words.endswith("`") or not words else ""
    return f"{fence}{pad}{words}{pad}{fence}"


def events_of(update: Mapping[str, Any], turn: str | None) -> list[Event]:
    """Return the events of one ``session/update``; none for kinds that do not belong to a turn's work."""
    try:
        return _events_of(update, turn)
    except RecursionError:
        return []


def _events_of(update: Mapping[str, Any], turn: str | None) -> list[Event]:
    match update.get("sessionUpdate"):
        case "agent_message_chunk":
            return [TextChunk(turn=turn, text=part) for part in _parts(update.get("content"))]
        case "agent_thought_chunk":
            return [ThoughtChunk(turn=turn, text=part) for part in _parts(update.get("content"))]
        case "tool_call" | "tool_call_update":
            call = _text(update.get("toolCallId"), 500)
            return [_tool(call, update, turn)] if call else []
        case "plan":
            entries = update.get("entries")
            return [PlanUpdated(turn=turn, entries=_plan(entries))] if isinstance(entries, list) else []
        case "usage_update":
            return [UsageReported(turn=turn, fields=usage_fields(update))]
        case _:
            return []


def usage_fields(source: Any) -> dict[str, Any]:
    """Return the numbers in a usage report, one level deep."""
    if not isinstance(source, dict):
        return {}
    fields: dict[str, Any] = {}
    for key, value in list(source.items())[:40]:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18:
            fields[clean(key)[:100]] = value
        elif key == "cost" and isinstance(value, dict):
            fields["cost"] = {
                "amount": value["amount"] if isinstance(value.get("amount"), int | float) else None,
                "currency": _text(value.get("currency"), 10),
            }
    return fields


def call_of(update: Mapping[str, Any]) -> str | None:
    """Return the id of the tool call that an update is about."""
    return _text(update.get("toolCallId"), 500)


def permission_of(call: KnownToolCall, options: Any) -> ParsedPermissionRequest | None:
    """Return the request to allow `call`; None when it cannot be shown whole, or offers no option whose meaning is
    certain."""
    offered = _choosable(options)
    title = _shortened(call.title, _TITLE_CHARACTERS) or call.tool_kind or "an action without a title"
    try:
        detail, digest = _detail(call), _digest(call, offered)
    except RecursionError:
        return None
    if not offered or len(detail) > PERMISSION_CHARACTERS:
        return None
    return ParsedPermissionRequest(title=title, detail=detail, digest=digest, options=offered)


def _choosable(options: Any) -> tuple[Mapping[str, str], ...]:
    """Return the options whose meaning is certain: each of a known kind, and of one kind alone under its id."""
    listed = [_option(option) for option in (options[:_OPTIONS] if isinstance(options, list) else ())]
    kinds: dict[str, set[str]] = {}
    for option in listed:
        kinds.setdefault(option["id"], set()).add(option["kind"])
    unique = {option["id"]: option for option in reversed(listed) if option["kind"] in OPTION_KINDS}
    return tuple(option for id_, option in reversed(unique.items()) if id_ and len(kinds[id_]) == 1)


def _digest(call: KnownToolCall, options: tuple[Mapping[str, str], ...]) -> str:
    """Return what an answer is bound to: all that says what would be done, nothing that changes from request to
    request."""
    what = {
        "kind": call.tool_kind,
        "title": call.title,
        "rawInput": call.raw_input,
        "content": call.content,
        "locations": call.locations,
        "options": [option["kind"] for option in options],
    }
    canonical = json.dumps(what, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _option(source: Any) -> Mapping[str, str]:
    source = source if isinstance(source, dict) else {}
    id_ = source.get("optionId")
    return {
        "id": id_ if isinstance(id_, str) and len(id_) <= 200 and clean(id_) == id_ else "",
        "name": _text(source.get("name"), 200) or "",
        "kind": _text(source.get("kind"), 40) or "",
    }


def _detail(call: KnownToolCall) -> str:
    """Return the whole of what would be done, the command itself first."""
    parts = []
    rest = call.raw_input
    if isinstance(rest, dict):
        command = rest.get("command")
        if isinstance(command, list) and all(isinstance(word, str) for word in command):
            command = " ".join(command) if not any(set(word) & set(" \t\n'\"\\") for word in command) else None
        # pi's adapter has a message instead, which holds the command.
        for name, words in (("command", command), ("message", rest.get("message"))):
            if isinstance(words, str):
                parts.append(words)
                rest = {key: value for key, value in rest.items() if key != name}
    if isinstance(rest, str):
        parts.append(rest)
    elif rest:
        parts.append(_json(rest))
    if not call.raw_input:
        parts.extend(_json(value) for value in (call.content, call.locations) if value)
    return clean("\n".join(parts)) or call.title or ""


def _tool(call: str, update: Mapping[str, Any], turn: str | None) -> ToolCall:
    known = KnownToolCall(call=call).with_update(update)
    detail = _detail(replace(known, title=None, content=None, locations=None)) if known.raw_input else None
    return ToolCall(
        turn=turn,
        call=call,
        title=_shortened(known.title, _TITLE_CHARACTERS),
        tool_kind=known.tool_kind,
        status=_text(update.get("status"), 40),
        detail=_shortened(detail or _content_text(known.content), _DETAIL_CHARACTERS),
    )


def _content_text(content: Any) -> str | None:
    """Return the plain text in a tool call's content (Agent Client Protocol, tool call content)."""
    if not isinstance(content, list):
        return None
    texts = []
    for item in content[:50]:
        inner = item.get("content") if isinstance(item, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("text"), str):
            texts.append(inner["text"])
        elif isinstance(item, dict) and item.get("type") == "diff":
            texts.append(f"{item.get('path')}\n{item.get('newText')}")
    return clean("\n".join(texts)) or None


def _parts(content: Any) -> list[str]:
    """Return the text of a content block, in pieces; other blocks are named instead of shown."""
    if not isinstance(content, dict):
        return []
    text = content.get("text")
    if not isinstance(text, str):
        kind = _text(content.get("type"), 40)
        text = f"[{kind}]" if kind and kind != "text" else ""
    text = clean(text)
    return [text[start : start + _CHUNK_CHARACTERS] for start in range(0, len(text), _CHUNK_CHARACTERS)]


def _plan(entries: list[Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {name: _text(entry.get(name), _TITLE_CHARACTERS) for name in ("content", "priority", "status")}
        for entry in entries[:_PLAN_ENTRIES]
        if isinstance(entry, dict)
    )


def _text(value: Any, limit: int) -> str | None:
    return _shortened(clean(value), limit) if isinstance(value, str) else None


def _shortened(text: str | None, limit: int) -> str | None:
    if text is None or len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)
