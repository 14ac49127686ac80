"""Titles and archiving of threads, for chat systems that support them.

The title of an agent's thread is the agent's name, with what a topic is about; `bot.tasks.text.title` makes a task's. A
mark shows the state.

The transaction that changes a state also decides the title. It goes into the outbox only if it differs from the last
one. A sweep corrects titles that no such transaction updated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.ports import OwnedPort
from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Capabilities, Priority, Retitle
from connectors.delivery import outbox
from core.crash_points import Step, declare
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals, questions
from database.queries.chat import thread_titles as titles

SWEEP = declare("titles.sweep")

UP: Final = "🟢"
#: The agent is up, and waits for an operator's answer.
ASKS: Final = "✋"
#: The state is unknown, because the agent host does not answer.
UNKNOWN: Final = "❔"
#: Kinds of questions that need no answer, because their subject proceeds by itself.
OFFERS: Final = frozenset({"held"})
_ENDED: Final = {"failed": "❌", "frozen": "❄️", "stopped": "⏹"}


def title_of(name: str, state: str, *, asks: bool) -> Retitle:
    """Return the title of an agent's thread in this state. The thread of a stopped agent is archived."""
    mark = _ENDED.get(state) or (UNKNOWN if state == "unknown" else ASKS if asks else UP)
    return Retitle(title=f"{mark} {name}", archived=state == "stopped")


def called(row: AgentRow) -> str:
    """Return what an agent's thread is called besides its state."""
    return row.name if row.purpose is None else f"{row.name} {row.purpose}"


def name_in(title: str) -> str:
    """Return the agent whose thread has this title, with or without a mark. For threads without a recorded owner."""
    return title.rpartition(" ")[2]


@dataclass(frozen=True, slots=True)
class ThreadTitles:
    capabilities: Callable[[str], Capabilities]
    clock: Callable[[], float]

    def has(self, connector: str) -> bool:
        """Return whether titles of threads can change on this connector."""
        can = self.capabilities(connector)
        return can.threads and can.titles

    def first(self, row: AgentRow) -> str:
        """Return the first title of the thread of an agent that is being launched."""
        return title_of(called(row), row.state, asks=False).title if self.has(row.connector) else called(row)

    async def opened(self, tx: AsyncConnection, row: AgentRow) -> None:
        """Record the first title, in the transaction that opens the thread."""
        if self.has(row.connector):
            await titles.rename(tx, row.thread_key, self.first(row), archived=False)

    async def show(self, tx: AsyncConnection, name: str, *, spoken: bool = False) -> None:
        """Update the title of an agent's thread, including changes of this transaction.

        `spoken` means that Muster posted in the thread. This unarchives an archived thread, so it is archived again.
        """
        row = await agents.get(tx, name)
        if row is None or not self.has(row.connector):
            return
        asked = [each for each in await questions.pending(tx, agent=name) if each.kind not in OFFERS]
        asks = bool(asked) or bool(await approvals.in_states(tx, ["pending"], agent=name))
        title = title_of(called(row), row.state, asks=asks)
        await self.call(tx, row.connector, row.thread_key, title, spoken=spoken)

    async def call(
        self, tx: AsyncConnection, connector: str, thread: str, title: Retitle, *, spoken: bool = False
    ) -> None:
        """Set the title of a thread if it differs.

        Args:
            tx: the transaction that changes the thread's owner.
            connector: the thread's connector, which must support titles.
            thread: the outbox key of the message that opens the thread.
            title: the title, and whether the thread is archived.
            spoken: whether Muster posted in the thread, which unarchives it.
        """
        again = spoken and title.archived
        number = await titles.rename(tx, thread, title.title, archived=title.archived, again=again)
        if number is not None:
            renaming = MessagePlace(connector, thread_of=thread).outbound(
                f"title/{thread}/{number}", title, Priority.RECEIPT
            )
            await outbox.put(tx, renaming, self.clock())

    async def spoken_in(self, tx: AsyncConnection, connector: str, conversation: str) -> None:
        """Archive a thread again after a post of ours, which would unarchive it."""
        if self.has(connector) and (found := await titles.put_away(tx, connector, conversation)) is not None:
            await self.call(tx, connector, found[0], Retitle(title=found[1], archived=True), spoken=True)


class TaskTitles(Protocol):
    """Names the threads of tasks."""

    async def sweep(self, step: Step) -> bool: ...


@dataclass(frozen=True, slots=True)
class TitleSweep:
    """Finds agents and tasks whose threads have outdated titles."""

    titles: ThreadTitles
    store: Store
    agents: OwnedPort
    wake_delivery: Callable[[], None]
    tasks: TaskTitles | None = None

    async def look(self) -> None:
        """Rename these threads."""
        if self.tasks is not None and await self.tasks.sweep(SWEEP):
            self.wake_delivery()
        async with self.store.read() as tx:
            rows = [
                row for row in await agents.every(tx) if self.titles.has(row.connector) and self.agents.is_ours(row)
            ]
            if not rows:
                return
            known = await titles.every(tx)
            asking = {each.agent for each in await approvals.in_states(tx, ["pending"])}
            asking |= {each.agent for each in await questions.pending(tx) if each.kind not in OFFERS}
        wrong = []
        for row in rows:
            title = title_of(called(row), row.state, asks=row.name in asking)
            if known.get(row.thread_key) != (title.title, title.archived):
                wrong.append(row.name)
        for name in wrong:
            async with self.store.write(SWEEP) as tx:
                await self.titles.show(tx, name)
        if wrong:
            self.wake_delivery()
