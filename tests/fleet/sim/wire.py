"""An agent of the Agent Client Protocol driven by plain JSON lines, with no library of the protocol in between."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

LIMIT_S = 60.0


class WireError(Exception):
    """The agent answered a request with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("message"))
        self.code: int = error.get("code", 0)
        self.error = error


class Wire:
    """The client's side. Everything that the agent sends is kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
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
        limit=32 * 1024 * 1024,
    )
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
