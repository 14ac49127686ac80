"""The end of an agent's conversation, and older pages of it, read from its journal."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from bot.agents.journal import timeline
from bot.read_models.agent import SaidItem, ThoughtItem, TurnItem, TurnModel
from core.redaction import SecretMasker
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition
from fleet.journal.reader import JournalCursor

#: Entries of a page, and bytes of them in the journal. An agent's words may be long.
PAGE: Final = 2_000
PAGE_BYTES: Final = 2**21
#: Bytes that are read at once while a journal is followed.
_STEP: Final = 2**20
_PLACE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,15})")


@dataclass(slots=True)
class Conversation:
    """The last entries of one journal, kept up to date by reading only what is new."""

    folder: Path
    _kept: deque[tuple[JournalEntry, int]] = field(default_factory=deque)
    """Each entry with its bytes."""
    _bytes: int = 0
    _cursor: JournalCursor | None = None
    _is_cut: bool = False
    """Whether the journal has entries before those that are kept."""

    def read(self) -> tuple[Sequence[JournalEntry], str | None]:
        """Return the last entries, oldest first, and the place of the page before them. Blocking.

        Raises:
            OSError: the journal cannot be read.
        """
        if self._cursor is None:
            self._keep(reader.last_lines(self.folder, PAGE + 1, most_bytes=PAGE_BYTES))
            last = self._kept[-1][0].position if self._kept else JournalPosition()
            self._is_cut = self._is_cut or _has_more(self._kept[0][0].position if self._kept else last)
            self._cursor = JournalCursor(self.folder, last)
        while lines := self._cursor.read(_STEP):
            self._keep(lines)
        entries = tuple(entry for entry, _ in self._kept)
        return entries, place_of(entries[0].position) if entries and self._is_cut else None

    def _keep(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            for entry in reader.decode([line]):
                self._kept.append((entry, len(line)))
                self._bytes += len(line)
        while len(self._kept) > PAGE or (self._bytes > PAGE_BYTES and len(self._kept) > 1):
            _, size = self._kept.popleft()
            self._bytes -= size
            self._is_cut = True


def _has_more(first: JournalPosition) -> bool:
    """Return whether a journal may have entries before one. Its first incarnation may have been removed."""
    return first.seq > 1 or first.incarnation > 1


def place_of(position: JournalPosition) -> str:
    """Return a position as text."""
    return f"{position.incarnation}:{position.seq}"


def position_of(place: str) -> JournalPosition | None:
    """Return the position that `place_of` wrote, or None if it is none."""
    found = _PLACE.fullmatch(place)
    return None if found is None else JournalPosition(int(found[1]), int(found[2]))


def read_before(folder: Path, position: JournalPosition) -> tuple[Sequence[JournalEntry], str | None]:
    """Return a page of entries before a position, oldest first, and the place of the page before it. Blocking.

    Raises:
        OSError: the journal cannot be read.
    """
    lines = reader.last_lines(folder, PAGE, before=position, most_bytes=PAGE_BYTES)
    entries = list(reader.decode(lines))
    return entries, place_of(entries[0].position) if entries and _has_more(entries[0].position) else None


async def turns(entries: Sequence[JournalEntry], redact: SecretMasker, *, is_growing: bool) -> tuple[TurnModel, ...]:
    """Fold entries into turns, off the event loop.

    Args:
        entries: consecutive entries, oldest first.
        redact: masks secrets.
        is_growing: whether more text may follow. The end of the last text is then held back as far as it could be the
            beginning of a secret.
    """
    return await asyncio.to_thread(_turns, entries, redact, is_growing)


def _turns(entries: Sequence[JournalEntry], redact: SecretMasker, is_growing: bool) -> tuple[TurnModel, ...]:
    folded = timeline.turns_of(entries)
    if not (is_growing and folded and folded[-1].ended_at is None and folded[-1].items):
        return folded
    last = folded[-1]
    return (*folded[:-1], replace(last, items=(*last.items[:-1], _held_back(last.items[-1], redact))))


def _held_back(item: TurnItem, redact: SecretMasker) -> TurnItem:
    if isinstance(item, SaidItem | ThoughtItem):
        return replace(item, text=item.text[: redact.shown_of_growing(item.text)])
    return item
