"""What an agent's journal tells of its work in one round: turns, session, and how the runtime ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.journal import events, reader
from fleet.journal.events import JournalEntry, JournalPosition
from fleet.journal.reader import JournalCursor

#: Bytes of a journal that are read at once.
_STEP: Final = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnFacts:
    """Facts from a journal; None is unknown."""

    turns: int | None = None
    """Turns that began from the prompt on."""
    session: str | None = None
    runtime_version: str | None = None
    exit: str | None = None
    """How the last turn ended in the runtime's words, such as ``end_turn``, or that the runtime died."""

    @property
    def is_cut(self) -> bool:
        """Whether the turn began, and ended with its runtime or its agent host."""
        return self.turns is not None and self.exit in (None, "cut", "runtime died")


def facts_of(entries: Iterable[JournalEntry], message: str, until: float | None) -> TurnFacts:
    """Return what a journal tells of the work that a message began. Pure.

    Args:
        entries: the journal, oldest first.
        message: the id of the prompt.
        until: when the work was over; None: it is not.
    """
    turns, session, version, exit_ = 0, None, None, None
    for entry in entries:
        if until is not None and entry.at > until:
            break
        match entry.event:
            case events.RuntimeStarted(version=said):
                version = said
            case events.TurnStarted(message=about, session=its) if turns or about == message:
                turns, session, exit_ = turns + 1, its, None
            case events.TurnEnded(stop_reason=reason) if turns:
                exit_ = exit_ or reason
            case events.RuntimeDied() if turns:
                exit_ = "runtime died"
    return TurnFacts(turns=turns, session=session, runtime_version=version, exit=exit_) if turns else TurnFacts()


def read_facts(folder: Path, message: str, until: float | None) -> TurnFacts:
    """Read the same from the journal in an agent's private folder. Blocking."""
    try:
        return facts_of(_entries(folder), message, until)
    except OSError:
        return TurnFacts()


def _entries(folder: Path) -> Iterable[JournalEntry]:
    cursor = JournalCursor(folder, JournalPosition())
    while lines := cursor.read(_STEP):
        yield from reader.decode(lines)
