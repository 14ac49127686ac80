"""Which message carries which task: an attempt at a task is a message of its own, and its id says so. Pure.

The agent host reads the task off the id, so that what the turn uses is counted for it.
"""

from __future__ import annotations

import re

_MESSAGE = re.compile(r"task-([0-9a-f]{8})-([1-9][0-9]{0,5})")


def message_of(task: str, attempt: int) -> str:
    """Return the id of the message that carries an attempt, counted from 1."""
    return f"task-{task}-{attempt}"


def attempt_of(message: str) -> tuple[str, int] | None:
    """Return the task and the attempt that a message carries; None: it is no task's."""
    match = _MESSAGE.fullmatch(message)
    return None if match is None else (match[1], int(match[2]))


def task_of(message: str) -> str | None:
    """Return the task that a message carries; None: it is no task's."""
    found = attempt_of(message)
    return None if found is None else found[0]
