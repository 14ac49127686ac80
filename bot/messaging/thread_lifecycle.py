"""What threads are called and when they are archived, where a chat system can do that.

An agent's thread has its name, a task's the title of `bot.tasks.text.title`, each behind a mark for how it is.

A name is decided from what the register says, in the transaction that changes it, and put into the outbox only when it
is another one than the last. A sweep finds what no such transaction saw to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Priority, Retitle
from connectors.delivery import outbox
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.chat import approvals, questions
from database.queries.chat import thread_titles as titles

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.messaging.fleet_port import FleetPort
    from connectors.contract.messages import Capabilities
    from core.crash_points import Step
    from database.engine.store import Store
    from database.queries.agents.agents import AgentRow

SWEEP = declare("titles.sweep")

UP: Final = "🟢"
#: It is up, and asks something of an operator.
ASKS: Final = "✋"
#: No one knows: its agent host does not answer.
UNKNOWN: Final = "❔"
#: Kinds of questions that no one needs to answer: what they are about goes on by itself.
OFFERS: Final = frozenset({"held"})
_ENDED: Final = {"failed": "❌", "frozen": "❄️", "stopped": "⏹"}


def title_of(name: str, state: str, *, asks: bool) -> Retitle:
    """Return what the thread of an agent in this state is called. That of one that was stopped is put away."""
    mark = _ENDED.get(state) or (UNKNOWN if state == "unknown" else ASKS if asks else UP)
    return Retitle(title=f"{mark} {name}", archived=state == "stopped")


def name_in(title: str) -> str:
    """Return the agent whose thread was opened under this title, with a mark or without. For threads of which no one
    wrote down whose they are."""
    return title.rpartition(" ")[2]


@dataclass(frozen=True, slots=True)
class Titles:
    capabilities: Callable[[str], Capabilities]
    clock: Callable[[], float]

    def has(self, connector: str) -> bool:
        """Return whether threads have names there that change."""
        can = self.capabilities(connector)
        return can.threads and can.titles

    def first(self, row: AgentRow) -> str:
        """Return what the thread of an agent that is being launched is called from the beginning."""
        return title_of(row.name, row.state, asks=False).title if self.has(row.connector) else row.name

    async def opened(self, tx: AsyncConnection, row: AgentRow) -> None:
        """It is opened under that name, in this transaction."""
        if self.has(row.connector):
            await titles.rename(tx, row.thread_key, self.first(row), archived=False)

    async def show(self, tx: AsyncConnection, name: str, *, spoken: bool = False) -> None:
        """Have the thread of an agent called as the agent is now, by all that this transaction wrote.

        `spoken`: something of ours was said there, by which one that was put away is got back; it is put away again.
        """
        row = await agents.get(tx, name)
        if row is None or not self.has(row.connector):
            return
        asked = [each for each in await questions.pending(tx, agent=name) if each.kind not in OFFERS]
        asks = bool(asked) or bool(await approvals.in_states(tx, ["pending"], agent=name))
        title = title_of(name, row.state, asks=asks)
        await self.call(tx, row.connector, row.thread_key, title, spoken=spoken)

    async def call(
        self, tx: AsyncConnection, connector: str, thread: str, title: Retitle, *, spoken: bool = False
    ) -> None:
        """Have a thread called so, if it is called otherwise.

        Args:
            tx: the transaction that changes its owner.
            connector: where it is; one on which threads are renamed.
            thread: the outbox key of the message that opens it.
            title: its name, and whether it is put away.
            spoken: something of ours was said there, by which one that was put away is got back.
        """
        again = spoken and title.archived
        number = await titles.rename(tx, thread, title.title, archived=title.archived, again=again)
        if number is not None:
            renaming = MessagePlace(connector, thread_of=thread).outbound(
                f"title/{thread}/{number}", title, Priority.RECEIPT
            )
            await outbox.put(tx, renaming, self.clock())

    async def spoken_in(self, tx: AsyncConnection, connector: str, conversation: str) -> None:
        """Something of ours is said in a thread that may be put away, by which it is got back; it is put away again."""
        if self.has(connector) and (found := await titles.put_away(tx, connector, conversation)) is not None:
            await self.call(tx, connector, found[0], Retitle(title=found[1], archived=True), spoken=True)


class TaskTitles(Protocol):
    """Who names the threads of tasks."""

    async def sweep(self, step: Step) -> bool: ...


@dataclass(frozen=True, slots=True)
class TitleSweep:
    """Finds agents and tasks whose threads are not called as they should be."""

    titles: Titles
    store: Store
    agents: FleetPort
    wake_delivery: Callable[[], None]
    tasks: TaskTitles | None = None

    async def look(self) -> None:
        """Have those threads renamed."""
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
            title = title_of(row.name, row.state, asks=row.name in asking)
            if known.get(row.thread_key) != (title.title, title.archived):
                wrong.append(row.name)
        for name in wrong:
            async with self.store.write(SWEEP) as tx:
                await self.titles.show(tx, name)
        if wrong:
            self.wake_delivery()
