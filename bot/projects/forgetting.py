"""Forgetting topics that ended long ago, with their agents, journals and clones.

A clone with anything that is nowhere else stays, and so do its topic and its agent. A topic whose agent runs again is
left alone. What is left in the register of a forgotten topic is its number, so that its name is never given again, and
its thread, so that words there get an answer.

The first transaction removes the agent. Then its folder is deleted, and the second transaction records that. After a
crash in between, the next sweep goes on there.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.removal.service import HOLD, REMOVE, AgentRemoval
from bot.projects import text as topic_text
from bot.projects.services import ProjectServices
from core.crash_points import declare
from core.errors import RegisterError
from database.queries.agents import agents
from database.queries.chat import topics
from database.queries.chat.topics import Topic
from database.queries.operations.leases import Lease, LeaseHeld, LeaseLost

log = structlog.get_logger(__name__)

FORGOTTEN = declare("topics.forgotten")


@dataclass(frozen=True, slots=True)
class Forgetting:
    services: ProjectServices

    @property
    def _removal(self) -> AgentRemoval:
        return AgentRemoval(self.services)

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
            async with services.store.write(REMOVE) as tx:
                return await agents.get(tx, topic.agent) is None and await topics.forget(tx, topic.id)
        if not services.agents.is_ours(row):
            return False
        async with self._removal.held(topic.agent, topic.id) as lease:
            return await self._let_go(topic, before, lease)

    async def _let_go(self, topic: Topic, before: float, lease: Lease) -> bool:
        async with self.services.store.read() as tx:
            row = await agents.get(tx, topic.agent)
        if row is None or not await self._removal.is_over(row, frozen=False):
            if topic_text.is_kept(topic):
                await self._keep(topic, None)
            return False
        if (row.stopped_at or 0.0) >= before and not topic_text.is_kept(topic):
            return False  # it ran again after its topic had ended
        why = await self._removal.clear(row)
        if why is not None:
            await self._keep(topic, why)
            return False

        async def last(tx: AsyncConnection) -> bool:
            return await topics.forget(tx, topic.id)

        return await self._removal.remove(row, lease, last)

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
        if not await self._removal.delete_folder(topic.agent):
            log.warning(
                "topic.folder_not_deleted", agent=topic.agent, folder=str(services.paths.agent_folder(topic.agent))
            )
            return
        async with services.store.write(FORGOTTEN) as tx:
            await topics.change(tx, topic.id, only=["forgetting"], state="forgotten")
        log.info("topic.forgotten", agent=topic.agent, project=topic.project)
