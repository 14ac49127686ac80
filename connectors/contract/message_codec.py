"""Message values as JSON objects for the register's columns, and back.

Every string is made storable on the way in: chat systems and agents can send halves of surrogate pairs and NUL
characters, which no database takes, and one such event must not stop those behind it.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, TypeVar

from connectors.contract.messages import (
    Attachment,
    Button,
    ButtonStyle,
    CommandReading,
    Edit,
    Emphasis,
    File,
    Inbound,
    InboundBody,
    Message,
    OpenThread,
    OutboundContent,
    React,
    Reaction,
    Redaction,
    Remark,
    Replace,
    Retitle,
    Text,
)
from core.errors import MusterError
from database.schema.text_types import storable

_INBOUND: dict[str, type[InboundBody]] = {
    "text": Text,
    "reaction": Reaction,
    "redaction": Redaction,
    "edit": Edit,
    "remark": Remark,
}
_OUTBOUND: dict[str, type[OutboundContent]] = {
    "message": Message,
    "open_thread": OpenThread,
    "replace": Replace,
    "react": React,
    "file": File,
    "retitle": Retitle,
}
_NAMES = {kind: name for name, kind in (*_INBOUND.items(), *_OUTBOUND.items())}

#: The key of the author's groups; no body has a field of this name.
_GROUPS = "groups"

_T = TypeVar("_T")


class CodecError(MusterError):
    """A stored message is of a kind that this version of Muster does not know."""


def encode(value: InboundBody | OutboundContent) -> dict[str, Any]:
    """Return a JSON object with the kind of the value under `type`."""
    return {"type": _NAMES[type(value)], **_clean(asdict(value))}


def encode_inbound(event: Inbound) -> dict[str, Any]:
    """Return the body of an inbound event, and beside it the groups of its author."""
    groups = {_GROUPS: _clean(event.groups)} if event.groups else {}
    return {**encode(event.body), **groups}


def decode_groups(stored: Any) -> tuple[str, ...]:
    """Return the groups of an event's author; of what an earlier version of Muster stored, none."""
    found = stored.get(_GROUPS) if isinstance(stored, dict) else None
    return tuple(str(each) for each in found) if isinstance(found, list) else ()


def decode_inbound(stored: Any) -> InboundBody:
    """Return the body of an inbound event.

    Raises:
        CodecError: it is of an unknown kind or lacks something.
    """
    kind = _kind(stored, _INBOUND)
    values = dict(stored)
    if kind is Text:
        values["attachments"] = tuple(_make(Attachment, item) for item in stored.get("attachments", ()))
        values["reading"] = CommandReading(stored.get("reading", CommandReading.PLAIN))
    return _make(kind, values)


def decode_outbound(stored: Any) -> OutboundContent:
    """Return the content of an outbox row.

    Raises:
        CodecError: it is of an unknown kind or lacks something.
    """
    kind = _kind(stored, _OUTBOUND)
    if kind is Message:
        return _message(stored)
    values = dict(stored)
    if kind in (OpenThread, Replace):
        values["message"] = _message(stored.get("message"))
    return _make(kind, values)


def _message(stored: Any) -> Message:
    if not isinstance(stored, dict):
        raise CodecError(f"a stored message is {type(stored).__name__}, not an object.")
    buttons = tuple(_button(item) for item in stored.get("buttons", ()))
    emphasis = Emphasis(stored.get("emphasis", Emphasis.NOTICE))
    return _make(Message, {**stored, "emphasis": emphasis, "buttons": buttons})


def _button(stored: Any) -> Button:
    if not isinstance(stored, dict):
        raise CodecError(f"a stored button is {type(stored).__name__}, not an object.")
    known = {style.value for style in ButtonStyle}
    style = stored.get("style")
    return _make(Button, {**stored, "style": ButtonStyle(style) if style in known else ButtonStyle.PLAIN})


def _kind(stored: Any, known: dict[str, type[_T]]) -> type[_T]:
    name = stored.get("type") if isinstance(stored, dict) else None
    if name not in known:
        raise CodecError(f"a stored message is of the kind {name!r}, which this version of Muster does not know.")
    return known[name]


def _make(kind: type[_T], values: dict[str, Any]) -> _T:
    # What a newer version added is left out: a roll-back restores programs, never the register.
    wanted = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{name: value for name, value in values.items() if name in wanted})
    except TypeError as error:
        raise CodecError(f"a stored {kind.__name__} is incomplete: {error}.") from error


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {name: _clean(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value
