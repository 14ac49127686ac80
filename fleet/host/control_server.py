"""The control socket of an agent host (docs/reference/control-protocol.md).

Whoever connects may be hostile or slow: its user id is checked, its lines are bounded, its requests are bounded in
number, and one that does not take what it asked for is dropped. Followers are served from the journal's files, each
from its own place; so none of them costs memory, however far it lags behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from core import unix_sockets
from core.crash_points import around, declare
from fleet.control.host_spec import CONTROL_PROTOCOL
from fleet.control.rules_in_force import digest_of, rules_from_json
from fleet.control.terminal_frames import TerminalFrame, frame_of, line_of
from fleet.errors import AgentRefused
from fleet.host.agent_host import AgentHost
from fleet.host.handover.orders import order_of, relay
from fleet.host.journal_writer import JournalNotWritable
from fleet.host.turn_queue import NOTE_CHARACTERS
from fleet.journal.events import JournalPosition
from fleet.journal.reader import JournalCursor

REPLY: Final = declare("control.reply")
STREAM: Final = declare("control.stream")

LINE_LIMIT: Final = 16 * 2**20
_CONNECTIONS: Final = 32
_REQUESTS: Final = 32
#: The longest that `background` waits for a turn to be over.
_LONGEST_TURN_OVER_S: Final = 10
_HELLO_S: Final = 10.0
#: Who does not take what was written for it in this time is dropped.
_TAKE_S: Final = 60.0
_STREAM_BYTES: Final = 2**18
#: At its end an agent host gives its followers this long to read the last entries.
_FAREWELL_S: Final = 3.0


class HostControlServer:
    """Serves one agent host's socket."""

    def __init__(self, host: AgentHost) -> None:
        self._host = host
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, asyncio.Task[None]] = {}

    async def start(self, path: Path) -> None:
        """Listen at `path`; a socket left there by an earlier agent host is replaced (the lock says it is gone)."""
        self._server = await asyncio.start_unix_server(self._accept, sock=unix_sockets.listen(path), limit=LINE_LIMIT)

    async def close(self) -> None:
        """Let followers and those who wait for an answer have the last of it, then end every connection."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._connections.values())
        for connection in self._connections:
            connection.finish()
        if tasks:
            await asyncio.wait(tasks, timeout=_FAREWELL_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _CONNECTIONS or not unix_sockets.is_own(writer.get_extra_info("socket")):
            writer.transport.abort()
            return
        connection = _Connection(self._host, reader, writer)
        task = asyncio.get_running_loop().create_task(connection.serve(), name="control connection")
        self._connections[connection] = task
        task.add_done_callback(lambda _: self._connections.pop(connection, None))


class _Refused(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Connection:
    def __init__(self, host: AgentHost, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._reader = reader
        self._writer = writer
        self._write_lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_REQUESTS)
        self._greeted = False
        self._following = False
        self._reading: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        try:
            self._reading = asyncio.ensure_future(self._read())
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            if self._host.finished and self._tasks:
                await asyncio.wait(self._tasks)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        finally:
            self._reading.cancel() if self._reading is not None else None
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._writer.wait_closed(), 1)

    def finish(self) -> None:
        """Read no more requests; what is under way goes on."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        while True:
            try:
                async with asyncio.timeout(None if self._greeted else _HELLO_S):
                    line = await self._reader.readline()
            except ValueError:
                await self._write({"id": None, "error": {"code": "invalid", "message": "A line is too long."}})
                return
            if not line:
                return
            request = _request(line)
            if request is None:
                await self._write({"id": None, "error": {"code": "invalid", "message": "That is no request."}})
                return
            await self._room.acquire()
            task = asyncio.create_task(self._answer(*request), name=f"control {request[1]}")
            self._tasks.add(task)
            task.add_done_callback(self._answered)
            if request[1] == "hello":
                await asyncio.wait({task})
            elif request[1] == "hand_over":
                # What follows on this connection are frames.
                await asyncio.wait({task})
                return

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()
        if not task.cancelled() and isinstance(task.exception(), OSError | TimeoutError):
            self._writer.transport.abort()

    async def _answer(self, id_: Any, method: str, params: dict[str, Any]) -> None:
        try:
            if not self._greeted and method != "hello":
                raise _Refused("protocol", "The first request is hello.")
            answer = _METHODS.get(method)
            if method == "follow":
                await self._follow(id_, params)
                return
            if method == "hand_over":
                await self._hand_over(id_, params)
                return
            if answer is None:
                raise _Refused("unknown_method", f"There is no method {method[:100]!r}.")
            # What was begun is finished, even if whoever asked goes away.
            work = asyncio.ensure_future(answer(self._host, params))
            self._host.tasks.hold(work)
            result = await asyncio.shield(work)
            self._greeted = self._greeted or method == "hello"
        except _Refused as refusal:
            await self._error(id_, refusal.code, str(refusal))
        except AgentRefused as refusal:
            await self._error(id_, refusal.refusal, str(refusal))
        except JournalNotWritable as refusal:
            await self._error(id_, "not_writable", str(refusal))
        else:
            with around(REPLY):
                await self._write({"id": id_, "result": result})

    async def _error(self, id_: Any, code: str, message: str) -> None:
        await self._write({"id": id_, "error": {"code": code, "message": message}})

    async def _follow(self, id_: Any, params: dict[str, Any]) -> None:
        if self._following:
            raise _Refused("invalid", "This connection follows already; open another one.")
        after = JournalPosition(_integer(params, "incarnation"), _integer(params, "seq"))
        self._following = True
        await self._write({"id": id_, "result": {}})
        host = self._host
        cursor = JournalCursor(host.chronicle.folder, after)
        told: tuple[int, str] | None = None
        while True:
            rung = host.chronicle.pulse.next()
            finished = host.finished
            while lines := await asyncio.to_thread(cursor.read, _STREAM_BYTES, host.chronicle.journal.durable):
                with around(STREAM):
                    await self._write_lines([b'{"entry":' + line + b"}\n" for line in lines])
            status = host.status()
            if told != (host.chronicle.beats, status["state"]):
                told = host.chronicle.beats, status["state"]
                await self._write({"status": status})
            if finished:
                return
            await rung.wait()

    async def _hand_over(self, id_: Any, params: dict[str, Any]) -> None:
        try:
            order = order_of(params)
        except ValueError as error:
            raise _Refused("invalid", f"{error}.") from None
        work = asyncio.ensure_future(self._host.handovers.ask(order))
        self._host.tasks.hold(work)
        try:
            program = await asyncio.shield(work)
            await self._write({"id": id_, "result": {"session": self._host.chronicle.state.session}})
            await relay(order, program, receive=self._frame, send=self._send_frame)
        finally:
            order.left.set()

    async def _frame(self) -> TerminalFrame | None:
        line = await self._reader.readline()
        return frame_of(line) if line.endswith(b"\n") else None

    async def _send_frame(self, frame: TerminalFrame) -> None:
        # A terminal takes its time, as one that a person stopped (Ctrl-S) does.
        self._writer.write(line_of(frame))
        await self._writer.drain()

    async def _write(self, message: dict[str, Any]) -> None:
        await self._write_lines([json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"])

    async def _write_lines(self, lines: list[bytes]) -> None:
        async with self._write_lock:
            self._writer.writelines(lines)
            async with asyncio.timeout(_TAKE_S):
                await self._writer.drain()


def _request(line: bytes) -> tuple[Any, str, dict[str, Any]] | None:
    try:
        source = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(source, dict) or not isinstance(source.get("method"), str):
        return None
    id_, params = source.get("id"), source.get("params")
    if not isinstance(id_, str | int) or (isinstance(id_, str) and len(id_) > 200):
        return None
    return id_, source["method"], params if isinstance(params, dict) else {}


# --- the methods --------------------------------------------------------------------------------------------------


async def _hello(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return {
        "protocol": CONTROL_PROTOCOL,
        "agent": host.spec.agent,
        "launch_id": host.spec.launch_id,
        "incarnation": host.chronicle.journal.incarnation,
        "pid": os.getpid(),
        "version": version("muster-fleet"),
        "rules": digest_of(host.rules.rules),
    }


async def _status(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return host.status()


async def _send(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    pictures = params.get("images") or []
    if not isinstance(pictures, list):
        raise _Refused("invalid", "images is a list.")
    mode = _string(params, "mode", "queue")
    return await host.turns.send(
        _string(params, "id"),
        _string(params, "text"),
        mode,
        _string(params, "sender", ""),
        pictures,
        note=_string(params, "note", "")[:NOTE_CHARACTERS],
    )


async def _withdraw(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    message = _string(params, "id")
    withdrawn = await host.turns.withdraw(message)
    return {"withdrawn": withdrawn, "ending": not withdrawn and params.get("end") is True and host.turns.end(message)}


async def _edit(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    message = _string(params, "id")
    edited = await host.turns.edit(message, _string(params, "text"))
    return {"edited": edited, "known": edited or message in host.chronicle.state.fates}


async def _put_first(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return {"first": await host.turns.put_first(_string(params, "id"))}


async def _queue(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return {"waiting": host.turns.waiting()}


async def _cancel(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    only = params.get("turn")
    turn = host.turns.cancel(only if isinstance(only, str) else None)
    return {"cancelled": turn is not None, "turn": turn}


async def _background(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return await host.background(turn_over_s=min(_integer(params, "turn_over_s"), _LONGEST_TURN_OVER_S))


async def _ask_aside(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return await host.asides.ask(
        _string(params, "id"), _string(params, "text"), _string(params, "sender", ""), _string(params, "summary", "")
    )


async def _decide(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    option = params.get("option")
    outcome = await host.desk.answer(
        incarnation=_integer(params, "incarnation"),
        session=_string(params, "session"),
        request=_string(params, "request"),
        digest=_string(params, "digest"),
        option=None if option is None else _string(params, "option"),
        always=params.get("always") is True,
        by=_string(params, "by", "")[:500],
    )
    return {"outcome": outcome}


async def _revoke(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return {"revoked": await host.desk.revoke(_string(params, "digest"), _string(params, "by", "")[:500])}


async def _set_rules(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    source = params.get("rules")
    if not isinstance(source, list):
        raise _Refused("invalid", "rules is a list.")
    try:
        rules = rules_from_json(source)
    except ValueError as error:
        raise _Refused("invalid", f"The earlier rules stay: {error}.") from None
    try:
        await host.set_rules(rules)
    except OSError as error:
        raise _Refused(
            "not_writable", f"The rules hold now, but not after a restart of the agent: {error.strerror or error}."
        ) from None
    return {"rules": len(rules)}


async def _begin_call(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    host.calls.begin(_string(params, "call"))
    return {}


async def _answer_call(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    host.calls.answer(_string(params, "call"), _string(params, "text"), ok=params.get("ok") is True)
    return {}


async def _tail(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    return {"entries": await host.tail(_integer(params, "entries"))}


async def _shutdown(host: AgentHost, params: dict[str, Any]) -> dict[str, Any]:
    await host.shut_down(now=params.get("now") is True, reason=_string(params, "reason", ""))
    return {}


_METHODS: Final[dict[str, Callable[[AgentHost, dict[str, Any]], Awaitable[dict[str, Any]]]]] = {
    "hello": _hello,
    "status": _status,
    "send": _send,
    "withdraw": _withdraw,
    "edit": _edit,
    "put_first": _put_first,
    "queue": _queue,
    "cancel": _cancel,
    "background": _background,
    "ask_aside": _ask_aside,
    "answer": _decide,
    "revoke": _revoke,
    "set_rules": _set_rules,
    "begin_call": _begin_call,
    "answer_call": _answer_call,
    "tail": _tail,
    "shutdown": _shutdown,
}


def _string(params: dict[str, Any], name: str, default: str | None = None) -> str:
    value = params.get(name, default)
    if not isinstance(value, str):
        raise _Refused("invalid", f"{name} is a string.")
    return value


def _integer(params: dict[str, Any], name: str) -> int:
    value = params.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise _Refused("invalid", f"{name} is a whole number.")
    return value
