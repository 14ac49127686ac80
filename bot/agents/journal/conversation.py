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

#: Entries of a page.
PAGE: Final = 2_000
#: Entries that are read at once while a journal is followed.
_STEP: Final = 1_000
_PLACE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,15})")


@dataclass(slots=True)
class Conversation:
    """The last entries of one journal, kept up to date by reading only what is new."""

    folder: Path
    _entries: deque[JournalEntry] = field(default_factory=lambda: deque(maxlen=PAGE))
    _at: JournalPosition | None = None
    _is_cut: bool = False
    """Whether the journal has entries before `_entries`."""

    def read(self) -> tuple[Sequence[JournalEntry], str | None]:
        """Return the last entries, oldest first, and the place of the page before them. Blocking.

        Raises:
            OSError: the journal cannot be read.
        """
        if self._at is None:
            last = reader.read_last(self.folder, PAGE + 1)
            self._is_cut = len(last) > PAGE
            self._keep(last)
        else:
            while new := reader.read(self.folder, self._at, _STEP):
                self._is_cut = self._is_cut or len(self._entries) + len(new) > PAGE
                self._keep(new)
        entries = tuple(self._entries)
        return entries, place_of(entries[0].position) if entries and self._is_cut else None

    def _keep(self, entries: Sequence[JournalEntry]) -> None:
        self._entries.extend(entries)
        if entries:
            self._at = entries[-1].position


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
    entries = reader.read_last(folder, PAGE + 1, before=position)
    is_cut = len(entries) > PAGE
    entries = entries[-PAGE:]
    return entries, place_of(entries[0].position) if is_cut else None


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
    folded = timeline.fold(entries).turns()
    if not (is_growing and folded and folded[-1].ended_at is None and folded[-1].items):
        return folded
    last = folded[-1]
    return (*folded[:-1], replace(last, items=(*last.items[:-1], _held_back(last.items[-1], redact))))


def _held_back(item: TurnItem, redact: SecretMasker) -> TurnItem:
    if isinstance(item, SaidItem | ThoughtItem):
        return replace(item, text=item.text[: redact.shown_of_growing(item.text)])
    return item
