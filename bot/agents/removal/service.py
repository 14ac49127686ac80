"""Removes agents for which a subject above has no more use: of topics, and of runs.

An agent that runs, that a task is for, or in whose clone another agent works stays, and so does a clone with anything
that is nowhere else. While it is looked at and removed, no command about it can begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.commands.agent_lock import lease_of
from core.crash_points import declare
from database.queries import tasks
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.operations import leases
from database.queries.operations.leases import Lease
from fleet.errors import FleetError
from fleet.roster.drift import ENDED
from fleet.supervision import host_lifecycle
from fleet.workspace import untrusted_files

HOLD = declare("removal.hold")
REMOVE = declare("removal.remove")

#: Seconds for which no command may start the agent while its clone is looked at and deleted.
_HELD_S: Final = 600.0


def _deleted(folder: Path) -> bool:
    return not folder.exists() or (not host_lifecycle.is_running(folder) and untrusted_files.delete(folder))


@dataclass(frozen=True, slots=True)
class AgentRemoval:
    services: AgentServices

    @asynccontextmanager
    async def held(self, agent: str, cause: str) -> AsyncIterator[Lease]:
        """Keep commands about an agent from beginning.

        Args:
            agent: its name.
            cause: the id of the topic or run that ended.

        Raises:
            LeaseHeld: a command about the agent runs.
        """
        services = self.services
        async with services.store.write(HOLD) as tx:
            owner = f"retention by Muster, run {cause}"
            lease = await leases.acquire(tx, lease_of(agent), owner, now=services.clock(), duration=_HELD_S)
        try:
            yield lease
        finally:
            async with services.store.write(HOLD) as tx:
                await leases.release(tx, lease, now=services.clock())

    async def is_over(self, row: AgentRow, *, frozen: bool) -> bool:
        """Return whether an agent is stopped, as wanted, and its host is gone.

        Args:
            row: the agent.
            frozen: whether a frozen one counts as well.
        """
        wanted, states = {"stopped"}, set(ENDED)
        if frozen:
            wanted, states = wanted | {"frozen"}, states | {"frozen"}
        if row.wanted not in wanted or row.state not in states:
            return False
        return not await asyncio.to_thread(host_lifecycle.is_running, self.services.paths.agent_folder(row.name))

    async def clear(self, row: AgentRow) -> str | None:
        """Delete the clone of an agent, unless somebody needs it. Return why the agent stays, or None."""
        async with self.services.store.read() as tx:
            waiting = await tasks.named(tx, row.name)
            guests = [each.name for each in await agents.every(tx) if self._works_in(each, row.name)]
        if waiting:
            return f"task {waiting[0].id} is for it"
        if guests:
            return f"{guests[0]} works in its clone"
        try:
            return await asyncio.to_thread(self.services.planner.workspaces.release, row.name)
        except FleetError as error:
            return str(error)

    async def remove(self, row: AgentRow, lease: Lease, last: Callable[[AsyncConnection], Awaitable[bool]]) -> bool:
        """Remove an agent from the register, if nothing about it changed and `last` agrees in the same transaction.

        Raises:
            LeaseLost: a command took the agent meanwhile.
        """

        async def act(tx: AsyncConnection) -> bool:
            await leases.check(tx, lease)
            current = await agents.get(tx, row.name)
            same = current is not None and (current.launch_id, current.wanted) == (row.launch_id, row.wanted)
            if not same or not await last(tx):
                return False
            await agents.forget(tx, row.name)
            return True

        return await self.services.store.transact(REMOVE, act)

    async def delete_folder(self, name: str) -> bool:
        """Delete the private folder of an agent that the register no longer has. Return whether it is gone."""
        gone = await self.services.agents.dismiss(name)
        return gone and await asyncio.to_thread(_deleted, self.services.paths.agent_folder(name))

    def _works_in(self, row: AgentRow, host: str) -> bool:
        """Return whether another agent has its workspace in that of `host`."""
        ground: Path = self.services.planner.workspaces.own(host).resolve()
        return row.name != host and Path(row.workspace).resolve().is_relative_to(ground)
