"""Supervisors: one per agent, which brings the agent into its desired state.

A supervisor reads the desired state from the agent's row each time, so a restarted one continues where the last was
killed. The follower (`bot.agents.journal.follower`) reports the agent's journal. Message delivery
(`bot.agents.messages.delivery`) sends messages and answers. The restart executor (`bot.agents.restart_executor`)
handles an agent without a host. A commit fetcher and a typing indicator complete it.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import structlog

from bot.agents.context import AgentContext
from bot.agents.journal.commit_fetcher import CommitFetcher
from bot.agents.journal.follower import HeardStatus, JournalFollower
from bot.agents.journal.turn_view import ToolLine
from bot.agents.journal.typing_indicator import TypingIndicator
from bot.agents.messages.delivery import MessageDelivery
from bot.agents.offline_orders import OfflineOrders
from bot.agents.restart_executor import GONE, RestartExecutor
from bot.agents.rule_push import SILENT, RulePush
from bot.commands.syntax import command_line
from database.queries.agents import agents
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused, AgentUnreachable
from fleet.journal.events import FREEZE, JournalEntry
from fleet.supervision import host_lifecycle
from fleet.supervision.liveness import questioned_after

log = structlog.get_logger(__name__)

#: The shutdown reason for an agent host, by desired state.
_WHY = {"stopped": "asked to stop", "frozen": FREEZE}

#: Seconds after which a broken link is opened again.
RETRY_LINK = 0.5
#: Seconds between attempts to reach an agent host while a caller waits for its answer.
ASK_AGAIN = 0.1


@dataclass(slots=True)
class AgentSupervisor:
    """The supervisor of one agent."""

    name: str
    context: AgentContext
    orders: OfflineOrders
    left_over: frozenset[str] | None = None
    """The process markers found when the orchestrator started, for an agent that was stopped then; None: scan again."""
    idle: bool = False
    """Whether no message is known to wait for the agent when its supervisor starts."""
    leave_down: bool = False
    """Whether an agent that is down when Muster starts stays down."""
    host_runs: bool | None = None
    unanswered_at: float | None = None
    """When the agent host last failed to answer a question, in seconds since the epoch."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after `run` returned for good."""
    _link: AgentLink | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is known whether the agent host runs."""
    _follower: JournalFollower = field(init=False)
    _carrier: MessageDelivery = field(init=False)
    _typing: TypingIndicator = field(init=False)
    _gatherer: CommitFetcher = field(init=False)
    _reviver: RestartExecutor = field(init=False)
    _rules: RulePush = field(init=False)

    def __post_init__(self) -> None:
        context = self.context
        self._carrier = MessageDelivery(self.name, context, link=lambda: self._link, idle=self.idle)
        self._typing = TypingIndicator(name=self.name, context=context, turn=lambda: self._follower.projection.view)
        self._follower = JournalFollower(
            name=self.name,
            context=context,
            folder=context.starter.folder(self.name),
            took_room=self._carrier.room,
            turned=self._turned,
        )
        self._gatherer = CommitFetcher(name=self.name, context=context)
        self._rules = RulePush(self.name, context)
        self._reviver = RestartExecutor(
            name=self.name,
            context=context,
            follower=self._follower,
            changed=self._changed,
            take_orders=lambda: self.orders.take_up(self.name),
            left_over=self.left_over,
            leave_down=self.leave_down,
        )

    # --- from outside -------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Note that the agent's row in the register changed, and check its desired state again."""
        self._changed.set()

    def mail(self) -> None:
        """Note that a message or an answer waits for delivery."""
        self._carrier.mail()

    def look_for_mail(self) -> None:
        """Note that something waits for delivery, possibly without a notification."""
        self._carrier.look_again()

    def rules_changed(self) -> None:
        """Note that the approval rules changed, and push them."""
        self._rules.changed()

    async def rules_refused(self, within: float) -> AgentRefused | None:
        """Return why the agent host does not have the rules within that many seconds, or None. A host that is down
        gets them at its start."""
        if not self.host_runs:
            return None
        try:
            async with asyncio.timeout(within):
                return await self._rules.outcome()
        except TimeoutError:
            if not host_lifecycle.is_running(self.context.starter.folder(self.name)):
                return None
            return AgentRefused("Its agent host does not answer.", refusal=SILENT)

    def killed(self) -> None:
        """Note that the agent host was just killed, and discard its status."""
        self.host_runs = False
        self._follower.lose()

    @property
    def link(self) -> AgentLink | None:
        """The open link to the agent host, or None."""
        return self._link

    @property
    def seen(self) -> HeardStatus | None:
        """The last status of the agent host."""
        return self._follower.seen

    @property
    def heard_at(self) -> float | None:
        """When an agent host of this agent last reported, in seconds since the epoch."""
        return self._follower.heard_at

    @property
    def last(self) -> JournalEntry | None:
        """The newest journal entry read."""
        return self._follower.last

    @property
    def running(self) -> ToolLine | None:
        """The tool call that is running, or None."""
        view = self._follower.projection.view
        return view.running() if view is not None else None

    async def is_silent(self, within: float) -> bool:
        """Return whether an agent host runs but does not answer within that many seconds."""
        folder = self.context.starter.folder(self.name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                while host_lifecycle.is_running(folder):
                    if self._link is not None and await _answers(self._link):
                        return False
                    await asyncio.sleep(ASK_AGAIN)
        if not host_lifecycle.is_running(folder):
            return False
        self.unanswered_at = self.context.clock()
        return True

    def should_be_asked(self, fresh_s: float) -> bool:
        """Return whether the agent host's heartbeat is late, and the host was not asked since."""
        heard, now = self._follower.heard_at, self.context.clock()
        if self._link is None or self.seen is None or heard is None:
            return False
        asked = self.unanswered_at is not None and self.unanswered_at > heard
        return not asked and now - heard > questioned_after(fresh_s)

    async def ask(self, within: float) -> None:
        """Ask the agent host for its status, and record its answer or its silence."""
        link, began = self._link, self._follower.heard_at
        if link is None:
            return
        try:
            async with asyncio.timeout(within):
                status = await link.status()
        except TimeoutError:
            if self._follower.heard_at == began:
                self.unanswered_at = self.context.clock()
        except (AgentUnreachable, AgentRefused):
            pass  # who follows it learns that it is gone
        else:
            self._follower.heard(status)

    async def run(self) -> None:
        """Supervise the agent until cancelled, or until the register no longer has it.

        Return at once for an agent of another installation.
        """
        async with asyncio.TaskGroup() as tasks, self.context.beginning:
            await self.orders.take_up(self.name)
            async with self.context.store.read() as tx:
                row = await agents.get(tx, self.name)
                position = await agents.position(tx, self.name)
            if row is not None and not self.context.is_ours(row):
                return
            await self._follower.take_up(row, position)
            self._begun.clear()
            keeping = tasks.create_task(self._keep(), name=f"keep {self.name}")
            carrying = tasks.create_task(self._carrier.run(), name=f"carry {self.name}")
            gathering = tasks.create_task(self._gatherer.run(), name=f"gather {self.name}")
            keeping.add_done_callback(lambda _: carrying.cancel())
            keeping.add_done_callback(lambda _: gathering.cancel())
            await self._begun.wait()

    # --- desired state and actual state -----------------------------------------------------------------------------

    def _turned(self) -> None:
        self._typing.turned()
        self._gatherer.due()
        self._carrier.room()

    async def _keep(self) -> None:
        try:
            await self._keep_on()
        finally:
            self._begun.set()

    async def _keep_on(self) -> None:
        while True:
            self._changed.clear()
            async with self.context.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is None:
                return
            self._gatherer.due()
            try:
                link = await self._connect()
            except AgentRefused as refusal:
                self.host_runs = True
                self._begun.set()
                await self._estranged(refusal)
                continue
            self.host_runs = link is not None
            if link is None:
                await self._follower.catch_up()
                self.context.wake_delivery()
                await self._reviver.attend(self._begun.set)
                continue
            try:
                async with link:
                    self._link = link
                    self._reviver.seen_up()
                    self._begun.set()
                    self._carrier.room()
                    await self._with_host(link)
            finally:
                self._link = None
                self._follower.lose()

    async def _connect(self) -> AgentLink | None:
        """Return a link to the agent host, or None if no host runs (its lock is free)."""
        logged = False
        while True:
            try:
                return await AgentLink.connect(self.context.starter.socket(self.name))
            except AgentUnreachable as error:
                if not host_lifecycle.is_running(self.context.starter.folder(self.name)):
                    return None
                # The host holds its lock but does not answer, so it is starting or suspended, but not gone.
                self.host_runs = True
                self._begun.set()
                if not logged:
                    log.info("agent.not_answering", agent=self.name, reason=str(error))
                logged = True
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_LINK):
                        await self._changed.wait()
                        self._changed.clear()

    async def _estranged(self, refusal: AgentRefused) -> None:
        """Report once that the host speaks another protocol, and kill the host once it is no longer wanted."""
        self._changed.clear()
        async with self.context.store.read() as tx:
            row = await agents.get(tx, self.name)
        if row is None:
            return
        if row.wanted != "running" or row.state == "starting":
            await host_lifecycle.kill(self.context.starter.folder(self.name))
            return
        async with self.context.store.write(GONE) as tx:
            await agents.change(tx, self.name, under=row.launch_id, state="unknown", detail=str(refusal))
            text = f"⚠️ {refusal} {command_line(f'restart {self.name}')} does that."
            await self.context.journal_effects.note(tx, row, f"protocol/{row.launch_id}", text)
        self.context.wake_delivery()
        await self._changed.wait()

    async def _with_host(self, link: AgentLink) -> None:
        """Follow the host until it ends, and apply the desired state."""
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(self._end_when_unwanted(link), name=f"end {self.name}")
            ruling = tasks.create_task(self._rules.run(link), name=f"rule {self.name}")
            typing = tasks.create_task(self._typing.run(), name=f"type {self.name}")
            losing = tasks.create_task(link.lost(), name=f"link {self.name}")
            following = tasks.create_task(self._follower.follow(link), name=f"follow {self.name}")
            try:
                await asyncio.wait({following, losing}, return_when=asyncio.FIRST_COMPLETED)
                # A host that ends lets its followers read its last entries. A broken link is opened again.
                await asyncio.wait({following}, timeout=RETRY_LINK)
            finally:
                for task in (ending, ruling, typing, losing, following):
                    task.cancel()

    async def _end_when_unwanted(self, link: AgentLink) -> None:
        """Shut the host down once it is no longer wanted: at once, or when its turn ends."""
        asked: bool | None = None
        while True:
            async with self.context.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is None:
                return
            unwanted = row.wanted != "running" or row.launch_id != link.hello.launch_id
            if unwanted and asked is not True and asked != row.at_once:
                asked = row.at_once
                reason = _WHY.get(row.wanted, f"restarted by {row.launched_by}")
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._shut_down(link, now=row.at_once, reason=reason))
                    if not row.at_once:
                        # A later request to stop at once must not wait for the end of the turn.
                        tasks.create_task(self._hasten(link, reason))
                return
            await self._changed.wait()
            self._changed.clear()

    async def _shut_down(self, link: AgentLink, *, now: bool, reason: str) -> None:
        with contextlib.suppress(AgentUnreachable):
            await link.shutdown(now=now, reason=reason)

    async def _hasten(self, link: AgentLink, reason: str) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            async with self.context.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is not None and row.at_once:
                await self._shut_down(link, now=True, reason=reason)
                return


async def _answers(link: AgentLink) -> bool:
    try:
        await link.status()
    except AgentUnreachable:
        return False
    except AgentRefused:
        pass
    return True
