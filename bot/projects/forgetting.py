"""Forgetting topics that ended long ago, with their agents, journals and clones.

A clone with anything that is nowhere else stays, and so do its topic and its agent. A topic whose agent runs again is
left alone. What is left in the register of a forgotten topic is its number, so that its name is never given again, and
its thread, so that words there get an answer.

The first transaction removes the agent. Then its folder is deleted, and the second transaction records that. After a
crash in between, the next sweep goes on there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.agent_lock import lease_of
from bot.projects import text as topic_text
from bot.projects.services import ProjectServices
from core.crash_points import declare
from core.errors import RegisterError
from database.queries import tasks
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import topics
from database.queries.chat.topics import Topic
from database.queries.operations import leases
from database.queries.operations.leases import Lease, LeaseHeld, LeaseLost
from fleet.errors import FleetError
from fleet.roster.drift import ENDED
from fleet.supervision import host_lifecycle
from fleet.workspace import untrusted_files

log = structlog.get_logger(__name__)

HOLD = declare("topics.hold")
FORGET = declare("topics.forget")
FORGOTTEN = declare("topics.forgotten")

#: Seconds for which no command may start the agent while its clone is looked at and deleted.
_HELD_S: Final = 600.0


def _deleted(folder: Path) -> bool:
    return not folder.exists() or (not host_lifecycle.is_running(folder) and untrusted_files.delete(folder))


@dataclass(frozen=True, slots=True)
class Forgetting:
    services: ProjectServices

    async def sweep(self) -> None:
        """Forget the topics that ended before the time in muster.yaml.

        Raises:
            RegisterError: the register cannot be read or written.
        """
        services = self.services
        before = services.clock() - services.settings.retention.topics
        async with services.store.read() as tx:
            begun = await topics.in_states(tx, ["forgetting"])
            old = await topics.ended_before(tx, before)
        for topic in begun:
            await self._finish(topic)
        for topic in old:
            try:
                if await self._begin(topic, before):
                    await self._finish(topic)
            except (LeaseHeld, LeaseLost) as error:
                log.info("topic.not_forgotten", agent=topic.agent, reason=str(error))
            except RegisterError:
                raise
            except OSError as error:
                log.warning("topic.not_forgotten", agent=topic.agent, reason=str(error))

    async def _begin(self, topic: Topic, before: float) -> bool:
        """Delete a topic's clone and its agent. Return False if they stay.

        Raises:
            LeaseHeld: a command about the agent runs.
            LeaseLost: a command took the agent meanwhile.
        """
        services = self.services
        async with services.store.read() as tx:
            row = await agents.get(tx, topic.agent)
        if row is None:
            async with services.store.write(FORGET) as tx:
                return await agents.get(tx, topic.agent) is None and await topics.forget(tx, topic.id)
        if not services.agents.is_ours(row):
            return False
        async with services.store.write(HOLD) as tx:
            owner = f"retention by Muster, run {topic.id}"
            now = services.clock()
            lease = await leases.acquire(tx, lease_of(topic.agent), owner, now=now, duration=_HELD_S)
        try:
            return await self._let_go(topic, before, lease)
        finally:
            async with services.store.write(HOLD) as tx:
                await leases.release(tx, lease, now=services.clock())

    async def _let_go(self, topic: Topic, before: float, lease: Lease) -> bool:
        services = self.services
        async with services.store.read() as tx:
            row = await agents.get(tx, topic.agent)
            waiting = await tasks.named(tx, topic.agent)
            guests = [each.name for each in await agents.every(tx) if self._works_in(each, topic.agent)]
        if row is None or await self._runs(row):
            if topic_text.is_kept(topic):
                await self._keep(topic, None)
            return False
        if (row.stopped_at or 0.0) >= before and not topic_text.is_kept(topic):
            return False  # it ran again after its topic had ended
        if waiting or guests:
            why: str | None = f"task {waiting[0].id} is for it" if waiting else f"{guests[0]} works in its clone"
        else:
            why = await self._kept(row)
        if why is not None:
            await self._keep(topic, why)
            return False

        async def act(tx: AsyncConnection) -> bool:
            await leases.check(tx, lease)
            current = await agents.get(tx, row.name)
            same = current is not None and (current.launch_id, current.wanted) == (row.launch_id, row.wanted)
            if not same or not await topics.forget(tx, topic.id):
                return False
            await agents.forget(tx, row.name)
            return True

        return await services.store.transact(FORGET, act)

    def _works_in(self, row: AgentRow, host: str) -> bool:
        """Return whether another agent has its workspace in that of `host`."""
        ground: Path = self.services.planner.workspaces.own(host).resolve()
        return row.name != host and Path(row.workspace).resolve().is_relative_to(ground)

    async def _runs(self, row: AgentRow) -> bool:
        if row.wanted != "stopped" or row.state not in ENDED:
            return True
        return await asyncio.to_thread(host_lifecycle.is_running, self.services.paths.agent_folder(row.name))

    async def _kept(self, row: AgentRow) -> str | None:
        """Delete the agent's clone. Return why it stays, or None if nothing of it is left."""
        try:
            return await asyncio.to_thread(self.services.planner.workspaces.release, row.name)
        except FleetError as error:
            return str(error)

    async def _keep(self, topic: Topic, why: str | None) -> None:
        """Record why a topic is not forgotten, for `topics`; None: its agent runs again."""
        detail = None if why is None else topic_text.kept(why)
        if topic.detail == detail:
            return
        log.warning("topic.kept", agent=topic.agent, reason=why)
        async with self.services.store.write(HOLD) as tx:
            await topics.change(tx, topic.id, only=["ended"], detail=detail)
            if why is not None:
                await agents.change(tx, topic.agent, detail=detail)

    async def _finish(self, topic: Topic) -> None:
        """Delete the private folder of an agent that the register no longer has."""
        services = self.services
        folder = services.paths.agent_folder(topic.agent)
        gone = await services.agents.dismiss(topic.agent)
        if not gone or not await asyncio.to_thread(_deleted, folder):
            log.warning("topic.folder_not_deleted", agent=topic.agent, folder=str(folder))
            return
        async with services.store.write(FORGOTTEN) as tx:
            await topics.change(tx, topic.id, only=["forgetting"], state="forgotten")
        log.info("topic.forgotten", agent=topic.agent, project=topic.project)
