"""An agent's current session, turn and task, as its agent host last wrote them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

#: The file has a few hundred bytes; a larger one is not read.
_LONGEST: Final = 16_384
_LONGEST_WORD: Final = 200


@dataclass(frozen=True, slots=True)
class Attribution:
    """Session, turn and task; each is None if unknown."""

    session: str | None = None
    turn: str | None = None
    task: str | None = None


NOTHING: Final = Attribution()


class TurnFile:
    """Reads the file only after it has changed. An unreadable file yields no attribution."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._last = NOTHING

    def now(self) -> Attribution:
        """Return the current attribution."""
        if not self._path:
            return NOTHING
        try:
            found = os.stat(self._path)
        except (OSError, ValueError):
            self._seen = None
            return NOTHING
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen != self._seen:
            self._last = _read(self._path)
            self._seen = seen
        return self._last


def _read(path: str) -> Attribution:
    try:
        # Non-blocking: the path may not be a regular file.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            text = os.read(number, _LONGEST + 1)
        finally:
            os.close(number)
        found = json.loads(text) if len(text) <= _LONGEST else None
    except (OSError, ValueError, RecursionError):
        return NOTHING
    if not isinstance(found, dict):
        return NOTHING
    return Attribution(_word(found.get("session")), _word(found.get("turn")), _word(found.get("task")))


def _word(value: object) -> str | None:
    return value[:_LONGEST_WORD] if isinstance(value, str) and value else None
