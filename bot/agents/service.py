"""The orchestrator's fleet: the register holds the desired state (`bot.agents.desired_state`), and one supervisor per
agent establishes it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents import status
from bot.agents.context import AgentContext
from bot.agents.desired_state import DesiredStates
from bot.agents.journal.effects import JournalEffects
from bot.agents.messages import delivery
from bot.agents.messages.delivery import END
from bot.agents.offline_orders import OfflineOrders
from bot.agents.supervisor import AgentSupervisor
from bot.auth.permissions import is_person
from bot.commands.syntax import command_line
from bot.leadership.installation_id import AgentElsewhere
from bot.messaging.fleet_port import AgentView
from bot.text import markdown
from bot.text.errors import UserError
from core.crash_points import declare
from core.errors import RegisterError, is_away
from core.validation_errors import there_are
from database.queries import tasks
from database.queries.agents import agent_messages, agents, auto_resume, last_results
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from fleet.control.agent_host_client import AgentLink, BackgroundProcesses
from fleet.control.task_attempt_ids import task_of
from fleet.errors import AgentRefused, AgentUnreachable, FleetError
from fleet.journal import reader
from fleet.journal.events import JournalEntry, JournalPosition
from fleet.supervision import host_lifecycle, liveness, process_sweep

log = structlog.get_logger(__name__)

KILLED = declare("agent.killed")
EDITED = declare("message.edited")

#: Maximum seconds until a failed supervisor is restarted.
LONGEST_PAUSE = 60.0
#: Seconds between checks for silent agent hosts, and the number of hosts asked at once.
ASK_EVERY = 2.0
ASK_AT_ONCE = 100
#: Seconds within which an agent host must take an edit, and how often it is asked while it gets the message.
_EDIT_S = 5.0
_EDIT_ATTEMPTS = 3
_LINKED_EVERY_S = 0.1
#: Seconds within which an agent host must report its background processes.
_BACKGROUND_S = 2.0
#: Seconds within which the supervision of a forgotten agent ends.
_DISMISSED_S = 10.0

#: Seconds after which an agent host that has not answered a question counts as silent.
ANSWER_WITHIN = 5.0

#: Bytes of an agent's journal that are kept after they were reported.
KEEP_JOURNAL = 64 * 1024 * 1024


@dataclass(slots=True)
class Agents:
    """The agents of this host."""

    context: AgentContext
    give_up_after: float
    """Seconds after which an undelivered message becomes a dead letter."""
    fresh_for: Callable[[str], float] = lambda _: liveness.FRESH_S
    """Returns the seconds for which a report of the named agent counts as fresh."""
    keep_journal: int = KEEP_JOURNAL
    """Bytes of each agent's journal that are kept after they were reported."""
    leave_down: bool = False
    """Whether agents that are down when Muster starts stay down."""
    desired_states: DesiredStates = field(init=False)
    """The desired state of the agents."""
    _orders: OfflineOrders = field(init=False)
    _supervisors: dict[str, AgentSupervisor] = field(default_factory=dict)
    _tasks: asyncio.TaskGroup | None = None

    @property
    def journal_effects(self) -> JournalEffects:
        """The part that reports agents' events in chat."""
        return self.context.journal_effects

    @property
    def is_ours(self) -> Callable[[AgentRow], bool]:
        """Whether this installation manages an agent."""
        return self.context.is_ours

    def __post_init__(self) -> None:
        context, patience = self.context, self.give_up_after
        self.desired_states = DesiredStates(
            journal_effects=context.journal_effects, clock=context.clock, send=self.send, patience=patience
        )
        self._orders = OfflineOrders(context=context, desired_states=self.desired_states)

    # --- running ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Supervise every registered agent, and those added later, until cancelled."""
        async with self.context.store.read() as tx:
            rows = await agents.every(tx)
            waited_for = await agent_messages.waited_for(tx)
        # Scan all processes once, instead of once per stopped agent.
        carried = await asyncio.to_thread(process_sweep.markers) if rows else frozenset()
        async with asyncio.TaskGroup() as self._tasks:
            # Commands that an earlier process left unfinished run first, and may have created supervisors already.
            for supervisor in self._supervisors.values():
                self._begin(supervisor)
            for row in filter(self.context.is_ours, rows):
                stopped = row.wanted == "stopped" and row.state == "stopped"
                left_over = carried if stopped else None
                self._keep(row.name, left_over=left_over, leave_down=self.leave_down, idle=row.name not in waited_for)
            self._tasks.create_task(self._ask_the_silent(), name="ask silent agents")
            while True:
                await self.context.store.rest(delivery.LOOK_AGAIN)
                await self._look_for_mail()

    async def _ask_the_silent(self) -> None:
        """Ask agent hosts whose heartbeat is late, before their last status becomes stale.

        In a healthy fleet no host is asked; the check costs one comparison per agent.
        """
        while True:
            await asyncio.sleep(ASK_EVERY)
            silent = {name: self.fresh_for(name) for name in self._supervisors}
            silent = {name: fresh for name, fresh in silent.items() if self._supervisors[name].should_be_asked(fresh)}
            names = list(silent)
            for first in range(0, len(names), ASK_AT_ONCE):
                some = names[first : first + ASK_AT_ONCE]
                await asyncio.gather(*(self._supervisors[name].ask(liveness.patience(silent[name])) for name in some))

    async def _look_for_mail(self) -> None:
        """Deliver everything that waits, even without a notification: one query for all agents."""
        try:
            async with self.context.store.read() as tx:
                waited_for = await agent_messages.waited_for(tx)
        except RegisterError as error:
            log.info("agents.mail_not_looked_for", reason=str(error))
            return
        for name in waited_for & self._supervisors.keys():
            self._supervisors[name].look_for_mail()

    def _keep(
        self,
        name: str,
        *,
        left_over: frozenset[str] | None = None,
        leave_down: bool = False,
        idle: bool = False,
    ) -> AgentSupervisor:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            supervisor = AgentSupervisor(
                name=name,
                context=self.context,
                orders=self._orders,
                left_over=left_over,
                leave_down=leave_down,
                idle=idle,
            )
            self._supervisors[name] = supervisor
            self._begin(supervisor)
        return supervisor

    def _begin(self, supervisor: AgentSupervisor) -> None:
        """Start a supervisor, if `run` is active."""
        if self._tasks is not None:
            self._tasks.create_task(self._guarded(supervisor), name=f"keeper {supervisor.name}")

    async def _guarded(self, supervisor: AgentSupervisor) -> None:
        """Run a supervisor, and restart it after a failure without affecting other agents."""
        pause = 1.0
        while True:
            began = self.context.clock()
            try:
                await supervisor.run()
                self._supervisors.pop(supervisor.name, None)
                supervisor.ended.set()
                return
            except Exception as error:
                if self.context.clock() - began > LONGEST_PAUSE:
                    pause = 1.0
                if is_away(error):
                    log.info("keeper.stands_aside", agent=supervisor.name)
                else:
                    log.exception("keeper.failed", agent=supervisor.name, again_in_s=pause)
                await self.context.store.rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE)

    def look_again(self, name: str) -> None:
        """Tell the supervisor that the row of `name` changed."""
        self._keep(name).changed()

    async def dismiss(self, name: str) -> bool:
        """Wait until nothing supervises an agent that the register no longer has. Return False if that takes long."""
        if (supervisor := self._supervisors.get(name)) is None:
            return True
        supervisor.changed()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISMISSED_S):
                await supervisor.ended.wait()
        return name not in self._supervisors

    def link(self, name: str) -> AgentLink | None:
        """Return the open link to an agent's host, or None."""
        supervisor = self._supervisors.get(name)
        return supervisor.link if supervisor is not None else None

    def bring_mail(self, name: str) -> None:
        self._keep(name).mail()

    def rules_changed(self) -> None:
        """Note that approval rules changed, and push them to the agent hosts that run."""
        for supervisor in self._supervisors.values():
            supervisor.rules_changed()

    async def rules_refused(self, names: Collection[str], within: float) -> dict[str, AgentRefused]:
        """Return by agent why its host does not have the rules within that many seconds; those that do are left out."""
        asked = {name: self._supervisors[name] for name in names if name in self._supervisors}
        refusals = await asyncio.gather(*(each.rules_refused(within) for each in asked.values()))
        return {name: refusal for name, refusal in zip(asked, refusals, strict=True) if refusal is not None}

    # --- looking ------------------------------------------------------------------------------------------------

    async def get(self, name: str) -> AgentRow:
        """Return the agent called `name`.

        Raises:
            UserError: there is no such agent.
        """
        async with self.context.store.read() as tx:
            row = await agents.get(tx, name)
            names = [] if row is not None else [other.name for other in await agents.every(tx)]
        if row is None:
            none = f"There are no agents yet; {command_line('launch NAME')} starts one."
            known = f"{there_are(names)}." if names else none
            raise UserError(f"No agent is called {markdown.one_line(name)!r}. {known}", code="agent.unknown")
        return row

    def make_sure_it_is_ours(self, row: AgentRow) -> None:
        """Raise `AgentElsewhere` for an agent of another installation."""
        if not self.context.is_ours(row):
            raise AgentElsewhere(row)

    async def names(self) -> list[str]:
        async with self.context.store.read() as tx:
            return [row.name for row in await agents.every(tx)]

    async def view(self) -> list[AgentView]:
        """Return every agent with its last known state, without asking any agent host, so this returns at once."""
        async with self.context.store.read() as tx:
            return await self._views(tx, await agents.every(tx))

    async def view_of(self, name: str) -> AgentView:
        """Return one agent, as `view` shows it."""
        row = await self.get(name)
        async with self.context.store.read() as tx:
            (view,) = await self._views(tx, [row], agent=row.name)
        return view

    async def _views(
        self, tx: AsyncConnection, rows: Sequence[AgentRow], *, agent: str | None = None
    ) -> list[AgentView]:
        """Return the views of these agents; `agent` is the name of the one, if it is one."""
        waiting = Counter(message.agent for message in await agent_messages.in_states(tx, ["pending"], agent=agent))
        # In reverse, so that what has waited longest wins.
        asking = {each.agent: each for each in reversed(await approvals.in_states(tx, ["pending"], agent=agent))}
        stopped = {each.agent: each for each in reversed(await auto_resume.waiting(tx, agent=agent))}
        held = await tasks.held_back(tx, agent)
        now = self.context.clock()
        return [
            status.view_of(
                row,
                self._supervisors.get(row.name),
                now=now,
                waiting=waiting[row.name],
                asks=asking.get(row.name),
                stopped=stopped.get(row.name),
                held=held.get(row.name),
                fresh_s=self.fresh_for(row.name),
                redact=self.context.journal_effects.redaction,
            )
            if self.context.is_ours(row)
            else status.view_from_afar(row, waiting=waiting[row.name])
            for row in rows
        ]

    def is_up(self, name: str) -> bool:
        """Return whether the agent host of `name` is known to run."""
        supervisor = self._supervisors.get(name)
        return supervisor is not None and supervisor.host_runs is True

    def is_known(self, name: str) -> bool:
        """Return whether a check has already shown if the agent host of `name` runs."""
        supervisor = self._supervisors.get(name)
        return supervisor is not None and supervisor.host_runs is not None

    def turn_of(self, name: str) -> str | None:
        """Return the agent's open turn, as far as known, or None."""
        supervisor = self._supervisors.get(name)
        return None if supervisor is None or supervisor.seen is None else supervisor.seen.status.turn

    def handed_to(self, name: str) -> str | None:
        """Return who has the agent's conversation in a terminal, as far as known, or None."""
        supervisor = self._supervisors.get(name)
        return None if supervisor is None or supervisor.seen is None else supervisor.seen.status.terminal_by

    def in_turn(self, name: str) -> bool:
        """Return whether the agent is known to be in a turn, or in a person's terminal, which is as busy."""
        return self.turn_of(name) is not None or self.handed_to(name) is not None

    def busy_until(self, name: str) -> str:
        """Return when an agent that is in a turn, or in a person's terminal, is free."""
        by = self.handed_to(name)
        return "when its turn ends" if by is None else f"when {markdown.one_line(by, 100)} gives it back"

    async def launch_of(self, name: str) -> str:
        """Return the id of the agent's current launch."""
        return (await self.get(name)).launch_id

    async def tail(self, name: str, entries: int) -> list[JournalEntry]:
        """Return the last entries of an agent's journal, oldest first."""
        row = await self.get(name)
        return await asyncio.to_thread(host_lifecycle.tail, self.context.starter.folder(row.name), entries)

    async def prune(self) -> None:
        """Remove the oldest parts of journals that were fully reported, beyond the part that is kept."""
        async with self.context.store.read() as tx:
            rows = [row for row in await agents.every(tx) if self.context.is_ours(row)]
            read = {row.name: await agents.position(tx, row.name) for row in rows}
        for row in rows:
            before = JournalPosition(read[row.name].view_incarnation, 0)
            await asyncio.to_thread(reader.prune, self.context.starter.folder(row.name), before, self.keep_journal)

    async def is_silent(self, name: str) -> bool:
        """Return whether the agent's host runs but does not answer. Finding that out takes a few seconds."""
        supervisor = self._supervisors.get(name)
        return supervisor is not None and await supervisor.is_silent(ANSWER_WITHIN)

    # --- ending, and talking ------------------------------------------------------------------------------------------

    async def kill(self, row: AgentRow, *, discard: bool) -> bool:
        """Stop the agent at once by signals and give up its session; `discard` also deletes its workspace.

        Does nothing if the agent was launched again since `row` was read.

        Returns:
            Whether the workspace was deleted; one that Muster did not create is kept.
        """
        async with self.context.store.write(KILLED) as tx:
            changed = await agents.change(
                tx,
                row.name,
                under=row.launch_id,
                wanted="stopped",
                at_once=True,
                revival=None,
                keep_session=False,
                state="stopped",
                detail="killed, with everything it had started",
                stopped_at=self.context.clock(),
            )
            await self.context.journal_effects.titles.show(tx, row.name)
        if not changed:
            return False
        try:
            await host_lifecycle.kill(self.context.starter.folder(row.name))
        except FleetError as error:
            async with self.context.store.write(KILLED) as tx:
                await agents.change(tx, row.name, under=row.launch_id, state="unknown", detail=str(error))
            raise
        if (supervisor := self._supervisors.get(row.name)) is not None:
            supervisor.killed()
        self.look_again(row.name)
        if not discard:
            return False
        return await asyncio.to_thread(self.context.starter.discard_workspace, Path(row.workspace), row.name)

    async def send(
        self,
        tx: AsyncConnection,
        row: AgentRow,
        text: str,
        *,
        message_id: str,
        by: str,
        mode: str = "queue",
        attachments: Sequence[Mapping[str, Any]] = (),
        connector: str | None = None,
        conversation: str | None = None,
        event_id: str | None = None,
        answer_in: str | None = None,
    ) -> AgentMessage:
        """Queue a message for an agent, once per `message_id`; `bring_mail` delivers it at once."""
        now = self.context.clock()
        message = AgentMessage(
            id=message_id,
            agent=row.name,
            mode=mode,
            text=text,
            attachments=attachments,
            sender=by,
            connector=connector,
            conversation=conversation,
            event_id=event_id,
            answer_in=answer_in,
            state="pending",
            turn=None,
            detail=None,
            created_at=now,
            updated_at=now,
            give_up_at=now + self.give_up_after,
        )
        if await agent_messages.add(tx, message) and is_person(by) and task_of(message_id) is None:
            # A message from a person counts as a look at the agent.
            await auto_resume.drop(tx, row.name, f"{by} wrote to it")
            await last_results.note(tx, row.name, "answer", now)
        return message

    async def cancel(self, row: AgentRow, turn: str | None = None) -> bool:
        """Cancel the running turn, or only the given `turn`. Return False if no such turn was running."""
        self.make_sure_it_is_ours(row)
        supervisor = self._supervisors.get(row.name)
        if supervisor is None or supervisor.link is None:
            raise UserError(f"{row.name} is not running; there is no turn to cancel.", code="agent.not_running")
        return (await supervisor.link.cancel(turn)).cancelled

    async def left_running(self, name: str, *, turn_over_s: int = 0) -> BackgroundProcesses | None:
        """Return the processes that an agent's commands left running, after its turn or that many seconds.

        Returns:
            None if there are none, or the agent host cannot tell.
        """
        supervisor = self._supervisors.get(name)
        if supervisor is None or supervisor.link is None:
            return None
        try:
            async with asyncio.timeout(turn_over_s + _BACKGROUND_S):
                found = await supervisor.link.background(turn_over_s=turn_over_s)
        except (AgentRefused, AgentUnreachable, TimeoutError):
            return None
        return found if found.count else None

    async def edit(self, message: AgentMessage, text: str) -> bool:
        """Give a message another text, if it waits. Repeated, it changes nothing.

        Returns:
            False if its turn has begun, or if its agent host has it and cannot be asked now.
        """
        for _ in range(_EDIT_ATTEMPTS):
            link = self.link(message.agent) or (
                await self._linked(message.agent) if message.state != "pending" else None
            )
            known = False
            if link is not None:
                try:
                    async with asyncio.timeout(_EDIT_S):
                        answer = await link.edit(message.id, text)
                except (AgentRefused, AgentUnreachable, TimeoutError):
                    return False
                known = answer.known
                if known and not answer.edited:
                    return False
            only = ("pending", "journaled") if known else ("pending",)
            async with self.context.store.write(EDITED) as tx:
                if await agent_messages.edit(tx, message.id, text, only=only, now=self.context.clock()):
                    return True
            if known or link is None:
                return known
            # It came to the agent host in the meantime.
        return False

    async def _linked(self, name: str) -> AgentLink | None:
        """Return the link to an agent's host, which may just be made, or None."""
        for _ in range(round(_EDIT_S / _LINKED_EVERY_S)):
            if (link := self.link(name)) is not None:
                return link
            await asyncio.sleep(_LINKED_EVERY_S)
        return None

    async def withdraw(self, tx: AsyncConnection, message: AgentMessage, *, end: bool = False) -> bool:
        """Withdraw a message that may still wait; `bring_mail` then informs the agent host, now or when it runs again.

        Args:
            tx: the transaction.
            message: the message to withdraw.
            end: whether to cancel the message's turn if it has begun, but was not reported yet.

        Returns:
            False if the message's turn is known to have begun.
        """
        detail = {"detail": END} if end else {}
        return await agent_messages.change(
            tx, message.id, now=self.context.clock(), only=["pending", "journaled"], state="withdrawing", **detail
        )
