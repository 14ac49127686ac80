"""What an agent's journal says of the last life of its agent host, once that is over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.journal import reader
from fleet.journal.events import JournalPosition, Opened, RuntimeDied, RuntimeFailed, RuntimeStarted

#: Entries at the beginning and at the end of a life in which its runtime's start and its end are found.
_NEAR: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class LastRun:
    """The last life of an agent's host."""

    launch_id: str
    incarnation: int
    boot: str
    """The machine's start that it fell into (core.boot_id); empty: not known."""
    ready_at: float | None
    """When its runtime became ready, in seconds since the epoch; None: it did not."""
    failure: RuntimeFailed | None
    """Why it did not, where it could be said."""
    end: RuntimeFailed | RuntimeDied | None
    """What its agent host said last of its runtime's end; None: it said nothing."""


def last_run(folder: Path) -> LastRun | None:
    """Return the last life that the journal in an agent's folder tells of."""
    for incarnation in reversed(reader.incarnations(folder)):
        entries = reader.read(folder, JournalPosition(incarnation, 0), _NEAR)
        first = entries[0].event if entries else None
        if not isinstance(first, Opened) or first.continues:
            continue
        ready = next((entry.at for entry in entries if isinstance(entry.event, RuntimeStarted)), None)
        last = [entry.event for entry in reader.read_last(folder, _NEAR)]
        end = next((event for event in reversed(last) if isinstance(event, RuntimeFailed | RuntimeDied | Opened)), None)
        failure = end if ready is None else None
        return LastRun(
            launch_id=first.launch_id,
            incarnation=incarnation,
            boot=first.boot,
            ready_at=ready,
            failure=failure if isinstance(failure, RuntimeFailed) else None,
            end=None if isinstance(end, Opened) else end,
        )
    return None
