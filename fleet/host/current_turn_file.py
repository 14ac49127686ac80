"""A file in the agent's folder that says which turn it is in, for whoever meters what it asks of models.

It is outside of what a sandboxed agent sees. Nothing waits for it to be durable: after a crash of the machine there is
no turn.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from fleet.control.task_attempt_ids import task_of
from fleet.sandbox.egress_grant import TURN_FILE


def write(folder: Path, *, session: str, turn: str | None, message: str | None = None) -> None:
    """Say that this turn has begun, or that none is running. Where that cannot be written nothing is said at all, since
    an old word would be a wrong one.

    Args:
        folder: the agent's.
        session: the runtime's.
        turn: None between turns.
        message: the one that the turn is about; its id says whether it carries a task.
    """
    file = folder / TURN_FILE
    part = file.with_suffix(".part")
    try:
        task = None if message is None else task_of(message)
        part.write_text(json.dumps({"session": session, "turn": turn, "task": task}), encoding="utf-8")
        os.replace(part, file)
    except OSError:
        for left in (part, file):
            with contextlib.suppress(OSError):
                left.unlink()
