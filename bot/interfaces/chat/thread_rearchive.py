"""Archived threads that a new message opened again, and that are archived again after it is processed.

The state of the thread's agent or task is evaluated again at that time. The reopening is recorded first, so that the
sweep of the titles finds threads that a crash leaves open.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bot.agents.services import AgentServices
from bot.messaging.thread_owners import owner_of
from bot.tasks.threads import TaskThreads
from connectors.contract.messages import Inbound, Retitle
from connectors.delivery import outbox
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.chat import thread_titles

WAKE = declare("titles.wake")
PUT_AWAY = declare("titles.put_away")


@dataclass(frozen=True, slots=True)
class ThreadRearchive:
    services: AgentServices
    _open: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """By connector and conversation of reopened threads: the key of the opening message, and the title."""

    async def heard(self, inbound: Inbound) -> None:
        """Record that an event reopened an archived thread, before the event is processed."""
        if inbound.parent is None or not self.services.agents.journal_effects.titles.has(inbound.connector):
            return
        async with self.services.store.read() as tx:
            found = await thread_titles.put_away(tx, inbound.connector, inbound.conversation)
        if found is None:
            return
        async with self.services.store.write(WAKE) as tx:
            await thread_titles.woke(tx, found[0])
        self._open[inbound.connector, inbound.conversation] = found

    async def dealt_with(self, inbound: Inbound) -> None:
        """Archive the thread again after the event is processed and its replies are queued."""
        place = (inbound.connector, inbound.conversation)
        if place not in self._open:
            return
        thread, title = self._open[place]
        names = self.services.agents.journal_effects.titles
        async with self.services.store.write(PUT_AWAY) as tx:
            opener = await outbox.get(tx, thread)
            owner = None if opener is None else await owner_of(tx, opener)
            row = await agents.get(tx, owner.name) if owner is not None and owner.kind == "agent" else None
            if owner is not None and owner.kind == "task":
                await TaskThreads(self.services).show(tx, owner.name, spoken=True)
            elif row is not None and row.thread_key == thread:
                await names.show(tx, row.name, spoken=True)
            else:  # an earlier thread of the agent, or of one that is forgotten
                await names.call(tx, inbound.connector, thread, Retitle(title=title, archived=True), spoken=True)
        del self._open[place]
        self.services.delivery.wake()
