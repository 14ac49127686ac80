"""Named places at which a test can kill the process.

``MUSTER_CRASH=outbox.sent.after`` kills the process with SIGKILL at the first passage of that place,
``MUSTER_CRASH=outbox.sent.after:3`` at the third. Without the variable a passage costs one comparison.

A durable step (a commit, a write to disk, a send) is declared once, at import time, and has two places:
``inbox.accept`` has ``inbox.accept.before`` and ``inbox.accept.after``. So a test can list all places and require that
each of them was hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NewType

ENVIRONMENT_VARIABLE = "MUSTER_CRASH"

#: The name of a durable step, ``subject.verb``.
Step = NewType("Step", str)

_steps: set[Step] = set()
_passages: dict[str, int] = {}


_fatal: tuple[str, int] | None = None


def arm(request: str | None) -> None:
    """Set the place at which to crash (``outbox.sent.after:3``), or None; overrides the environment variable."""
    global _fatal
    name, _, count = (request or "").partition(":")
    _fatal = (name, int(count or 1)) if name else None


arm(os.environ.get(ENVIRONMENT_VARIABLE))


def declare(name: str) -> Step:
    """Declare a durable step and return its name for `around` or `database.engine.store.Store.write`."""
    step = Step(name)
    _steps.add(step)
    return step


def places() -> frozenset[str]:
    """Return every place of the steps that the imported modules declared."""
    return frozenset(f"{step}.{side}" for step in _steps for side in ("before", "after"))


@contextmanager
def around(step: Step) -> Iterator[None]:
    """Pass the place before the block and, unless the block raises, the place after it."""
    passing(f"{step}.before")
    yield
    passing(f"{step}.after")


def passing(place: str) -> None:
    """Kill the process with SIGKILL if this passage of the place is the armed one."""
    if _fatal is None or _fatal[0] != place:
        return
    _passages[place] = _passages.get(place, 0) + 1
    if _passages[place] == _fatal[1]:
        os.kill(os.getpid(), signal.SIGKILL)
