"""What happens to an agent that has no host: it is started, told to be gone, tried again, or given up.

Whether it is tried again is decided in `fleet.supervision.restart_policy`, and is in the register in the
transaction that tells of it; an orchestrator that comes later goes on where this one was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from bot.agents.journal.projection import end_in_words
from bot.commands import sections
from bot.commands.agent_lock import is_held
from bot.commands.syntax import command_line, from_shell
from bot.text import markdown
from core import boot_id
from core.crash_points import around, declare
from core.errors import MusterError, RegisterError
from database.queries.agents import agent_messages, agents
from database.queries.chat import approvals
from fleet.errors import AgentRefused, AgentUnreachable, FleetError
from fleet.journal import reader
from fleet.journal.last_run import last_run
from fleet.roster.drift import ENDED
from fleet.runtimes import RUNTIMES
from fleet.supervision import host_lifecycle, restart_policy
from fleet.supervision.host_lifecycle import HostNotReady, SpawnBarred, SpawnFailed
from fleet.supervision.restart_policy import Fall, RestartLimits, RestartRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bot.agents.context import AgentContext
    from bot.agents.journal.commit_fetcher import CommitSource
    from bot.agents.journal.follower import JournalFollower
    from database.queries.agents.agents import AgentRow

log = structlog.get_logger(__name__)

GONE = declare("agent.gone")
SPAWN = declare("agent.spawn")
SPAWN_FAILED = declare("agent.spawn_failed")
FELL = declare("agent.fell")
REVIVE = declare("agent.revive")

#: While an agent waits for its next try, it is looked at so often whether someone else started it, seconds.
LOOK_AGAIN = 5.0
#: A try that a command is in the way of is put off by so much, seconds.
ASIDE = 0.5
#: So many are tried again at one time.
TRY_AT_ONCE = 4
#: Seconds between two that are found down when Muster starts, so that a fleet does not come up all at once.
STAGGER_S = 1.0

#: How often an agent is tried again, and how long between.
LIMITS = RestartLimits()

#: Why an agent fell of which no one says why.
_GONE = "the agent host exited unexpectedly"
_WITH_MACHINE = "it ended when the machine restarted"
#: What is said of an agent host that ended with no word of its own, by what is wanted of it.
_END = {"stopped": "killed, with everything it had started", "frozen": "its process is gone; all that it is, is kept"}


class Starter(Protocol):
    """Starts agent hosts; `fleet.launch.host_spec_builder` knows how."""

    async def start(
        self, row: AgentRow, *, floor: int, grants: Sequence[approvals.Grant], withdrawn: Sequence[str]
    ) -> None:
        """Start the agent host of `row`, and return when it answers.

        Raises:
            FleetError: it cannot be started; the message is for the operator.
        """

    def folder(self, name: str) -> Path: ...

    def socket(self, name: str) -> Path: ...

    @property
    def workspaces(self) -> CommitSource: ...

    def discard_workspace(self, workspace: Path, name: str) -> bool: ...


@dataclass(slots=True)
class Turnstile:
    """Lets the agents of a fleet be tried again one after the other."""

    spacing: float = STAGGER_S
    at_once: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRY_AT_ONCE))
    _next: float = 0.0
    _last: float = 0.0

    def slot(self, now: float) -> float:
        """Return the next moment that is no one's, from `now` on; seconds since the epoch."""
        back, self._last = max(0.0, self._last - now), now
        at = max(now, self._next - back)
        self._next = at + self.spacing
        return at


@dataclass(kw_only=True, slots=True)
class Reviver:
    """Sees to one agent while it has no host."""

    name: str
    context: AgentContext
    follower: JournalFollower
    changed: asyncio.Event
    """Set when the agent's row in the register changed."""
    left_over: frozenset[str] | None = None
    """The markers that processes carried when the orchestrator began, for an agent that was stopped then; None: it
    looks for itself."""
    leave_down: bool = False
    """One that is found down when Muster starts is left so."""
    _found_down: bool = True
    """It was not seen to run since Muster started."""

    @property
    def _folder(self) -> Path:
        return self.context.starter.folder(self.name)

    def seen_up(self) -> None:
        """It runs."""
        self._found_down = self.leave_down = False

    async def attend(self, begun: Callable[[], None]) -> None:
        """Do what is to be done now for an agent without a host; come back when something may be different.

        Args:
            begun: called once it is known what there is to be done.
        """
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
        """Return whether this launch has had its agent host already.

        A launch is started once; a try is another launch.
        """
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
            async with self.context.turnstile.at_once if again else contextlib.nullcontext():
                with around(SPAWN):
                    # Before a turn of theirs could begin; whoever is only told of it once it runs is told too late.
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
        """The agent host runs and does not answer. What happens to it is not known: it has not failed."""
        async with self.context.store.write(SPAWN_FAILED) as tx:
            now_found = await agents.get(tx, self.name)
            if now_found is None or now_found.launch_id != row.launch_id:
                return
            reason = self.context.teller.redaction(reason)
            if now_found.state == "starting":
                await agents.change(tx, self.name, under=row.launch_id, state="unknown", detail=reason)
            force = f"{command_line(f'kill {self.name}')} ends it"
            text = f"⚠️ {reason} It is there and may answer yet; {force}."
            await self.context.teller.note(tx, row, f"silent/{row.launch_id}", text)
        self.context.wake_delivery()

    async def _not_started(self, row: AgentRow, error: Exception) -> None:
        reason = self.context.teller.redaction(str(error))
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
                await self.context.teller.note(tx, row, f"spawn/{row.launch_id}", text)
        self.context.wake_delivery()

    # --- falling ------------------------------------------------------------------------------------------------

    async def _report_gone(self, row: AgentRow) -> None:
        """The host is not there. Where its journal does not say why, say what is known, and end what it left open."""
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
        if self.follower.story.over and row.wanted != "running":
            if not left:
                await self._never_came(row)
            return
        if self.follower.story.over and row.state in ENDED:
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
            if not self.follower.story.over:
                await self.context.teller.gone(tx, row, self.follower.story, reason, next_, words)
        self.follower.close()
        self.context.wake_delivery()

    async def _never_came(self, row: AgentRow) -> None:
        """A launch that was given up before it had a host: it is what is wanted of it, and nothing is left to tell."""
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
        """Return when the agent is to be tried again; None: it is not.

        A fall that its journal told is dealt with here.
        """
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
                await self.context.teller.note(
                    tx, row, f"fell/{fall.of}", end + outlook(self.name, record, fall, self.context.limits)
                )
            self.context.wake_delivery()
        now = self.context.clock()
        due = restart_policy.due(record, now, self.context.limits)
        if due is None:
            return None
        return max(due, self.context.turnstile.slot(now)) if self._found_down else due

    async def _left_down(self, row: AgentRow) -> None:
        """Tell the end of an agent that nothing starts again by itself now, unless it was told."""
        fall = await asyncio.to_thread(self._fall, row, row.detail or "it ended", None)
        end = await asyncio.to_thread(self._end, row)
        if not end or RestartRecord.from_json(row.revival).of == fall.of:
            return
        async with self.context.store.write(FELL) as tx:
            back = f"{command_line(f'restart {self.name}')} brings it back."
            await self.context.teller.note(tx, row, f"fell/{fall.of}", f"{end}{back}")
        self.context.wake_delivery()

    def _end(self, row: AgentRow) -> str:
        """Return what the agent host said of this launch's end, to be before what follows; empty if nothing."""
        run = last_run(self._folder)
        if run is None or run.launch_id != row.launch_id or run.end is None:
            return ""
        return f"{end_in_words(run.end, self.name)}\n\n"

    def _is_left_down(self) -> bool:
        """Return whether the agent is not started again by itself now."""
        return self.leave_down or host_lifecycle.stays_down(self._folder)

    def _fall(self, row: AgentRow, why: str | None, error: Exception | None) -> Fall:
        """Return what happened to this launch; `why` is None where no one said."""
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
        """Wait until its row changes, someone else starts it, or it is due; then it is set to be started."""
        longest = None if due is None else due - self.context.clock()
        # One that an earlier process of ours was starting may come only now.
        while not host_lifecycle.is_running(self._folder):
            if due is not None and longest is not None:
                # As long as was said, also when the clock is put back meanwhile.
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
        """Set it to be started; False: a command is at it, which goes first."""
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
    """Return whether what kept an agent from being started stays as it is, however often it is tried."""
    if isinstance(error, SpawnBarred):
        return True
    if isinstance(error, OSError | SpawnFailed | AgentRefused | AgentUnreachable):
        return False
    return isinstance(error, MusterError)


def outlook(name: str, record: RestartRecord, fall: Fall, limits: RestartLimits) -> str:
    """Return what is going to happen after a fall, for the agent's thread."""
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
        more = f" It fell {len(record.falls)} times within {span}; after {limits.falls} it stays down."
    return f"↻ It starts again by itself in {wait}.{more}"
