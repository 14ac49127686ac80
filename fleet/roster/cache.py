"""The roster as it is in its file, read again only when the file changed."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fleet.errors import RosterError
from fleet.roster import loader
from fleet.roster.loader import Roster
from fleet.roster.schema import AgentEntry
from fleet.supervision import liveness


@dataclass(slots=True)
class LatestRoster:
    """What `refresh` read last."""

    path: Path
    heartbeat_s: float = 10.0
    """What holds for agents whose entry does not say otherwise; as `fleet.supervision.liveness.fresh_for` takes it."""
    freshness_s: float | None = None
    problem: str | None = "The roster was not read yet."
    """Why the file cannot be read as it is now; None: it was read."""
    _roster: Roster = field(default_factory=Roster)
    _was_read: bool = False
    _stamp: tuple[int, int, int] | Literal["never"] | None = "never"
    _fresh: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str] | None:
        """Who is in the roster; None while it cannot be read."""
        return None if self.problem is not None else frozenset(entry.name for entry in self._roster.agents)

    @property
    def workers(self) -> frozenset[str]:
        """Those of them of whom it says that they are not persistent."""
        return frozenset(entry.name for entry in self._roster.agents if entry.persistent is False)

    @property
    def aliases(self) -> dict[str, str]:
        """What chat shows beside the names, by name."""
        return {entry.name: entry.alias for entry in self._roster.agents if entry.alias is not None}

    @property
    def budgets(self) -> dict[str, int] | None:
        """Tokens that agents may use, by their names, by the last roster that could be read; None: none could yet."""
        if self.problem is not None and not self._was_read:
            return None
        return {entry.name: entry.budget for entry in self._roster.agents if entry.budget is not None}

    @property
    def entries(self) -> tuple[AgentEntry, ...]:
        """What it says of each agent, by the last roster that could be read."""
        return self._roster.agents

    def entry(self, name: str) -> AgentEntry | None:
        """Return what it says of an agent."""
        return self._roster.get(name)

    def fresh_for(self, name: str) -> float:
        """Return seconds for which what was seen of an agent counts, by the last roster that could be read."""
        return self._fresh.get(name, liveness.fresh_for(self.heartbeat_s, self.freshness_s))

    async def refresh(self) -> None:
        """Read the file if it changed."""
        stamp = _stamp_of(self.path)
        if stamp == self._stamp:
            return
        try:
            self._roster = await asyncio.to_thread(loader.load, self.path)
        except (RosterError, OSError) as error:
            self.problem = str(error)
        else:
            self.problem = None
            self._was_read = True
            self._fresh = {
                entry.name: liveness.fresh_for(entry.heartbeat or self.heartbeat_s, entry.freshness or self.freshness_s)
                for entry in self._roster.agents
                if entry.heartbeat is not None or entry.freshness is not None
            }
        self._stamp = stamp


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
