"""The runtime's stdio as a stream of JSON-RPC messages, for `acp.connection.Connection`.

A runtime may print anything. Lines that are no messages are counted and sampled, never logged; what would break the
connection's own bookkeeping is held back here; a line has a limit; and reading stops while the journal has no room,
which slows the runtime down through its pipe.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from core.crash_points import Step, around, declare

LINE_LIMIT: Final = 32 * 2**20
#: Answers that the runtime has not taken yet before no more of its requests are read.
_UNSENT: Final = 64
_SAMPLE_CHARACTERS: Final = 300

OPEN: Final = declare("runtime.open")
PROMPT: Final = declare("runtime.prompt")
CANCEL: Final = declare("runtime.cancel")
ANSWER: Final = declare("runtime.answer")
PING: Final = declare("runtime.ping")

_STEPS: Final[dict[str | None, Step]] = {
    None: ANSWER,
    "session/prompt": PROMPT,
    "session/cancel": CANCEL,
    "_muster/ping": PING,
}


class StdioTransport:
    """Moves messages over a runtime's pipes (`acp.connection.Transport`).

    Args:
        room: awaited before each read.
        on_noise: is told of a line that is no message.
        on_end: is told once, when nothing more can come.
    """

    def __init__(
        self,
        stdin: asyncio.StreamWriter,
        stdout: asyncio.StreamReader,
        *,
        room: Callable[[], Awaitable[object]],
        on_noise: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._room = room
        self._on_noise = on_noise
        self._on_end = on_end
        self._lines: deque[bytes] = deque()
        self._rest = bytearray()
        self._skipping = False
        self._ended = False
        self._send_lock = asyncio.Lock()
        self._unsent = 0
        self._taken = asyncio.Event()
        self._taken.set()

    async def send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
        method = message.get("method")
        self._count(+1)
        try:
            async with self._send_lock:
                with around(_STEPS.get(method, OPEN)):
                    self._stdin.write(line)
                    await self._stdin.drain()
        except OSError:
            if method is not None:
                raise
            # An answer to a runtime that is gone: its end is told by `receive`.
        finally:
            self._count(-1)

    async def receive(self) -> dict[str, Any] | None:
        while True:
            await self._room()
            await self._taken.wait()
            line = await self._line()
            if line is None:
                self._on_end()
                return None
            message = _message(line)
            if message is not None:
                return message
            if line.strip():
                self._on_noise(_sample(line))

    async def close(self) -> None:
        self._stdin.close()

    def _count(self, change: int) -> None:
        self._unsent += change
        if self._unsent > _UNSENT:
            self._taken.clear()
        else:
            self._taken.set()

    async def _line(self) -> bytes | None:
        while not self._lines:
            if self._ended:
                return None
            block = await self._stdout.read(2**16)
            if not block:
                self._ended = True
                self._lines.append(bytes(self._rest))
                self._rest.clear()
                break
            self._take(block)
        return self._lines.popleft()

    def _take(self, block: bytes) -> None:
        *whole, rest = block.split(b"\n")
        for part in whole:
            if self._skipping:
                self._skipping = False
                continue
            self._lines.append(bytes(self._rest) + part)
            self._rest.clear()
        if not self._skipping:
            self._rest += rest
        if len(self._rest) > LINE_LIMIT:
            self._lines.append(bytes(self._rest[: 4 * _SAMPLE_CHARACTERS]))
            self._rest.clear()
            self._skipping = True


def _message(line: bytes) -> dict[str, Any] | None:
    """Return the JSON-RPC message in a line; None when it is none, or none that a connection could make sense of."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    method, id_, error = message.get("method"), message.get("id"), message.get("error")
    if method is not None and not isinstance(method, str):
        return None
    if "id" in message and not isinstance(id_, str | int | type(None)):
        return None
    if method is None and "id" not in message:
        return None
    if error is not None and not (isinstance(error, dict) and isinstance(error.get("code", 0), int)):
        return None
    if method is not None:
        message["params"] = message["params"] if isinstance(message.get("params"), dict) else {}
    return message


def _sample(line: bytes) -> str:
    return line[: 4 * _SAMPLE_CHARACTERS].decode("utf-8", "replace")[:_SAMPLE_CHARACTERS]
