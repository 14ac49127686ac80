"""Handling of an agent without a host: the executor starts it, reports its end, restarts it, or gives it up.

`fleet.supervision.restart_policy` decides whether to restart it. The decision is stored in the register, in the
transaction that reports it, so that a later orchestrator continues where this one was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from bot.agents.context import AgentContext
from bot.agents.journal.follower import JournalFollower
from bot.agents.journal.projection import end_in_words
from bot.commands import sections
from bot.commands.agent_lock import is_held
from bot.commands.syntax import command_line, from_shell
from bot.text import markdown
from core import boot_id
from core.crash_points import around, declare
from core.errors import MusterError, RegisterError
from database.queries.agents import agent_messages, agents
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from fleet.errors import AgentRefused, AgentUnreachable, FleetError
from fleet.journal import reader
from fleet.journal.last_run import last_run
from fleet.roster.drift import ENDED
from fleet.runtimes import RUNTIMES
from fleet.supervision import host_lifecycle, offline_orders, restart_policy
from fleet.supervision.host_lifecycle import HostNotReady, SpawnBarred, SpawnFailed
from fleet.supervision.restart_policy import Fall, RestartLimits, RestartRecord

log = structlog.get_logger(__name__)

GONE = declare("agent.gone")
SPAWN = declare("agent.spawn")
SPAWN_FAILED = declare("agent.spawn_failed")
FELL = declare("agent.fell")
REVIVE = declare("agent.revive")

#: Seconds between checks whether something else started an agent that waits for its restart.
LOOK_AGAIN = 5.0
#: Seconds by which a restart is delayed while a command holds the agent.
ASIDE = 0.5


#: Why an agent fell of which no one says why.
_GONE = "the agent host exited unexpectedly"
_WITH_MACHINE = "it ended when the machine restarted"
#: The report about an agent host that ended without a report of its own, by desired state.
_END = {"stopped": "killed, with everything it had started", "frozen": "its process is gone; all that it is, is kept"}


@dataclass(kw_only=True, slots=True)
class RestartExecutor:
    """The restart executor of one agent, used while the agent has no host."""

    name: str
    context: AgentContext
    follower: JournalFollower
    changed: asyncio.Event
    """Set when the agent's row in the register changed."""
    take_orders: Callable[[], Awaitable[None]]
    """Takes up the orders that were given without Muster."""
    left_over: frozenset[str] | None = None
    """The process markers found when the orchestrator started, for an agent that was stopped then; None: scan again."""
    leave_down: bool = False
    """Whether an agent that is down when Muster starts stays down."""
    _found_down: bool = True
    """Whether the agent has not run since Muster started."""

    @property
    def _folder(self) -> Path:
        return self.context.starter.folder(self.name)

    def seen_up(self) -> None:
        """Note that the agent runs."""
        self._found_down = self.leave_down = False

    async def attend(self, begun: Callable[[], None]) -> None:
        """Do what is needed now for an agent without a host, and return when the situation may have changed.

        Args:
            begun: called once the next step is known.
        """
        await self.take_orders()
        row = await self._row()
        if row is None:
            return
        if row.wanted == "running" and row.state == "starting" and not await self._was_started(row):
            begun()
            self.seen_up()
            await self._start(row)
            return
        await self._report_gone(row)
        due = await self._due()
        begun()
        await self._wait(due)

    async def _row(self) -> AgentRow | None:
        async with self.context.store.read() as tx:
            return await agents.get(tx, self.name)

    async def _was_started(self, row: AgentRow) -> bool:
        """Return whether this launch already had its agent host. Each launch starts once; a restart is a new one."""
        opened = await asyncio.to_thread(reader.last_opened, self._folder)
        return opened is not None and opened.launch_id == row.launch_id

    # --- starting -----------------------------------------------------------------------------------------------

    async def _start(self, row: AgentRow) -> None:
        async with self.context.store.read() as tx:
            position = await agents.position(tx, self.name)
            grants = await approvals.list_grants(tx, agent=self.name)
            taken_back = await agent_messages.in_states(tx, ["withdrawing"], agent=self.name)
        again = restart_policy.asked_for(row.launch_id) != row.launch_id
        try:
            async with self.context.restart_limiter.at_once if again else contextlib.nullcontext():
                with around(SPAWN):
                    # Withdraw before the start: once the host runs, the turn of such a message could begin.
                    withdrawn = [message.id for message in taken_back]
                    await self.context.starter.start(
                        row, floor=position.incarnation, grants=grants, withdrawn=withdrawn
                    )
        except RegisterError:
            raise
        except (MusterError, OSError) as error:
            await self.follower.catch_up()
            if isinstance(error, HostNotReady):
                await self._not_answering(row, str(error))
            elif not (await self._was_started(row) and host_lifecycle.is_running(self._folder)):
                await self._not_started(row, error)

    async def _not_answering(self, row: AgentRow, reason: str) -> None:
        """Report that the agent host runs but does not answer. It has not failed; its state is unknown."""
        async with self.context.store.write(SPAWN_FAILED) as tx:
            now_found = await agents.get(tx, self.name)
            if now_found is None or now_found.launch_id != row.launch_id:
                return
            reason = self.context.journal_effects.redaction(reason)
            if now_found.state == "starting":
                await agents.change(tx, self.name, under=row.launch_id, state="unknown", detail=reason)
            force = f"{command_line(f'kill {self.name}')} ends it"
            text = f"⚠️ {reason} It still runs and may answer later; {force}."
            await self.context.journal_effects.note(tx, row, f"silent/{row.launch_id}", text)
        self.context.wake_delivery()

    async def _not_started(self, row: AgentRow, error: Exception) -> None:
        reason = self.context.journal_effects.redaction(str(error))
        fall = await asyncio.to_thread(self._fall, row, reason, error)
        async with self.context.store.write(SPAWN_FAILED) as tx:
            now_found = await agents.get(tx, self.name)
            if now_found is None:
                return
            wanted = now_found.wanted == "running"
            record = restart_policy.after(RestartRecord.from_json(now_found.revival), fall, self.context.limits)
            changed = await agents.change(
                tx,
                self.name,
                under=row.launch_id,
                state="failed" if wanted else now_found.wanted,
                detail=reason,
                stopped_at=self.context.clock(),
                revival=record.to_json() if wanted else None,
            )
            if changed and wanted:
                follows = outlook(self.name, record, fall, self.context.limits)
                text = f"✖ {from_shell(reason, sections.load())}\n\n{follows}"
                await self.context.journal_effects.note(tx, row, f"spawn/{row.launch_id}", text)
        self.context.wake_delivery()

    # --- falling ------------------------------------------------------------------------------------------------

    async def _report_gone(self, row: AgentRow) -> None:
        """Report that the host is gone, if its journal does not, and close what it left open."""
        if not self._folder.exists():
            return
        left = ""
        try:
            among, self.left_over = self.left_over, None
            await asyncio.to_thread(host_lifecycle.clear_away, self._folder, among=among)
        except FleetError as error:
            if host_lifecycle.is_running(self._folder):
                return
            log.warning("agent.not_cleared_away", agent=self.name, reason=str(error))
            left = f"{error}\n"
        if self.follower.projection.over and row.wanted != "running":
            if not left:
                await self._never_came(row)
            return
        if self.follower.projection.over and row.state in ENDED:
            return
        words = left + await asyncio.to_thread(host_lifecycle.last_words, self._folder)
        fall = await asyncio.to_thread(self._fall, row, None, None)
        async with self.context.store.write(GONE) as tx:
            found = await agents.get(tx, self.name)
            if found is None or found.launch_id != row.launch_id or found.wanted != row.wanted:
                return
            state, reason, next_ = found.wanted, _END.get(found.wanted, fall.why), ""
            kept = None
            if found.wanted == "running":
                state = "failed"
                next_ = f"{command_line(f'restart {self.name}')} brings it back."
                if not self._is_left_down():
                    record = restart_policy.after(RestartRecord.from_json(found.revival), fall, self.context.limits)
                    kept, next_ = record.to_json(), outlook(self.name, record, fall, self.context.limits)
            await agents.change(
                tx,
                self.name,
                under=row.launch_id,
                state=state,
                detail=reason,
                stopped_at=self.context.clock(),
                **({} if kept is None else {"revival": kept}),
            )
            if not self.follower.projection.over:
                await self.context.journal_effects.gone(tx, row, self.follower.projection, reason, next_, words)
        self.follower.close()
        self.context.wake_delivery()

    async def _never_came(self, row: AgentRow) -> None:
        """Record the end of a launch that was given up before it had a host; there is nothing to report."""
        if row.state in {*ENDED, "frozen"}:
            return
        async with self.context.store.write(GONE) as tx:
            found = await agents.get(tx, self.name)
            if found is None or found.launch_id != row.launch_id or found.wanted != row.wanted:
                return
            await agents.change(
                tx, self.name, under=row.launch_id, state=found.wanted, detail=None, stopped_at=self.context.clock()
            )

    async def _due(self) -> float | None:
        """Return when to restart the agent, or None. A failure that its journal reports is recorded here."""
        row = await self._row()
        if row is None or row.wanted != "running" or row.state not in ENDED:
            return None
        if self._is_left_down():
            await self._left_down(row)
            return None
        fall = await asyncio.to_thread(self._fall, row, row.detail or "it ended", None)
        before = RestartRecord.from_json(row.revival)
        record = restart_policy.after(before, fall, self.context.limits)
        if record != before:
            end = await asyncio.to_thread(self._end, row)
            async with self.context.store.write(FELL) as tx:
                kept = record.to_json()
                if not await agents.change(tx, self.name, under=row.launch_id, revival=kept, stopped_at=fall.at):
                    return None
                await self.context.journal_effects.note(
                    tx, row, f"fell/{fall.of}", end + outlook(self.name, record, fall, self.context.limits)
                )
            self.context.wake_delivery()
        now = self.context.clock()
        due = restart_policy.due(record, now, self.context.limits)
        if due is None:
            return None
        return max(due, self.context.restart_limiter.slot(now)) if self._found_down else due

    async def _left_down(self, row: AgentRow) -> None:
        """Report the end of an agent that is not restarted automatically, unless it was already reported."""
        fall = await asyncio.to_thread(self._fall, row, row.detail or "it ended", None)
        end = await asyncio.to_thread(self._end, row)
        if not end or RestartRecord.from_json(row.revival).of == fall.of:
            return
        async with self.context.store.write(FELL) as tx:
            back = f"{command_line(f'restart {self.name}')} brings it back."
            await self.context.journal_effects.note(tx, row, f"fell/{fall.of}", f"{end}{back}")
        self.context.wake_delivery()

    def _end(self, row: AgentRow) -> str:
        """Return the agent host's report of this launch's end, to put before the outlook; empty if there is none."""
        run = last_run(self._folder)
        if run is None or run.launch_id != row.launch_id or run.end is None:
            return ""
        return f"{end_in_words(run.end, self.name)}\n\n"

    def _is_left_down(self) -> bool:
        """Return whether the agent is not restarted automatically now."""
        return self.leave_down or offline_orders.keeps_down(self._folder)

    def _fall(self, row: AgentRow, why: str | None, error: Exception | None) -> Fall:
        """Build the failure record of this launch; `why` is None if unknown."""
        run = last_run(self._folder)
        if run is not None and run.launch_id != row.launch_id:
            run = None
        for_a_person = error is not None and _only_a_person_mends(error)
        if run is not None and run.failure is not None:
            hints = RUNTIMES[row.runtime].hints if row.runtime in RUNTIMES else {}
            for_a_person = restart_policy.needs_a_person(run.failure.reason, run.failure.stderr, hints)
        with_machine = run is not None and bool(run.boot) and run.boot != boot_id.boot_id()
        return Fall(
            at=self.context.clock(),
            of=f"{row.launch_id}/{run.incarnation if run is not None else 0}",
            why=why or (_WITH_MACHINE if with_machine else _GONE),
            ready_at=run.ready_at if run is not None else None,
            with_machine=with_machine,
            for_a_person=for_a_person,
        )

    # --- trying again -------------------------------------------------------------------------------------------

    async def _wait(self, due: float | None) -> None:
        """Wait until the agent's row changes, something else starts it, or its restart is due; then set it to start."""
        longest = None if due is None else due - self.context.clock()
        # An agent host that an earlier process of Muster was starting may appear only now.
        while not host_lifecycle.is_running(self._folder):
            if due is not None and longest is not None:
                # The wait never exceeds the announced time, even if the clock is set back meanwhile.
                due = min(due, self.context.clock() + longest)
            left = None if due is None else due - self.context.clock()
            if left is not None and left <= 0:
                if await self._try():
                    return
                left = ASIDE
            try:
                async with asyncio.timeout(None if left is None else min(left, LOOK_AGAIN)):
                    await self.changed.wait()
                return
            except TimeoutError:
                continue

    async def _try(self) -> bool:
        """Set the agent to start. Return False if a command holds the agent, which takes precedence."""
        async with self.context.store.write(REVIVE) as tx:
            row = await agents.get(tx, self.name)
            if row is None or row.wanted != "running" or row.state not in ENDED:
                return True
            if await is_held(tx, self.name, self.context.clock()):
                return False
            await agents.change(
                tx,
                self.name,
                under=row.launch_id,
                state="starting",
                detail=None,
                at_once=False,
                launch_id=restart_policy.try_id(row.launch_id),
                started_at=self.context.clock(),
                stopped_at=None,
                revival=restart_policy.tried(RestartRecord.from_json(row.revival)).to_json(),
            )
        log.info("agent.tried_again", agent=self.name, launch=restart_policy.try_id(row.launch_id))
        return True


def _only_a_person_mends(error: Exception) -> bool:
    """Return whether the error that prevented the start will persist over any number of retries."""
    if isinstance(error, SpawnBarred):
        return True
    if isinstance(error, OSError | SpawnFailed | AgentRefused | AgentUnreachable):
        return False
    return isinstance(error, MusterError)


def outlook(name: str, record: RestartRecord, fall: Fall, limits: RestartLimits) -> str:
    """Return what happens next after a failure, for the agent's thread."""
    again = command_line(f"restart {name}")
    if record.ended == restart_policy.FOR_A_PERSON:
        return f"🛑 Another attempt would fail too, so {name} stays down. Fix the cause; then {again} starts it."
    if record.ended:
        span = markdown.span(limits.window)
        return (
            f"🛑 {name} fell {len(record.falls)} times within {span} and is not started again by itself. "
            f"Once the cause is fixed, {again} starts it."
        )
    if fall.with_machine:
        return "↻ It comes up again by itself."
    wait = markdown.span((record.try_at or fall.at) - fall.at)
    more = ""
    if len(record.falls) > 1:
        span = markdown.span(limits.window)
        more = f" It failed {len(record.falls)} times within {span}; after {limits.falls} it stays down."
    return f"↻ It starts again by itself in {wait}.{more}"
