"""The line that a person had begun when the terminal went away: it is at the prompt of whatever comes next."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from core import durable_files


@dataclass(frozen=True, slots=True)
class Begun:
    """A line without its end."""

    conversation: str
    """Where it was to be said."""
    text: str


class Draft:
    """A file with one of them, or none. Best effort: no one promised anything of a line that was not ended."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, begun: Begun) -> None:
        """Remember it, unless there is nothing in it."""
        if begun.text.strip():
            with contextlib.suppress(OSError):
                durable_files.write(self._path, json.dumps({"conversation": begun.conversation, "text": begun.text}))

    def take(self) -> Begun | None:
        """Return what was remembered, once."""
        try:
            words = json.loads(self._path.read_text(encoding="utf-8"))
            begun = Begun(str(words["conversation"]), str(words["text"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        return begun
