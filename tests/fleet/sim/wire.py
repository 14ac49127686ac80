"""An agent of the Agent Client Protocol driven by plain JSON lines, with no library of the protocol in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from fleet.sim.agent import acp_agent
from tests import forkserver

LIMIT_S = 60.0
_LONGEST_LINE = 32 * 1024 * 1024


class Process(Protocol):
    """What is asked of an agent's process: as much of `asyncio.subprocess.Process`."""

    @property
    def stdin(self) -> asyncio.StreamWriter | None: ...
    @property
    def stdout(self) -> asyncio.StreamReader | None: ...
    @property
    def stderr(self) -> asyncio.StreamReader | None: ...
    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...
    async def wait(self) -> int: ...


class WireError(Exception):
    """The agent answered a request with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.code: int = error.get("code", 0)
        self.error = error


class Wire:
    """The client's side. Everything that the agent sends is kept."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.updates: list[dict[str, Any]] = []
        self.permissions: list[dict[str, Any]] = []
        self.stderr = ""
        self.decide: Callable[[dict[str, Any]], str | None] | None = _allow_once
        """Chooses an option's id by a permission request's params; None to cancel; no function: no answer at all."""
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._next = 0
        self._changed = asyncio.Condition()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            message = json.loads(line)
            if "method" not in message:
                answer = self._answers.pop(message["id"])
                if not answer.done():
                    answer.set_result(message)
            elif message["method"] == "session/update":
                self.updates.append(message["params"]["update"])
            elif message["method"] == "session/request_permission":
                self.permissions.append(message["params"])
                if self.decide is not None:
                    option = self.decide(message["params"])
                    outcome = {"outcome": "selected", "optionId": option} if option else {"outcome": "cancelled"}
                    self._write({"id": message["id"], "result": {"outcome": outcome}})
            elif "id" in message:
                self._write({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
            async with self._changed:
                self._changed.notify_all()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ConnectionError(f"the agent has gone: {self.stderr}"))

    async def keep_stderr(self) -> None:
        assert self.process.stderr is not None
        while piece := await self.process.stderr.read(4096):
            self.stderr += piece.decode("utf-8", "replace")

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def start(self, method: str, params: Mapping[str, Any]) -> asyncio.Future[Any]:
        self._next += 1
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[self._next] = answer
        self._write({"id": self._next, "method": method, "params": params})
        return answer

    async def request(self, method: str, params: Mapping[str, Any]) -> Any:
        async with asyncio.timeout(LIMIT_S):
            message = await self.start(method, params)
        return result(message)

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        self._write({"method": method, "params": params})

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S), self._changed:
            await self._changed.wait_for(seen)

    async def initialize(self) -> dict[str, Any]:
        capabilities = {"fs": {"readTextFile": False, "writeTextFile": False}, "terminal": False}
        answer: dict[str, Any] = await self.request(
            "initialize", {"protocolVersion": 1, "clientCapabilities": capabilities}
        )
        return answer

    async def new_session(self, cwd: Path, meta: Mapping[str, Any] | None = None) -> str:
        params: dict[str, Any] = {"cwd": str(cwd), "mcpServers": []}
        if meta:
            params["_meta"] = meta
        return str((await self.request("session/new", params))["sessionId"])

    def prompt(self, session: str, *blocks: str | dict[str, Any]) -> asyncio.Future[Any]:
        content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
        return self.start("session/prompt", {"sessionId": session, "prompt": content})

    async def turn(self, session: str, *blocks: str | dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT_S):
            answer: dict[str, Any] = result(await self.prompt(session, *blocks))
        return answer

    def said(self, kind: str = "agent_message_chunk") -> str:
        return "".join(u["content"].get("text", "") for u in self.updates if u["sessionUpdate"] == kind)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [update for update in self.updates if update["sessionUpdate"] == kind]

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


def result(message: Mapping[str, Any]) -> Any:
    if "error" in message:
        raise WireError(message["error"])
    return message["result"]


def _allow_once(params: dict[str, Any]) -> str | None:
    return next((o["optionId"] for o in params["options"] if o["kind"] == "allow_once"), None)


@asynccontextmanager
async def spawned(command: Sequence[str], *, environment: Mapping[str, str], cwd: Path) -> AsyncIterator[Wire]:
    """The agent, for as long as the block runs; then its standard input is closed, and it must end by that."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
    )
    async with _driven(process) as wire:
        yield wire


@asynccontextmanager
async def forked(*, environment: Mapping[str, str], cwd: Path) -> AsyncIterator[Wire]:
    """As `spawned`, but the built-in agent, and at once: to import what it needs takes it half a second."""
    (read_in, write_in), (read_out, write_out), (read_err, write_err) = os.pipe(), os.pipe(), os.pipe()
    theirs = (
        Connection(read_in, writable=False),
        Connection(write_out, readable=False),
        Connection(write_err, readable=False),
    )
    child = forkserver.process(_live, theirs, dict(environment), str(cwd))
    child.start()
    for end in theirs:
        end.close()
    loop = asyncio.get_running_loop()
    writing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(write_in, "wb"))
    stdin = asyncio.StreamWriter(writing, protocol, None, loop)
    async with _driven(_Forked(child, stdin, await _reader(read_out), await _reader(read_err))) as wire:
        yield wire


def _live(ends: Sequence[Connection], environment: Mapping[str, str], cwd: str) -> None:
    """The life of a forked agent: with this input and output and nothing else of whoever forked it."""
    for number, end in enumerate(ends):
        os.dup2(end.fileno(), number)
        end.close()
    # It was given nothing to read.
    sys.stdin = os.fdopen(0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    acp_agent.main()


class _Forked:
    """A forked agent as a `Process`."""

    def __init__(
        self,
        child: ForkServerProcess,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
    ) -> None:
        assert child.pid is not None
        self.stdin, self.stdout, self.stderr, self.pid = stdin, stdout, stderr, child.pid
        self._child = child

    @property
    def returncode(self) -> int | None:
        return self._child.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._child.kill()

    async def wait(self) -> int:
        await asyncio.to_thread(self._child.join)
        assert self._child.exitcode is not None
        return self._child.exitcode


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    return reader


@asynccontextmanager
async def _driven(process: Process) -> AsyncIterator[Wire]:
    wire = Wire(process)
    listening = [asyncio.create_task(wire.listen()), asyncio.create_task(wire.keep_stderr())]
    try:
        yield wire
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(LIMIT_S):
            await process.wait()
            await asyncio.gather(*listening)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
