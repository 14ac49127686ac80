"""An agent's journal that comes out of a backup: nothing that its queue held is begun by itself.

Since the backup was made the agent went on, and may have read what waited then. So one more incarnation is put behind
those of the backup, in which the queue is empty and each of its messages *uncertain*.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from fleet.host import state as states
from fleet.host.journal_fanout import load_state
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition, Opened

#: So far above the last incarnation of a backup the next one begins. Keys of messages in chat are made of it, and must
#: not be those that the agent used between the backup and its restore; an agent host begins one when it starts.
LEAP: Final = 100_000


def quiet(folder: Path, now: float) -> int | None:
    """Empty the queue of an agent that does not run; the incarnation that says so, None where there is no journal.

    Args:
        folder: the agent's.
        now: seconds since the epoch.
    """
    incarnations = reader.incarnations(folder)
    opened = reader.last_opened(folder)
    if not incarnations or opened is None:
        return None
    state = load_state(folder)
    fates = {**state.fates, **{message.id: states.UNCERTAIN for message in state.queue}}
    entry = JournalEntry(
        position=JournalPosition(incarnations[-1] + LEAP, 1),
        at=now,
        event=Opened(
            agent=opened.agent,
            launch_id=opened.launch_id,
            marker=opened.marker,
            pid=0,
            protocol=opened.protocol,
            carried=states.carried(replace(state, queue=(), fates=fates)),
            continues=True,
        ),
    )
    path = reader.path_of(folder, entry.position.incarnation)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(reader.encode(entry))
        file.flush()
        os.fsync(file.fileno())
    return entry.position.incarnation
