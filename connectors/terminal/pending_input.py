"""What a person typed and Muster has not taken yet, on disk: a file for each, until it is taken.

Each has an id of its own, under which it is said as often as it takes and counts once. So it does not matter who says
it: the program in which it was typed, the one that comes after it was killed, or two at a time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core import crash_points, durable_files

KEEP = crash_points.declare("unsaid.keep")
DROP = crash_points.declare("unsaid.drop")


@dataclass(frozen=True, kw_only=True, slots=True)
class Typed:
    """One message."""

    id: str
    conversation: str
    text: str


class Unsaid:
    """A folder of messages; made 0700."""

    def __init__(self, folder: Path, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._folder = folder
        self._clock = clock
        self._last = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(self, typed: Typed) -> None:
        """Have it on disk when this returns.

        Raises:
            OSError: it could not be written.
        """
        # Their names are their order, also where the clock is set back.
        self._last = max(self._clock(), self._last + 1)
        words = {"id": typed.id, "conversation": typed.conversation, "text": typed.text}
        with crash_points.around(KEEP):
            # Halves of surrogate pairs, which a terminal can send, stay what they are.
            durable_files.write(self._folder / f"{self._last:020}-{typed.id}.json", json.dumps(words))

    def drop(self, event_id: str) -> None:
        """Muster has it, or will never take it. Best effort: what is left is said again, and counts once."""
        with crash_points.around(DROP):
            for path in self._paths():
                if path.name[21:] == f"{event_id}.json":
                    path.unlink(missing_ok=True)

    def all(self) -> list[Typed]:
        """Everything, in the order in which it was typed."""
        found = []
        for path in self._paths():
            try:
                words = json.loads(path.read_text(encoding="utf-8"))
                typed = Typed(id=words["id"], conversation=words["conversation"], text=words["text"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if all(isinstance(value, str) for value in (typed.id, typed.conversation, typed.text)):
                found.append(typed)
        return found

    def _paths(self) -> list[Path]:
        try:
            with os.scandir(self._folder) as entries:
                names = sorted(entry.name for entry in entries if entry.name.endswith(".json"))
        except OSError:
            return []
        return [self._folder / name for name in names]
