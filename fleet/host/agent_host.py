"""One agent, from the start of its runtime to its end: which part of the agent host acts when."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from core.async_waits import first_of
from fleet.approval_rules.requests import RequestFacts
from fleet.approval_rules.rules import ApprovalRule
from fleet.approval_rules.runtime_requests import facts_of
from fleet.control.host_spec import AgentSpec
from fleet.control.rules_in_force import RulesInForce, rules_from_json
from fleet.host.acp.update_parser import KnownToolCall, clean
from fleet.host.aside.side_questions import SideQuestions
from fleet.host.background_processes import BackgroundWatch
from fleet.host.background_tasks import BackgroundTasks
from fleet.host.handover.handovers import Handovers
from fleet.host.heartbeat import Heartbeat
from fleet.host.journal_fanout import JournalFanout
from fleet.host.journal_writer import JournalNotWritable
from fleet.host.mcp.pending_tool_calls import PendingToolCalls
from fleet.host.permission_requests import PendingPermissions
from fleet.host.runtime_lifetime import RuntimeLife
from fleet.host.state import AgentState, cut_off
from fleet.host.turn_queue import TurnQueue
from fleet.host.update_recorder import UpdateRecorder
from fleet.hosting.host_command_line import SPEC
from fleet.journal import reader as journals
from fleet.journal.events import Closing, Event, RuntimeFailed
from fleet.tools import Tool

#: A turn that was cancelled so that the agent can end has this long to do so.
_CANCEL_S: Final = 3.0


class AgentHost:
    """One agent: its journal, its runtime, and what may be asked of them. `open` it, then `run` it."""

    def __init__(self, chronicle: JournalFanout) -> None:
        self.spec = chronicle.spec
        self.chronicle = chronicle
        self.rules = RulesInForce(
            rules_from_json(self.spec.approval_rules),
            workspace=Path(self.spec.workspace),
            sandboxed=self.spec.sandboxed,
            clock=chronicle.clock,
        )
        self.desk = PendingPermissions(
            chronicle.journal,
            timeout_s=self.spec.permission_timeout_s,
            clock=chronicle.clock,
            grants=lambda: chronicle.state.grants,
            judge=self.rules.judge,
            sandboxed=self.spec.sandboxed,
        )
        chronicle.on_unwritable = self.desk.deny_all
        self.tasks = BackgroundTasks()
        self._transcript = UpdateRecorder(chronicle, self.desk, self._facts_of)
        self.turns = TurnQueue(chronicle, self._transcript, self.desk, self.tasks)
        self.calls = PendingToolCalls(
            lambda: chronicle.journal,
            [Tool.from_json(tool) for tool in self.spec.tools],
            turn=lambda: self._transcript.prompting,
            clock=time.monotonic,
            wait_s=self.spec.tool_wait_s,
            answer_s=self.spec.tool_answer_s,
        )
        self._heartbeat = Heartbeat(chronicle, self.tasks)
        self._background = BackgroundWatch(chronicle.spec.marker)
        self.asides = SideQuestions(chronicle, self.tasks, facts_of=self._facts_of, judge=self.rules.judge)
        self._life = self._new_life()
        self._lived = False
        self.handovers = Handovers(chronicle, self.turns, refused=self._takes_no_order)
        self.finished = False
        self._keeping_rules = asyncio.Lock()
        self._phase = "starting"
        self._detail: str | None = None
        self._stop_reason: str | None = None
        self._stop_now = False

    @classmethod
    async def open(cls, spec: AgentSpec, earlier: AgentState, *, clock: Callable[[], float] = time.time) -> AgentHost:
        """Begin a new incarnation of the journal on top of the `earlier` state.

        Raises:
            JournalNotWritable: it could not be begun.
        """
        return cls(await JournalFanout.open(spec, earlier, clock=clock))

    # --- living ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the runtime, work until it ends or the agent is stopped, and close the journal's last chapter."""
        try:
            await first_of(self._live(), self.chronicle.journal.failed())
        finally:
            await self._life.end(gently=False)
            self._life.noise.close()
            self.finish()

    def finish(self) -> None:
        """Nothing more comes: whoever follows may go."""
        self.finished = True
        self.chronicle.pulse.ring()

    async def _live(self) -> None:
        await self.chronicle.say(*cut_off(self.chronicle.state, "The agent host ended in the middle of it."))
        for message in self.spec.withdrawn:
            with contextlib.suppress(JournalNotWritable):
                await self.turns.withdraw(message)
        while True:
            failure = await self._unless_stopped(self._start())
            if failure is not None:
                self._enter("failed", failure.reason)
                await self._life.end(gently=False)
                await self.chronicle.say(failure, Closing(reason="the runtime did not start"))
                return
            if self._stop_reason is None:
                await self._work()
            if self._stop_reason is not None or self._life.silent or not self.handovers.due:
                break
            await self._hand_over()
            if self._stop_reason is not None:
                break
            self._go_on()
        self.handovers.refuse("The agent is about to end.", "stopping")
        await self._close()

    def _new_life(self) -> RuntimeLife:
        return RuntimeLife(self.chronicle, on_update=self._updated, on_permission=self._asked)

    def _enter(self, phase: str, detail: str | None = None) -> None:
        self._phase = phase
        self._detail = detail or self._detail
        if phase in {"stopping", "failed"}:
            self.turns.close()

    async def _start(self) -> RuntimeFailed | None:
        """Bring the runtime up; how it failed, or None."""
        state = self.chronicle.state
        first = self.spec.taken_over and self.spec.taken_over not in state.sessions
        known = self.spec.taken_over if first else state.session
        outcome = await self._life.start(known, taken_over=bool(first), goes_on=self._lived)
        if isinstance(outcome, RuntimeFailed):
            return outcome
        self._lived = True
        self._transcript.listen(outcome.session)
        await asyncio.to_thread(self._background.settle)
        self.turns.serve(self._life)
        self.asides.serve(self._life)
        self._enter("idle")
        await self.chronicle.say(outcome)
        return None

    async def background(self, *, turn_over_s: float) -> dict[str, object]:
        """Return what runs in the background, once no turn is open or that much time has passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(turn_over_s):
                await self.chronicle.pulse.until(lambda: self.chronicle.state.turn is None)
        # The session of a question on the side may be a process of its own, such as another `claude`.
        but = self.spec.child_names if self.chronicle.state.aside is not None else ()
        return await asyncio.to_thread(self._background.look, but)

    async def _unless_stopped(self, starting: Coroutine[Any, Any, RuntimeFailed | None]) -> RuntimeFailed | None:
        task = asyncio.ensure_future(starting)
        stopped = asyncio.ensure_future(self.chronicle.pulse.until(lambda: self._stop_reason is not None))
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _work(self) -> None:
        """Turns and heartbeats, until the runtime ends or the agent is to stop."""
        await first_of(
            self.turns.run(),
            self._heartbeat.run(self._life),
            self._until_stopped(),
            self.handovers.until_due(),
            self._life.until_ended(),
        )

    async def _until_stopped(self) -> None:
        """Wait until the agent is to stop and its turn is over, or was cancelled and had its time."""
        chronicle = self.chronicle
        await chronicle.pulse.until(lambda: self._stop_reason is not None)
        self._enter("stopping")
        await self.turns.settled()
        await chronicle.pulse.until(lambda: chronicle.state.turn is None or self._stop_now)
        if chronicle.state.turn is not None:
            self.turns.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_S):
                    await chronicle.pulse.until(lambda: chronicle.state.turn is None)

    def _takes_no_order(self) -> tuple[str, str] | None:
        """Return why the agent cannot be handed over now, as code and sentence, or None if it can."""
        if self._stop_reason is not None or self._phase in {"stopping", "failed"}:
            return "stopping", "The agent is about to end."
        if self._phase != "idle":
            return "starting", "Its runtime is just starting."
        if not self.chronicle.journal.writable:
            return "not_writable", "Its journal cannot be written."
        return None

    async def _hand_over(self) -> None:
        """End the runtime, and let a person's terminal have the conversation until it is given back."""
        await self.asides.stop()
        await self._life.end(gently=True)
        self._phase = "handed over"
        self._life.noise.tell()
        self.desk.lose_all()
        await self.chronicle.say(
            *cut_off(self.chronicle.state, "It was handed over to a terminal in the middle of it.")
        )
        await self.handovers.carry_out(lambda: self._stop_reason is not None and self._stop_now)

    def _go_on(self) -> None:
        """Be ready to start the runtime again."""
        self._life.noise.close()
        self._life = self._new_life()
        self._heartbeat = Heartbeat(self.chronicle, self.tasks)
        self._phase = "starting"
        self.turns.resume()

    async def _close(self) -> None:
        """Say how it ended, and end everything that belongs to the agent."""
        await self.asides.stop()
        died: list[Event] = []
        if self._stop_reason is None and self._life.process is not None:
            self._enter("failed")
            death = await self._life.death()
            self._enter("failed", death.reason)
            died.append(death)
        else:
            self._enter("stopping")
            await self._life.end(gently=True)
        self._life.noise.tell()
        self.desk.lose_all()
        await self.chronicle.say(*died)
        detail = self._detail or "The agent was stopped in the middle of it."
        await self.chronicle.say(*cut_off(self.chronicle.state, detail))
        await self.chronicle.say(Closing(reason=self._stop_reason or "the runtime ended"))

    # --- what may be asked of it ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return what is known now, and when it was seen (docs/reference/control-protocol.md)."""
        known, journal, heartbeat = self.chronicle.state, self.chronicle.journal, self._heartbeat
        turn = known.turn
        state = self._phase
        if state == "idle":
            state = "waiting" if self.desk.waiting else "working" if turn is not None else "idle"
        elif state == "handed over":
            state = "working"
        detail = self._detail
        if not journal.writable:
            detail = f"The journal cannot be written ({journal.trouble}): no prompt is started, nothing allowed."
        return {
            "state": state,
            "runtime_pid": self.handovers.pid or self._life.pid,
            "pinged_at": heartbeat.pinged_at,
            "ping_ms": heartbeat.ping_ms,
            "unanswered_since": heartbeat.unanswered_since,
            "adapter": self.spec.adapter,
            "child": heartbeat.child,
            "event_at": self._transcript.event_at if turn is not None else None,
            "turn": turn.turn if turn is not None else None,
            "turn_started_at": turn.started_at if turn is not None else None,
            "activity": self._transcript.activity if turn is not None else None,
            "queued": len(known.queue),
            "session": known.session,
            "turns": known.turns,
            "position": {"incarnation": journal.position.incarnation, "seq": journal.position.seq},
            "writable": journal.writable,
            "terminal_by": known.handed_to,
            "terminal_since": known.handed_at,
            "detail": detail,
        }

    async def set_rules(self, rules: Sequence[ApprovalRule]) -> None:
        """Judge by these approval rules from now on, and after a start without the orchestrator, too. Requests that
        wait are judged again.

        Raises:
            OSError: they hold now, and could not be kept for the next start.
        """
        self.rules.replace(rules)
        async with self._keeping_rules:
            spec = replace(self.spec, approval_rules=tuple(rule.to_json() for rule in self.rules.rules))
            try:
                await asyncio.to_thread(spec.write, Path(spec.folder) / SPEC)
            finally:
                await self.desk.reconsider()

    def _updated(self, session: str, update: dict[str, Any]) -> None:
        """Take what the runtime says in one of its sessions."""
        if self.asides.is_of(session):
            self.asides.updated(update)
        else:
            self._transcript.updated(session, update)

    async def _asked(self, session: str, tool_call: dict[str, Any], options: Any) -> str | None:
        """Answer what the runtime asks for in one of its sessions."""
        if self.asides.is_of(session):
            return self.asides.asked(tool_call, options)
        return await self._transcript.asked(session, tool_call, options)

    def _facts_of(self, call: KnownToolCall) -> RequestFacts:
        return facts_of(self.spec.runtime, call)

    async def tail(self, count: int) -> list[dict[str, Any]]:
        """Return the journal's last entries, as JSON."""
        entries = await asyncio.to_thread(journals.read_last, self.chronicle.folder, max(0, min(count, 1000)))
        return [entry.to_json() for entry in entries if entry.position <= self.chronicle.journal.position]

    async def shut_down(self, *, now: bool, reason: str) -> None:
        """End the agent at its turn's end, or `now`; come back when its runtime is gone to the last process."""
        self._stop_now = self._stop_now or now
        self._stop_reason = self._stop_reason or clean(reason)[:1000] or "asked to stop"
        self.turns.pause()
        self.chronicle.pulse.ring()
        await self.chronicle.pulse.until(lambda: self.finished)
