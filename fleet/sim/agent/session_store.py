"""A conversation as the built-in agent keeps it, and the file in which it survives the agent."""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ID = re.compile(r"[0-9a-f]{32}")
INTERRUPTED = "The tool was interrupted before it gave a result."


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call that the model asked for."""

    id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolOutput:
    call: str
    text: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class UserMessage:
    text: tuple[str, ...]
    images: tuple[tuple[str, str], ...] = ()
    """Media type and base64."""


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    text: str
    calls: tuple[ToolUse, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolMessage:
    outputs: tuple[ToolOutput, ...]


Message = UserMessage | AssistantMessage | ToolMessage


@dataclass(slots=True)
class StoredSession:
    id: str
    cwd: str
    messages: list[Message] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)
    """Tool calls that were allowed for always, as `tools.key` names them."""

    def settle(self) -> None:
        """Answer tool calls that were left open when the agent died: no API takes a conversation with open ones."""
        last = self.messages[-1] if self.messages else None
        if isinstance(last, AssistantMessage) and last.calls:
            self.messages.append(ToolMessage(tuple(ToolOutput(call.id, INTERRUPTED, True) for call in last.calls)))


class Sessions:
    """The folder of sessions, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, cwd: str) -> StoredSession:
        session = StoredSession(id=uuid.uuid4().hex, cwd=cwd)
        self.save(session)
        return session

    def load(self, session_id: str) -> StoredSession | None:
        """Return the session as it was last saved; None where there is none, or its file cannot be read."""
        if not _ID.fullmatch(session_id):
            return None
        try:
            source = json.loads((self._folder / f"{session_id}.json").read_text(encoding="utf-8"))
            session = StoredSession(
                source["id"], source["cwd"], [_read(m) for m in source["messages"]], set(source["allowed"])
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        session.settle()
        return session

    def save(self, session: StoredSession) -> None:
        """Write the file, whole or not at all."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = {
            "id": session.id,
            "cwd": session.cwd,
            "allowed": sorted(session.allowed),
            "messages": [_write(message) for message in session.messages],
        }
        path = self._folder / f"{session.id}.json"
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(source), encoding="utf-8")
        part.replace(path)


def _write(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage(text, images):
            return {"role": "user", "text": text, "images": images}
        case AssistantMessage(text, calls):
            return {"role": "assistant", "text": text, "calls": [[c.id, c.name, c.input] for c in calls]}
        case ToolMessage(outputs):
            return {"role": "tool", "outputs": [[o.call, o.text, o.failed] for o in outputs]}


def _read(source: dict[str, Any]) -> Message:
    match source["role"]:
        case "user":
            return UserMessage(tuple(source["text"]), tuple((kind, data) for kind, data in source["images"]))
        case "assistant":
            return AssistantMessage(source["text"], tuple(ToolUse(*call) for call in source["calls"]))
    return ToolMessage(tuple(ToolOutput(*output) for output in source["outputs"]))
