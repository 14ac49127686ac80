"""The orchestrator's side of an agent host's control socket (docs/reference/control-protocol.md)."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core import unix_sockets
from fleet.control.host_spec import CONTROL_PROTOCOL
from fleet.errors import AgentRefused, AgentUnreachable
from fleet.journal.events import JournalEntry, JournalPosition

LINE_LIMIT: Final = 16 * 2**20
#: The oldest protocol of an agent host that this version can still work with.
OLDEST_PROTOCOL: Final = 1
_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who answers."""

    protocol: int
    agent: str
    launch_id: str
    incarnation: int
    pid: int
    version: str = ""
    rules: str = ""
    """Which approval rules it has (fleet.control.rules_in_force.digest_of); empty: it is older than these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatus:
    """What an agent host knows of its runtime, and when it was seen. The verdict is `fleet.supervision.liveness`."""

    state: str
    runtime_pid: int | None = None
    pinged_at: float | None = None
    ping_ms: float | None = None
    unanswered_since: float | None = None
    """When the runtime was asked what it has not answered for some seconds; None: it answers."""
    adapter: bool = False
    """Whether it is an adapter that answers, with the true runtime as its child."""
    child: str | None = None
    event_at: float | None = None
    turn: str | None = None
    turn_started_at: float | None = None
    activity: str | None = None
    queued: int = 0
    session: str | None = None
    turns: int = 0
    position: JournalPosition = JournalPosition()  # noqa: RUF009 - it is frozen
    writable: bool = True
    terminal_by: str | None = None
    """Who has its conversation in a terminal; None: it runs under Muster."""
    terminal_since: float | None = None
    detail: str | None = None

    @classmethod
    def from_json(cls, source: Mapping[str, Any]) -> HostStatus:
        known = {field.name: source[field.name] for field in dataclasses.fields(cls) if field.name in source}
        place = source.get("position") or {}
        known["position"] = JournalPosition(int(place.get("incarnation", 0)), int(place.get("seq", 0)))
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    state: str
    """``journaled``, or what became of the message before."""
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    edited: bool
    """It waits, with this text."""
    known: bool
    """The agent host has, or had, such a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    withdrawn: bool
    """It began no turn, and begins none."""
    ending: bool
    """The turn that it began is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    cancelled: bool
    turn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundProcesses:
    """Processes that an agent's commands left running."""

    count: int
    names: tuple[str, ...]
    """What some of them are called. Agents choose these."""


class AgentLink:
    """A connection to one agent host. Any number of tasks may ask at the same time.

    Every method raises `AgentUnreachable` when the agent host does not answer or goes away, and `AgentRefused` when it
    says no.
    """

    def __init__(self, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._count = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._lost: str | None = None
        self._receiving = asyncio.create_task(self._receive(), name="control link")
        self._hello: Hello | None = None

    @classmethod
    async def connect(cls, path: str | Path, *, timeout: float = _CONNECT_S) -> AgentLink:
        """Connect and greet.

        Raises:
            AgentUnreachable: no one answers there, or someone who is not this user.
            AgentRefused: (``protocol``) it speaks a protocol that this version does not.
        """
        reader, writer = await _open(Path(path), timeout)
        link = cls(Path(path), reader, writer)
        try:
            source = await link._ask("hello", {"protocol": CONTROL_PROTOCOL}, timeout)
            link._hello = _hello(source)
        except BaseException:
            await link.aclose()
            raise
        return link

    @property
    def hello(self) -> Hello:
        assert self._hello is not None
        return self._hello

    async def status(self) -> HostStatus:
        return HostStatus.from_json(await self._ask("status", {}))

    async def send(
        self,
        id: str,
        text: str,
        *,
        mode: str = "queue",
        sender: str = "",
        images: Sequence[Mapping[str, str]] = (),
        note: str = "",
    ) -> SendResult:
        """Put a message into the agent's queue; the same id again changes nothing.

        Args:
            mode: ``queue`` waits for the turn's end, ``steer`` cancels the turn and goes first.
            images: each with ``name``, ``media_type`` and ``data`` (base64).
            note: what Muster itself has to say before it; the agent reads it in the same turn.
        """
        pictures = [dict(image) for image in images]
        params = {"id": id, "text": text, "mode": mode, "sender": sender, "images": pictures, "note": note}
        answer = await self._ask("send", params)
        return SendResult(state=str(answer.get("state")), queued=int(answer.get("queued", 0)))

    async def withdraw(self, id: str, *, end: bool = False) -> Withdrawn:
        """Take a message back; with `end`, cancel its turn if that has begun."""
        answer = await self._ask("withdraw", {"id": id, "end": True} if end else {"id": id})
        return Withdrawn(withdrawn=bool(answer.get("withdrawn")), ending=bool(answer.get("ending")))

    async def edit(self, id: str, text: str) -> Edited:
        """Give a message another text, if it waits.

        Raises:
            AgentRefused: the text is too long; or ``unknown_method``: the agent host is older than this.
        """
        answer = await self._ask("edit", {"id": id, "text": text})
        return Edited(edited=bool(answer.get("edited")), known=bool(answer.get("known")))

    async def put_first(self, id: str) -> bool:
        """Let a message have the next turn. Return False if it does not wait.

        Raises:
            AgentRefused: ``unknown_method``: the agent host is older than this.
        """
        return bool((await self._ask("put_first", {"id": id})).get("first"))

    async def queue(self) -> tuple[str, ...]:
        """Return the ids of the messages that wait, in the order of their turns.

        Raises:
            AgentRefused: ``unknown_method``: the agent host is older than this.
        """
        waiting = (await self._ask("queue", {})).get("waiting")
        return tuple(map(str, waiting)) if isinstance(waiting, list) else ()

    async def cancel(self, turn: str | None = None) -> Cancelled:
        """Cancel the running turn; with `turn`, only if it is that one."""
        answer = await self._ask("cancel", {} if turn is None else {"turn": turn})
        return Cancelled(cancelled=bool(answer.get("cancelled")), turn=answer.get("turn"))

    async def ask_aside(self, id: str, text: str, *, sender: str = "", summary: str = "") -> str:
        """Ask the agent a question on the side; its answer comes in the journal. The same id again changes nothing.

        Args:
            id: names the question.
            text: the question.
            sender: who asks.
            summary: of the conversation, for a runtime that cannot fork it.

        Returns:
            ``asked``, or how the question of this id ended: ``answered``, ``failed``, ``lost``.

        Raises:
            AgentRefused: ``aside_open``: another question is being answered; ``no_aside``: the runtime could not be
                kept from changing things; ``starting``, ``stopping``: the runtime takes none now; or
                ``unknown_method``: the agent host is older than this.
        """
        params = {"id": id, "text": text, "sender": sender, "summary": summary}
        return str((await self._ask("ask_aside", params)).get("state"))

    async def background(self, *, turn_over_s: int = 0) -> BackgroundProcesses:
        """Return what runs in the background, once no turn is open or that many seconds have passed.

        Raises:
            AgentRefused: ``unknown_method``: the agent host is older than this.
        """
        answer = await self._ask("background", {"turn_over_s": turn_over_s})
        names = answer.get("names")
        return BackgroundProcesses(
            count=int(answer.get("count", 0)), names=tuple(map(str, names)) if isinstance(names, list) else ()
        )

    async def answer(
        self,
        *,
        incarnation: int,
        session: str,
        request: str,
        digest: str,
        option: str | None,
        always: bool = False,
        by: str = "",
    ) -> str:
        """Answer a permission request; `option` None denies. Returns the outcome.

        Raises:
            AgentRefused: ``too_late``, among others.
        """
        params = {
            "incarnation": incarnation,
            "session": session,
            "request": request,
            "digest": digest,
            "option": option,
            "always": always,
            "by": by,
        }
        return str((await self._ask("answer", params)).get("outcome"))

    async def revoke(self, digest: str, *, by: str = "") -> bool:
        """Take an "always" back; False when there was none."""
        return bool((await self._ask("revoke", {"digest": digest, "by": by})).get("revoked"))

    async def set_rules(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the approval rules of the agent host, for now and for its next start.

        Raises:
            AgentRefused: ``unknown_method``: the agent host is older than approval rules. ``invalid``: it does not know
                one of them. ``not_writable``: they hold now, and its next start does not know them.
        """
        await self._ask("set_rules", {"rules": [dict(rule) for rule in rules]})

    async def begin_call(self, call: str) -> None:
        """Say that a call of one of Muster's tools is about to be done; said again, it changes nothing.

        Raises:
            AgentRefused: ``too_late``: it must not be done, since the agent was told that it was not.
        """
        await self._ask("begin_call", {"call": call})

    async def answer_call(self, call: str, text: str, *, ok: bool) -> None:
        """Tell the agent what happened to its call.

        Raises:
            AgentRefused: ``too_late``: no one waits for it any more.
        """
        await self._ask("answer_call", {"call": call, "text": text, "ok": ok})

    async def tail(self, entries: int) -> list[JournalEntry]:
        """Return the last entries of the journal."""
        answer = await self._ask("tail", {"entries": entries})
        return [entry for source in answer.get("entries", []) if (entry := _entry(source)) is not None]

    async def shutdown(self, *, now: bool = False, reason: str = "") -> None:
        """End the agent at its turn's end, or `now`; comes back when its runtime is gone to the last process."""
        try:
            await self._ask("shutdown", {"now": now, "reason": reason}, None)
        except AgentUnreachable:
            # It may have been gone before its answer was out: gone is what was asked for.
            if self._lost is None:
                raise

    async def follow(self, position: JournalPosition) -> AsyncIterator[JournalEntry | HostStatus]:
        """Yield the journal after `position`, then what is added to it, and a status after each heartbeat.

        Has a connection of its own. Ends when the agent host ends it.
        """
        link = await AgentLink.connect(self._path)
        reader = link._reader
        try:
            # From here on the lines are read here, not by the link.
            await link._stop_receiving()
            request = {
                "id": 0,
                "method": "follow",
                "params": {"incarnation": position.incarnation, "seq": position.seq},
            }
            link._writer.write(_line(request))
            with contextlib.suppress(OSError):
                await link._writer.drain()
                while (message := await _read(reader)) is not None:
                    if "error" in message:
                        raise _refusal(message["error"])
                    if "status" in message:
                        yield HostStatus.from_json(message["status"])
                    elif "entry" in message and (entry := _entry(message["entry"])) is not None:
                        yield entry
        finally:
            await link.aclose()

    @classmethod
    async def hand_over(
        cls, path: str | Path, params: Mapping[str, object]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Order `hand_over`, and return the connection on which frames follow, once the terminal program runs.

        `fleet.control.terminal_link` is what speaks them.
        """
        link = await cls.connect(path)
        try:
            # From here on the lines are read here, not by the link.
            await link._stop_receiving()
            link._writer.write(_line({"id": 0, "method": "hand_over", "params": params}))
            try:
                await link._writer.drain()
                answer = await _read(link._reader)
            except (OSError, ValueError):
                answer = None
            if answer is None:
                raise AgentUnreachable("The agent host went away.")
            if "error" in answer:
                raise _refusal(answer["error"])
        except BaseException:
            await link.aclose()
            raise
        return link._reader, link._writer

    async def _stop_receiving(self) -> None:
        self._receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._receiving

    async def lost(self) -> None:
        """Return once nothing more can be asked over this connection."""
        await asyncio.wait({self._receiving})

    async def aclose(self) -> None:
        self._receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._receiving
        self._lose("the link was closed")
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> AgentLink:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask(self, method: str, params: dict[str, Any], timeout: float | None = _ANSWER_S) -> dict[str, Any]:
        if self._lost is not None:
            raise AgentUnreachable(f"The agent host does not answer: {self._lost}.")
        self._count += 1
        id_ = self._count
        line = _line({"id": id_, "method": method, "params": params})
        if len(line) > LINE_LIMIT:
            raise AgentRefused(
                f"It has {len(line):,} bytes on its way to the agent, and {LINE_LIMIT:,} are allowed: send less at "
                "once, or fewer pictures.",
                refusal="too_long",
            )
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = answer
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(line)
                await self._writer.drain()
                result = await answer
        except TimeoutError:
            raise AgentUnreachable(f"The agent host did not answer {method} in {timeout:g} s.") from None
        except OSError as error:
            self._lose(error.strerror or str(error))
            raise AgentUnreachable(f"The agent host does not answer: {self._lost}.") from None
        finally:
            del self._waiting[id_]
            if answer.done() and not answer.cancelled():
                answer.exception()
        return result

    async def _receive(self) -> None:
        reason = "it closed the connection"
        try:
            while (message := await _read(self._reader)) is not None:
                waiting = self._waiting.get(message.get("id", -1))
                if waiting is None or waiting.done():
                    continue
                if "error" in message:
                    waiting.set_exception(_refusal(message["error"]))
                else:
                    result = message.get("result")
                    waiting.set_result(result if isinstance(result, dict) else {})
        except OSError as error:
            reason = error.strerror or str(error)
        except ValueError:
            reason = "it said something that is not the control protocol"
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(AgentUnreachable(f"The agent host does not answer: {self._lost}."))


async def _open(path: Path, timeout: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_LIMIT)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it took too long"
        raise AgentUnreachable(f"No agent host answers at {path}: {reason}.") from None
    if not unix_sockets.is_own(writer.get_extra_info("socket")):
        writer.transport.abort()
        raise AgentUnreachable(f"What listens at {path} is another user's, and was not spoken to.")
    return reader, writer


async def _read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """Return the next message; None at the end.

    Raises:
        ValueError: it is none.
    """
    line = await reader.readline()
    if not line.endswith(b"\n"):
        return None
    try:
        message = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"


def _entry(source: Any) -> JournalEntry | None:
    try:
        return JournalEntry.from_json(source)
    except (ValueError, TypeError, AttributeError):
        return None


def _refusal(error: Any) -> AgentRefused:
    source = error if isinstance(error, dict) else {}
    return AgentRefused(
        str(source.get("message") or "The agent host refused."), refusal=str(source.get("code", "refused"))
    )


def _hello(source: Mapping[str, Any]) -> Hello:
    names = {field.name for field in dataclasses.fields(Hello)}
    try:
        hello = Hello(**{name: source[name] for name in names if name in source})
        protocol = int(hello.protocol)
    except (TypeError, ValueError):
        raise AgentRefused("What answers there is no agent host.", refusal="protocol") from None
    if protocol < OLDEST_PROTOCOL:
        raise AgentRefused(
            f"The agent host of {hello.agent} speaks version {protocol} of the control protocol; this Muster needs "
            f"{OLDEST_PROTOCOL} or newer. Restart the agent.",
            refusal="protocol",
        )
    return hello
