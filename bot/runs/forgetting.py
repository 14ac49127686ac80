"""Forgetting agents of runs that ended long ago, with their conversations and clones.

An agent that was resumed counts from its last end. Of the run itself the register keeps what it keeps of all runs.

The transaction that removes the agent comes first, and its folder is deleted then. After a crash in between, the next
sweep finds the folder by the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.removal.service import HOLD, AgentRemoval
from bot.runs import text as run_text
from bot.runs.services import RunServices
from core.errors import MusterError, RegisterError
from database.queries.agents import agent_messages, agents, auto_resume, runs
from database.queries.agents.agent_messages import UNDERWAY
from database.queries.agents.agents import AgentRow
from database.queries.chat import thread_owners, topics
from database.queries.operations.leases import Lease
from fleet.name_rules import is_agent_name

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RunForgetting:
    services: RunServices

    @property
    def _removal(self) -> AgentRemoval:
        return AgentRemoval(self.services)

    async def sweep(self) -> None:
        """Remove the agents of runs that nobody used since the time in muster.yaml.

        Raises:
            RegisterError: the register cannot be read or written.
        """
        services = self.services
        before = services.clock() - services.settings.retention.topics
        in_roster = {entry.name for entry in (await asyncio.to_thread(services.planner.read_roster)).agents}
        async for name in self._names(before):
            if name in in_roster:
                continue
            try:
                await self._forget(name, before)
            except RegisterError:
                raise
            except (MusterError, OSError) as error:
                log.info("run_agent.not_forgotten", agent=name, reason=str(error))

    async def _names(self, before: float) -> AsyncIterator[str]:
        """Yield the agents that may be forgotten, and those of which only the folder is left."""
        services = self.services
        async with services.store.read() as tx:
            rows = {row.name: row for row in await agents.every(tx)}
        for row in rows.values():
            if row.purpose is not None and services.agents.is_ours(row) and _last_used(row) < before:
                yield row.name
        for name in await asyncio.to_thread(self._left_over, rows.keys(), before):
            yield name

    def _left_over(self, known: Collection[str], before: float) -> list[str]:
        """Return folders that no agent has, and in which nothing changed since `before`. Blocking."""
        folders = self.services.paths.agents
        if not folders.is_dir():
            return []
        return sorted(
            each.name
            for each in folders.iterdir()
            if each.name not in known and is_agent_name(each.name) and each.lstat().st_mtime < before
        )

    async def _forget(self, name: str, before: float) -> None:
        async with self.services.store.read() as tx:
            run = await runs.last_of(tx, name)
            of_topic = await topics.of_agent(tx, name) is not None
            row = await agents.get(tx, name)
        if of_topic or (run is None and row is None):
            return
        if run is not None and (run.ended_at is None or run.ended_at >= before):
            return
        async with self._removal.held(name, name if run is None else run.id) as lease:
            if await self._let_go(name, before, lease):
                if not await self._removal.delete_folder(name):
                    log.warning("run_agent.folder_not_deleted", agent=name)
                    return
                log.info("run_agent.forgotten", agent=name)

    async def _let_go(self, name: str, before: float, lease: Lease) -> bool:
        """Remove an agent from the register, and return whether its folder may go."""
        async with self.services.store.read() as tx:
            row = await agents.get(tx, name)
        if row is None:
            return True
        if row.purpose is None or _last_used(row) >= before or not await self._removal.is_over(row, frozen=True):
            return False
        async with self.services.store.read() as tx:
            if await _is_used(tx, name):
                return False
        if (why := await self._removal.clear(row)) is not None:
            await self._keep(row, why)
            return False

        async def last(tx: AsyncConnection) -> bool:
            if await _is_used(tx, name):
                return False
            await thread_owners.give_up(tx, name)
            return True

        return await self._removal.remove(row, lease, last)

    async def _keep(self, row: AgentRow, why: str) -> None:
        """Record why an agent is not forgotten, for `ps`."""
        detail = run_text.kept(why)
        if row.detail != detail:
            log.warning("run_agent.kept", agent=row.name, reason=why)
            async with self.services.store.write(HOLD) as tx:
                await agents.change(tx, row.name, under=row.launch_id, detail=detail)


def _last_used(row: AgentRow) -> float:
    return row.stopped_at or row.started_at or 0.0


async def _is_used(tx: AsyncConnection, name: str) -> bool:
    """Return whether a run, a message or the end of a window brings an agent back."""
    if await runs.open_ones(tx, agent=name) or await auto_resume.waiting(tx, agent=name):
        return True
    return bool(await agent_messages.in_states(tx, (*UNDERWAY, "withdrawing"), agent=name, limit=1))
