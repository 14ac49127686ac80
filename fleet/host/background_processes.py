"""Processes of an agent that go on while no turn needs them: what its commands left running in the background."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final

from fleet.supervision import process_sweep

#: Of the sandbox, not of the agent (fleet.sandbox.egress_relay).
_OURS: Final = frozenset({"muster-relay"})
#: Names that are told.
_NAMED: Final = 5


class BackgroundWatch:
    """Of one runtime. What runs when it is ready is the runtime itself: it, its sandbox and its helpers."""

    def __init__(self, marker: str) -> None:
        self._marker = marker
        self._known: frozenset[int] | None = None
        """None until the runtime is ready: before that it has no commands."""

    def settle(self) -> None:
        """Take what runs now for the runtime's own. Blocking."""
        self._known = frozenset(self._running())

    def look(self, but: Collection[str] = ()) -> dict[str, object]:
        """Return how many others run now, and what some of them are called. Blocking.

        Args:
            but: names of processes that are not counted.
        """
        known = self._known
        found = (
            {}
            if known is None
            else {pid: name for pid, name in self._running().items() if pid not in known and name not in but}
        )
        return {"count": len(found), "names": sorted(set(found.values()))[:_NAMED]}

    def _running(self) -> dict[int, str]:
        """By number, with their names: those below this process, and those that left it and carry the marker."""
        below = {
            process.pid: process.name for process in process_sweep.descendants(os.getpid()) if process.state not in "ZX"
        }
        for pid in process_sweep.survivors(self._marker):
            below.setdefault(pid, process_sweep.name_of(pid))
        return {pid: name for pid, name in below.items() if name not in _OURS}
