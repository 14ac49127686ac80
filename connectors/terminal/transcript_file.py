"""What was said in the terminal, on disk: the memory that a chat server would have.

One JSON object per line, each with a sequence number; the first line names the transcript. A send is recognised by its
outbox key for as long as the transcript remembers it, and a client that attaches later is shown what it missed. Old
lines are dropped when the file has grown, and of an edited message only its last text stays.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from core import crash_points, durable_files

WRITE = crash_points.declare("transcript.write")
COMPACT = crash_points.declare("transcript.compact")

#: Lines that survive when the file is made smaller.
KEPT_LINES = 2_000
#: Keys of sends that are remembered then, whether or not their lines are kept.
KEPT_KEYS = 20_000
#: Bytes that the file may have before it is made smaller.
LARGEST_FILE = 8 * 1024 * 1024

Kind = Literal["message", "thread", "edit", "reaction", "file", "input", "typing", "fleet"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptLine:
    """One thing that shows in a terminal."""

    seq: int = 0
    """Its place in the transcript; 0 for what is not kept."""
    kind: Kind
    id: str
    """The event id: the outbox key of what we say, an id of its own for what a person says."""
    conversation: str
    at: float
    author: str = ""
    """Who typed it, or the agent whose words these are; empty for Muster."""
    text: str = ""
    target: str | None = None
    """The id of the message that an edit or a reaction is about."""
    opens: str | None = None
    """For a thread: its conversation."""
    final: bool = True
    """False while the text is still being written."""
    aside: bool = False
    """Whether Muster says it aside, in contrast to an agent's own words."""
    active: bool = False
    """For typing: whether somebody is at work."""
    waiting: int | None = None
    """For the fleet: how many requests and questions wait for a person; None: unknown."""
    attention: str = ""
    """For the fleet: how a person is told (`connectors.terminal.settings.Attention`)."""

    def to_json(self) -> dict[str, Any]:
        """As an object for a file or a socket."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> TranscriptLine:
        """Return what `to_json` made, perhaps by another version.

        Raises:
            ValueError: it is no such object.
        """
        types: dict[str, Any] = {
            "seq": int,
            "at": (int, float),
            "final": bool,
            "aside": bool,
            "active": bool,
            "waiting": int,
        }
        names = {field.name for field in fields(cls)}
        known = {key: value for key, value in source.items() if key in names}
        for key, value in known.items():
            if not isinstance(value, types.get(key, str)):
                raise ValueError(f"not a line of a transcript: {key} is {value!r:.40}")
        if not {"kind", "id", "conversation", "at"} <= known.keys() or known["kind"] not in get_args(Kind):
            raise ValueError("not a line of a transcript")
        return cls(**known)


class RoomTranscript:
    """The file, and what of it is held in memory. Not safe for use by two threads at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "transcript.jsonl"
        self._marker = folder / "shown"
        self.name = uuid.uuid4().hex
        """Another transcript has another name, and remembers none of this one's keys."""
        self.lines: list[TranscriptLine] = []
        self.keys: dict[str, str | None] = {}
        """What was sent, with the conversation that it opened."""
        self._seq = 0
        self._size = 0
        fresh = not self._path.exists()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if fresh:
            self._put([{"transcript": self.name}], durable=True)
        else:
            self._read()

    def close(self) -> None:
        """Release the file. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @property
    def last(self) -> int:
        """The sequence number of the newest line."""
        return self._seq

    @property
    def shown(self) -> int:
        """Up to which line someone has seen it."""
        try:
            return int(self._marker.read_text(encoding="ascii") or 0)
        except (OSError, ValueError):
            return 0

    def mark_shown(self, seq: int) -> None:
        """Someone has seen it up to here. Best effort: what is forgotten is shown once more."""
        try:
            handle = os.open(self._marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(handle, "w", encoding="ascii") as file:
                file.write(str(seq))
        except OSError:
            pass

    def add(self, line: TranscriptLine) -> TranscriptLine:
        """Write a line, durable when this returns unless its text is still being written.

        Raises:
            OSError: it could not be written; it does not be there then.
        """
        line = replace(line, seq=self._seq + 1)
        self._put([line.to_json()], durable=line.final)
        self._seq = line.seq
        self._keep(line)
        if self._size > LARGEST_FILE:
            self._compact()
        return line

    def after(self, seq: int) -> list[TranscriptLine]:
        """Return the lines behind `seq`, without texts that were replaced since."""
        return _folded([line for line in self.lines if line.seq > seq])

    def find(self, event_id: str) -> TranscriptLine | None:
        """Return the newest line that shows the message `event_id`."""
        for line in reversed(self.lines):
            if line.id == event_id or (line.kind == "edit" and line.target == event_id):
                return line
        return None

    def _keep(self, line: TranscriptLine) -> None:
        if line.kind == "edit":
            # Of a text that is being written only the newest state is held in memory.
            for index in range(len(self.lines) - 1, max(len(self.lines) - 200, -1), -1):
                if self.lines[index].kind == "edit" and self.lines[index].target == line.target:
                    del self.lines[index]
                    break
        self.lines.append(line)
        if line.kind != "input":
            self.keys[line.id] = line.opens

    def _put(self, objects: Iterable[Mapping[str, Any]], *, durable: bool) -> None:
        content = b"".join(json.dumps(each, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for each in objects)
        with crash_points.around(WRITE):
            durable_files.append(self._file, content, size=self._size, sync=durable)
        self._size += len(content)

    def _read(self) -> None:
        with open(self._path, "rb") as file:
            content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            # The tail of a write that a crash cut off.
            os.ftruncate(self._file, whole)
        self._size = whole
        for raw in content[:whole].splitlines():
            try:
                source = json.loads(raw)
                if "transcript" in source:
                    self.name = str(source["transcript"])
                    self.keys |= {str(key): opens for key, opens in source.get("keys", {}).items()}
                    self._seq = max(self._seq, int(source.get("seq", 0)))
                    continue
                line = TranscriptLine.from_json(source)
            except (ValueError, TypeError, AttributeError):
                continue
            self._seq = max(self._seq, line.seq)
            self._keep(line)

    def _compact(self) -> None:
        kept: list[TranscriptLine] = []
        room = LARGEST_FILE // 2
        for line in reversed(_folded(self.lines)[-KEPT_LINES:]):
            room -= len(line.text) * 4 + 300
            if room < 0:
                break
            kept.insert(0, line)
        keys = dict(list(self.keys.items())[-KEPT_KEYS:])
        # Threads stay open however old they are.
        keys |= {key: opens for key, opens in self.keys.items() if opens is not None}
        head = {"transcript": self.name, "seq": self._seq, "keys": keys}
        content = "".join(
            json.dumps(each, ensure_ascii=False) + "\n" for each in (head, *(line.to_json() for line in kept))
        ).encode("utf-8", "replace")
        part = self._path.with_suffix(".part")
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            durable_files.append(handle, content, size=0, sync=True)
            with crash_points.around(COMPACT):
                os.replace(part, self._path)
        except OSError:
            os.close(handle)
            return  # it stays as large as it is until there is room
        os.close(self._file)
        self._file, self._size, self.lines, self.keys = handle, len(content), kept, keys


def _folded(lines: list[TranscriptLine]) -> list[TranscriptLine]:
    """Without what was replaced: of all edits of a message the last, and in its place if the message is there too."""
    newest = {line.target: line for line in lines if line.kind == "edit"}
    there = {line.id for line in lines if line.kind in ("message", "thread")}
    folded: list[TranscriptLine] = []
    for line in lines:
        edit = newest.get(line.id)
        if line.kind == "edit":
            if line.target not in there and newest[line.target] is line:
                folded.append(line)
        elif edit is not None and line.kind in ("message", "thread"):
            folded.append(
                replace(line, text=edit.text, final=edit.final, seq=edit.seq, author=edit.author or line.author)
            )
        else:
            folded.append(line)
    return folded
