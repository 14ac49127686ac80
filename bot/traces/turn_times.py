"""When turns began and ended, read from the end of an agent's journal."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from bot.traces.spans import TurnTimes
from fleet.journal import reader
from fleet.journal.events import JournalPosition, MessageQueued, TurnEnded, TurnStarted

#: Lines and bytes that are read at once, and how often at most.
LINES, BYTES, PAGES = 2000, 2**22, 250

_NEEDED = tuple(f'"kind":"{event.KIND}"'.encode() for event in (MessageQueued, TurnStarted, TurnEnded))


def read(folder: Path, messages: Collection[str], *, since: float) -> dict[str, TurnTimes]:
    """Return the times of the turns of these messages, by message; those that the journal does not have are missing.

    Args:
        folder: the agent's folder.
        messages: ids of messages.
        since: the time at which the oldest of them was written, in seconds since the epoch.
    """
    found: dict[str, TurnTimes] = {}
    missing, before = set(messages), None
    for _ in range(PAGES):
        try:
            lines = reader.last_lines(folder, LINES, before=before, most_bytes=BYTES)
        except OSError:
            break
        first = next(reader.decode(lines[:1]), None)
        if first is None or first.position == before:
            break
        needed = [line for line in lines if any(kind in line for kind in _NEEDED)]
        for entry in reversed(list(reader.decode(needed))):
            event = entry.event
            if isinstance(event, MessageQueued) and event.id in missing:
                found[event.id] = replace(found.get(event.id, TurnTimes()), queued_at=entry.at)
                missing.discard(event.id)
            elif isinstance(event, TurnStarted) and event.message in missing:
                known = found.get(event.message, TurnTimes())
                found[event.message] = replace(known, started_at=entry.at, session=event.session)
            elif isinstance(event, TurnEnded) and event.message in missing and event.message not in found:
                found[event.message] = TurnTimes(ended_at=entry.at, stop_reason=event.stop_reason)
        before = JournalPosition(first.position.incarnation, first.position.seq)
        if not missing or first.at < since:
            break
    return found
