"""The agent host's core: the queue of messages, one turn at a time, and what becomes of the runtime.

Everything that happens goes into the journal, and what is known (`fleet.host.state`) is folded from what is in it. So
a crash at any point leaves a journal from which the next start knows what was done, and what is uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet import journal as journals
from fleet import sweep
from fleet.errors import AgentRefused
from fleet.events import (
    Closing,
    MessageQueued,
    MessageWithdrawn,
    Noise,
    Notice,
    Opened,
    PermissionAnswered,
    PermissionAsked,
    Plan,
    Position,
    RuntimeDied,
    RuntimeFailed,
    RuntimeStarted,
    TextChunk,
    ThoughtChunk,
    ToolCall,
    TurnAccepted,
    TurnEnded,
    TurnStarted,
    Usage,
)
from fleet.host import images
from fleet.host.acp_client import AcpClient, PromptEnd, RuntimeTrouble
from fleet.host.journal import JournalNotWritable, JournalWriter
from fleet.host.permissions import PermissionDesk
from fleet.host.pulse import Pulse
from fleet.host.runtime import RuntimeProcess, hint_for, missing_program, reap_orphans
from fleet.host.session import Established, establish
from fleet.host.state import STARTED, AgentState, carried, cut_off
from fleet.host.transport import StdioTransport
from fleet.host.updates import Call, call_of, clean, events_of, permission_of, quoted, usage_fields
from fleet.spec import CONTROL_PROTOCOL
from fleet.sweep import Unsweepable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleet.events import Entry, Event
    from fleet.spec import AgentSpec

TEXT_CHARACTERS: Final = 1_000_000
QUEUED_MESSAGES: Final = 200
QUEUED_BYTES: Final = 6 * 2**20
_ID_CHARACTERS: Final = 200
#: A turn that was cancelled so that the agent can end has this long to do so.
_CANCEL_S: Final = 3.0
#: A runtime whose input was closed has this long to put its things away.
_LEAVE_S: Final = 2.0
_NOISE_FIRST_S: Final = 0.5
_NOISE_EVERY_S: Final = 300.0
_CALLS: Final = 256
_STATE_CHANGES: Final = (RuntimeStarted, TurnStarted, TurnEnded, PermissionAsked, PermissionAnswered)
#: What a runtime says in one turn (and after it, up to the next) is kept up to so many characters.
_TURN_CHARACTERS: Final = 32 * 2**20


class AgentHost:
    """One agent: its journal, its runtime, and what may be asked of them. `open` it, then `run` it."""

    def __init__(self, spec: AgentSpec, *, clock: Callable[[], float] = time.time) -> None:
        self.spec = spec
        self.state = AgentState()
        self.pulse = Pulse()
        """Rung whenever an entry becomes durable, a status is due, or the agent host comes to its end."""
        self.beats = 0
        """How many heartbeats there were; each is worth a status to who follows."""
        self.finished = False
        self._clock = clock
        self._folder = Path(spec.folder)
        self._journal: JournalWriter | None = None
        self._desk: PermissionDesk | None = None
        self._phase = "starting"
        self._detail: str | None = None
        self._runtime: RuntimeProcess | None = None
        self._client: AcpClient | None = None
        self._established: Established | None = None
        self._replaying = True
        self._stream_ended = asyncio.Event()
        self._queue_lock = asyncio.Lock()
        self._turn_count = 0
        self._prompting: str | None = None
        self._cancel_wanted: str | None = None
        self._accepted: str | None = None
        self._calls: dict[str, Call] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        self._event_at: float | None = None
        self._activity: str | None = None
        self._pinged_at: float | None = None
        self._ping_ms: float | None = None
        self._child: str | None = None
        self._noise_lines = 0
        self._noise_total = 0
        self._noise_sample = ""
        self._noise_told = False
        self._said_characters = 0
        self._stop_reason: str | None = None
        self._stop_now = False

    # --- beginning ------------------------------------------------------------------------------------------------

    @classmethod
    async def open(cls, spec: AgentSpec, earlier: AgentState, **settings: Any) -> AgentHost:
        """Begin a new incarnation of the journal on top of the `earlier` state.

        Raises:
            JournalNotWritable: it could not be begun.
        """
        host = cls(spec, **settings)
        host.state = replace(earlier, grants={grant["digest"]: grant.get("title", "") for grant in spec.grants})
        host._journal = await JournalWriter.open(
            host._folder,
            floor=spec.incarnation_floor,
            opened=host._opened,
            on_durable=host._durable,
            on_trouble=host._trouble,
            clock=host._clock,
        )
        host._desk = PermissionDesk(
            host._journal,
            timeout_s=spec.permission_timeout_s,
            clock=host._clock,
            grants=lambda: host.state.grants,
        )
        return host

    @property
    def journal(self) -> JournalWriter:
        assert self._journal is not None
        return self._journal

    @property
    def desk(self) -> PermissionDesk:
        assert self._desk is not None
        return self._desk

    @property
    def folder(self) -> Path:
        return self._folder

    def _opened(self) -> Opened:
        return Opened(
            agent=self.spec.agent,
            launch_id=self.spec.launch_id,
            marker=self.spec.marker,
            pid=os.getpid(),
            protocol=CONTROL_PROTOCOL,
            carried=carried(self.state),
            continues=self._journal is not None,
        )

    def _durable(self, entries: list[Entry]) -> None:
        for entry in entries:
            self.state = self.state.after(entry)
        if any(isinstance(entry.event, _STATE_CHANGES) for entry in entries):
            # Once whoever waits for the entry has gone on, the status is another.
            asyncio.get_running_loop().call_soon(self._beat)
        self.pulse.ring()

    def _beat(self) -> None:
        """A status is due."""
        self.beats += 1
        self.pulse.ring()

    def _trouble(self, writable: bool) -> None:
        if not writable:
            self.desk.deny_all()
        self._beat()

    # --- living ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start the runtime, work until it ends or the agent is stopped, and close the journal's last chapter."""
        breakdown = asyncio.ensure_future(self.journal.failed())
        living = asyncio.ensure_future(self._live())
        try:
            await asyncio.wait({breakdown, living}, return_when=asyncio.FIRST_COMPLETED)
            if living.done():
                living.result()
            else:
                breakdown.result()
        finally:
            living.cancel()
            breakdown.cancel()
            await asyncio.gather(living, breakdown, return_exceptions=True)
            await self._end_runtime(gently=False)
            self.finished = True
            self.pulse.ring()

    async def _live(self) -> None:
        await self._say(*cut_off(self.state, "The agent host ended in the middle of it."))
        failure = await self._unless_stopped(self._start())
        if failure is not None:
            self._phase, self._detail = "failed", failure.reason
            await self._end_runtime(gently=False)
            await self._say(failure, Closing(reason="the runtime did not start"))
            return
        if self._stop_reason is None:
            await self._work()
        await self._close()

    async def _unless_stopped(self, starting: Any) -> RuntimeFailed | None:
        task: asyncio.Task[RuntimeFailed | None] = asyncio.ensure_future(starting)
        stopped = asyncio.ensure_future(self.pulse.until(lambda: self._stop_reason is not None))
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _start(self) -> RuntimeFailed | None:
        """Bring the runtime up; how it failed, or None."""
        try:
            self._runtime = await RuntimeProcess.start(self.spec)
        except (OSError, ValueError) as error:
            reason = missing_program(self.spec.command, error) if isinstance(error, OSError) else f"{error}."
            return RuntimeFailed(reason=reason)
        transport = StdioTransport(
            self._runtime.stdin,
            self._runtime.stdout,
            room=self.journal.room,
            on_noise=self._noise,
            on_end=self._stream_ended.set,
        )
        self._client = AcpClient(transport, on_update=self._updated, on_permission=self._permission)
        try:
            async with asyncio.timeout(self.spec.initialize_timeout_s):
                ready = await establish(self._client, self.spec, self.state.session)
        except TimeoutError:
            return await self._failed(f"The runtime was not ready after {self.spec.initialize_timeout_s:g} s.")
        except RuntimeTrouble as error:
            if self._stream_ended.is_set():
                how = await self._how_it_ended()
                return await self._failed(f"The runtime {how} before it was ready.")
            return await self._failed(str(error))
        self._established = ready
        self._phase = "idle"
        await self._say(
            RuntimeStarted(
                pid=self._runtime.pid,
                session=ready.session,
                loaded=ready.loaded,
                images=ready.images,
                note=ready.note,
            )
        )
        return None

    async def _failed(self, reason: str) -> RuntimeFailed:
        assert self._runtime is not None
        if self._noise_total:
            printed = quoted(self._noise_sample, 100)
            reason = f"{reason} It printed {self._noise_total} lines that are no protocol, such as {printed}."
        await self._end_runtime(gently=False)
        stderr = await self._runtime.last_words()
        hint = hint_for(f"{reason}\n{stderr}", self.spec.hints)
        return RuntimeFailed(reason=f"{reason} {hint}" if hint else reason, stderr=stderr)

    async def _how_it_ended(self) -> str:
        """What can be said of a runtime that says nothing more."""
        assert self._runtime is not None
        try:
            return str(await asyncio.wait_for(self._runtime.wait(), _LEAVE_S))
        except TimeoutError:
            return "closed its output"

    async def _work(self) -> None:
        """Turns and heartbeats, until the runtime ends or the agent is to stop."""
        turns = asyncio.ensure_future(self._turns())
        beating = asyncio.ensure_future(self._heartbeat())
        stopping = asyncio.ensure_future(self._until_stopped())
        ended = asyncio.ensure_future(self._until_ended())
        everything = {turns, beating, stopping, ended}
        try:
            done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _until_ended(self) -> None:
        """Wait until the runtime says nothing more, or its process is gone although something holds its pipes."""
        assert self._runtime is not None
        stream = asyncio.ensure_future(self._stream_ended.wait())
        process = asyncio.ensure_future(self._runtime.wait())
        try:
            await asyncio.wait({stream, process}, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(stream), _LEAVE_S)
        finally:
            stream.cancel()
            process.cancel()

    async def _until_stopped(self) -> None:
        """Wait until the agent is to stop and its turn is over, or was cancelled and had its time."""
        await self.pulse.until(lambda: self._stop_reason is not None)
        self._phase = "stopping"
        async with self._queue_lock:
            pass  # A turn that was just being begun has begun.
        await self.pulse.until(lambda: self.state.turn is None or self._stop_now)
        if self.state.turn is not None:
            self.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_S):
                    await self.pulse.until(lambda: self.state.turn is None)

    async def _close(self) -> None:
        """Say how it ended, and end everything that belongs to the agent."""
        runtime = self._runtime
        stopped = self._stop_reason is not None
        self._phase = "stopping" if stopped else "failed"
        died: list[Event] = []
        if not stopped and runtime is not None:
            how = await self._how_it_ended()
            await self._end_runtime(gently=False)
            stderr = await runtime.last_words()
            hint = hint_for(stderr, self.spec.hints)
            turn = self.state.turn.turn if self.state.turn else None
            self._detail = f"The runtime {how}." + (f" {hint}" if hint else "")
            died.append(RuntimeDied(reason=self._detail, stderr=stderr, turn=turn))
        else:
            await self._end_runtime(gently=True)
        self._tell_noise()
        self.desk.lose_all()
        await self._say(*died)
        await self._say(*cut_off(self.state, self._detail or "The agent was stopped in the middle of it."))
        reason = self._stop_reason or "the runtime ended"
        await self._say(Closing(reason=reason))

    async def _end_runtime(self, *, gently: bool) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        runtime = self._runtime
        if gently and runtime is not None and runtime.alive:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(runtime.wait(), _LEAVE_S)
        try:
            if runtime is not None:
                await runtime.end()
            else:
                await asyncio.to_thread(sweep.sweep, self.spec.marker, below=os.getpid())
        except Unsweepable as error:
            self.journal.record(Notice(text=str(error)))

    async def _say(self, *events: Event) -> None:
        """Put events into the journal: durably if that can be, or as soon as it can."""
        if not events:
            await self.journal.flushed()
            return
        try:
            await self.journal.append(*events)
        except JournalNotWritable:
            for event in events:
                self.journal.record(event)

    # --- turns ----------------------------------------------------------------------------------------------------

    async def _turns(self) -> None:
        while True:
            await self.pulse.until(lambda: bool(self.state.queue) and self.journal.writable and not self._stop_reason)
            async with self._queue_lock:
                begun = await self._begin_turn()
            if begun is not None:
                turn, message = begun
                await self._turn(turn, message)

    async def _begin_turn(self) -> tuple[str, MessageQueued] | None:
        if not self.state.queue or self._stop_reason is not None or self._established is None:
            return None
        if self._stream_ended.is_set():
            return None
        message = self.state.queue[0]
        self._turn_count += 1
        turn = f"{self.journal.incarnation}-{self._turn_count}"
        self._event_at, self._activity = None, None
        self._said_characters = 0
        self._calls.clear()
        try:
            await self.journal.append(TurnStarted(turn=turn, message=message.id, session=self._established.session))
        except JournalNotWritable:
            return None
        return turn, message

    async def _turn(self, turn: str, message: MessageQueued) -> None:
        assert self._client is not None
        assert self._established is not None
        text = [message.text]
        if self.spec.instructions and not self.state.introduced:
            text.insert(0, self.spec.instructions)
        pictures = await asyncio.to_thread(images.load, message.images)
        lost = len(message.images) - len(pictures)
        if lost:
            self.journal.record(Notice(text=f"{lost} pictures of this message are gone and were left out.", turn=turn))
        if self._cancel_wanted == turn:
            end = PromptEnd(stop_reason="cancelled")
        else:
            self._replaying = False
            self._prompting = turn
            try:
                end = await self._client.prompt(self._established.session, text, pictures)
            except RuntimeTrouble as error:
                if self._stream_ended.is_set():
                    # What became of the turn is told with the runtime's end; no other one may begin before that.
                    await self.pulse.until(lambda: self.finished)
                    return
                said = str(error)
                hint = hint_for(said, self.spec.hints)
                end = PromptEnd(stop_reason="error", detail=f"{said} {hint}" if hint else said)
            finally:
                self._prompting = None
            if end.stop_reason != "error":
                self._accept(turn)
        self.desk.cancel_all(turn)
        if usage := usage_fields(end.usage):
            self.journal.record(Usage(turn=turn, fields=usage))
        self.journal.record(
            TurnEnded(
                turn=turn,
                message=message.id,
                stop_reason=end.stop_reason,
                accepted=self._accepted == turn,
                detail=end.detail,
            )
        )
        await self.pulse.until(lambda: self.state.turn is None)
        await asyncio.to_thread(images.forget, message.images)

    def _accept(self, turn: str | None) -> None:
        """The runtime shows that it has the turn's prompt."""
        open_turn = self.state.turn
        if open_turn is not None and open_turn.turn == turn and self._accepted != turn:
            self._accepted = turn
            self.journal.record(TurnAccepted(turn=open_turn.turn, message=open_turn.message))

    def _updated(self, session: str, update: dict[str, Any]) -> None:
        """One ``session/update`` of the runtime. What a load replays was journaled in its own time."""
        if self._replaying or self._established is None or session != self._established.session:
            return
        # What still comes of an earlier turn must not pass for a sign that this one's prompt has arrived.
        turn = self._prompting
        if update.get("sessionUpdate") in {"tool_call", "tool_call_update"} and (call := call_of(update)):
            self._calls[call] = self._calls.get(call, Call(call=call)).with_update(update)
            while len(self._calls) > _CALLS:
                del self._calls[next(iter(self._calls))]
        events = events_of(update, turn)
        if any(not isinstance(event, Usage) for event in events):
            self._accept(turn)
        for event in events:
            if self._has_room(event):
                self.journal.record(event)
            self._activity = _activity(event) or self._activity
        if events:
            self._event_at = self._clock()

    def _has_room(self, event: Event) -> bool:
        """Count what the runtime says; of a flood the rest is left out, so that it fills neither disk nor chat."""
        if self._said_characters > _TURN_CHARACTERS:
            return False
        self._said_characters += _weight(event)
        if self._said_characters > _TURN_CHARACTERS:
            sentence = f"The runtime said more than {_TURN_CHARACTERS:,} characters in one turn; the rest is left out."
            self.journal.record(Notice(text=sentence, turn=self._prompting))
            return False
        return True

    async def _permission(self, session: str, tool_call: dict[str, Any], options: Any) -> str | None:
        if self._established is None or session != self._established.session:
            return None
        turn = self._prompting
        id_ = call_of(tool_call) or ""
        request = permission_of(self._calls.get(id_, Call(call=id_)).with_update(tool_call), options)
        self._accept(turn)
        self._event_at = self._clock()
        if request is None:
            sentence = "A permission request was denied: it offers nothing to choose from, or is too long to be shown."
            self.desk.tell(turn, sentence)
            return None
        return await self.desk.ask(session, turn, request)

    # --- heartbeat ------------------------------------------------------------------------------------------------

    async def _heartbeat(self) -> None:
        """Ask the runtime's loop, and give a status at each interval whether it answered or not."""
        assert self._client is not None
        assert self._runtime is not None
        asked: asyncio.Task[None] | None = None
        while True:
            if asked is None or asked.done():
                asked = asyncio.create_task(self._ping(self._client), name="ping")
                self.hold(asked)
            began = asyncio.get_running_loop().time()
            await asyncio.wait({asked}, timeout=self.spec.heartbeat_s)
            self._child = await asyncio.to_thread(self._runtime.child_state)
            reap_orphans(except_pid=self._runtime.pid)
            self._beat()
            await asyncio.sleep(max(0.0, self.spec.heartbeat_s - (asyncio.get_running_loop().time() - began)))

    async def _ping(self, client: AcpClient) -> None:
        began = time.monotonic()
        try:
            await client.ping()
        except ConnectionError:
            return
        self._ping_ms = round((time.monotonic() - began) * 1000, 2)
        self._pinged_at = self._clock()

    def hold(self, task: asyncio.Future[Any]) -> None:
        """Keep a task that nobody else awaits to its end."""
        self._tasks.add(task)
        task.add_done_callback(self._release)

    def _release(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def _noise(self, sample: str) -> None:
        self._noise_lines += 1
        self._noise_total += 1
        if self._noise_lines == 1:
            self._noise_sample = clean(sample)
            delay = _NOISE_EVERY_S if self._noise_told else _NOISE_FIRST_S
            asyncio.get_running_loop().call_later(delay, self._tell_noise)

    def _tell_noise(self) -> None:
        if self._noise_lines and not self.finished:
            self._noise_told = True
            self.journal.record(Noise(lines=self._noise_lines, sample=self._noise_sample))
            self._noise_lines = 0

    # --- what may be asked of it ----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What is known now, and when it was seen (docs/control-protocol.md)."""
        turn = self.state.turn
        state = self._phase
        if state == "idle":
            state = "waiting" if self.desk.waiting else "working" if turn is not None else "idle"
        detail = self._detail
        if not self.journal.writable:
            detail = f"The journal cannot be written ({self.journal.trouble}): no prompt is started, nothing allowed."
        runtime = self._runtime
        return {
            "state": state,
            "runtime_pid": runtime.pid if runtime is not None and runtime.alive else None,
            "pinged_at": self._pinged_at,
            "ping_ms": self._ping_ms,
            "adapter": self.spec.adapter,
            "child": self._child,
            "event_at": self._event_at if turn is not None else None,
            "turn": turn.turn if turn is not None else None,
            "turn_started_at": turn.started_at if turn is not None else None,
            "activity": self._activity if turn is not None else None,
            "queued": len(self.state.queue),
            "session": self.state.session,
            "turns": self.state.turns,
            "position": {"incarnation": self.journal.position.incarnation, "seq": self.journal.position.seq},
            "writable": self.journal.writable,
            "detail": detail,
        }

    async def send(self, message: str, text: str, mode: str, sender: str, pictures: Sequence[Any]) -> dict[str, Any]:
        """Take a message into the durable queue. A known id changes nothing.

        Raises:
            AgentRefused: it is not taken, and the message says why.
            JournalNotWritable: it could not be kept.
        """
        if not 0 < len(message) <= _ID_CHARACTERS or not message.isascii():
            raise AgentRefused(f"A message's id has 1 to {_ID_CHARACTERS} characters of ASCII.", code="invalid")
        if mode not in {"queue", "steer"}:
            raise AgentRefused(f"A message's mode is queue or steer, not {mode!r}.", code="invalid")
        if len(text) > TEXT_CHARACTERS:
            sentence = f"The message has {len(text)} characters; an agent takes {TEXT_CHARACTERS} at most."
            raise AgentRefused(sentence, code="too_long")
        if pictures and message not in self.state.fates:
            await self._images_wanted()
        async with self._queue_lock:
            if (fate := self.state.fates.get(message)) is not None:
                return {"state": fate, "queued": len(self.state.queue)}
            self._check_room(text)
            try:
                paths = await asyncio.to_thread(images.keep, self._folder, message, pictures) if pictures else ()
            except OSError as error:
                raise JournalNotWritable(f"The pictures could not be kept: {error.strerror or error}.") from None
            queued = MessageQueued(id=message, text=clean(text), mode=mode, sender=clean(sender)[:500], images=paths)
            await self.journal.append(queued)
        if mode == "steer":
            self.cancel()
        return {"state": self.state.fates.get(message, STARTED), "queued": len(self.state.queue)}

    async def _images_wanted(self) -> None:
        await self.pulse.until(lambda: self._established is not None or self._phase in {"failed", "stopping"})
        if self._established is None or not self._established.images:
            raise AgentRefused(f"The runtime {self.spec.runtime} takes no pictures; say it in words.", code="no_images")

    def _check_room(self, text: str) -> None:
        if self._phase in {"stopping", "failed"}:
            raise AgentRefused("The agent is about to end; send it when it runs again.", code="stopping")
        size = sum(len(json.dumps(message.text)) for message in self.state.queue) + len(json.dumps(text))
        if len(self.state.queue) >= QUEUED_MESSAGES or size > QUEUED_BYTES:
            sentence = f"{len(self.state.queue)} messages wait for this agent already; send it when some are done."
            raise AgentRefused(sentence, code="queue_full")

    async def withdraw(self, message: str) -> bool:
        """Take a message out of the queue; False when its turn has begun, or it is not known."""
        async with self._queue_lock:
            found = next((queued for queued in self.state.queue if queued.id == message), None)
            if found is None:
                return False
            await self.journal.append(MessageWithdrawn(id=message))
        await asyncio.to_thread(images.forget, found.images)
        return True

    def cancel(self) -> str | None:
        """Cancel the running turn; its id, or None when none runs. How it ends comes with its end."""
        turn = self.state.turn
        if turn is None:
            return None
        self._cancel_wanted = turn.turn
        self.desk.cancel_all(turn.turn)
        if self._prompting == turn.turn and self._client is not None:
            self.hold(asyncio.create_task(self._send_cancel(self._client, turn.session), name="cancel"))
        return turn.turn

    async def _send_cancel(self, client: AcpClient, session: str) -> None:
        with contextlib.suppress(OSError):
            await client.cancel(session)

    async def tail(self, count: int) -> list[dict[str, Any]]:
        """The journal's last entries, as JSON."""
        entries = await asyncio.to_thread(journals.read_last, self._folder, max(0, min(count, 1000)))
        return [entry.to_json() for entry in entries if entry.position <= self.journal.position]

    async def shut_down(self, *, now: bool, reason: str) -> None:
        """End the agent at its turn's end, or `now`; come back when its runtime is gone to the last process."""
        self._stop_now = self._stop_now or now
        self._stop_reason = self._stop_reason or clean(reason)[:1000] or "asked to stop"
        self.pulse.ring()
        await self.pulse.until(lambda: self.finished)


def load_state(folder: Path) -> AgentState:
    """What the journal's last whole incarnation says. One without its first entry says nothing."""
    for incarnation in reversed(journals.incarnations(folder)):
        state: AgentState | None = None
        for page in journals.pages(folder, Position(incarnation, 0)):
            for entry in page:
                if state is None and not isinstance(entry.event, Opened):
                    break
                state = (state or AgentState()).after(entry)
        if state is not None:
            return state
    return AgentState()


def _weight(event: Event) -> int:
    """About how many characters an event takes in the journal."""
    match event:
        case TextChunk(text=text) | ThoughtChunk(text=text):
            return 100 + len(text)
        case ToolCall(title=title, detail=detail):
            return 200 + len(title or "") + len(detail or "")
        case Plan(entries=entries):
            return 100 + sum(100 + len(str(entry.get("content"))) for entry in entries)
        case _:
            return 300


def _activity(event: Event) -> str | None:
    """What the runtime is doing, in a few words."""
    match event:
        case ToolCall(title=title, status=status) if title and status not in {"completed", "failed"}:
            return title.splitlines()[0][:200]
        case ThoughtChunk():
            return "thinking"
        case TextChunk():
            return "writing"
        case Plan():
            return "planning"
        case _:
            return None
