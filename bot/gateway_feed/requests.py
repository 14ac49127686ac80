"""Requests to the gateway without blocking. The bytes are those of `bot.api_client`: HTTP/1.0 over the unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.api_client import (
    LINES,
    LONGEST_ANSWER,
    LONGEST_LINE,
    RETRY_FOR,
    LostConnection,
    command_path,
    not_ours,
    refuse_stranger,
    written_request,
)
from bot.commands.doors import Door
from bot.text.errors import NotRunning
from core.errors import MusterError

#: Seconds for the gateway to accept a connection and to begin its answer.
CONNECT_S: Final = 5.0
#: Seconds for an answer that is no command's.
ANSWER_S: Final = 30.0
#: Seconds between two attempts after a broken connection.
_PAUSE_S: Final = 0.3
_MOST_HEADERS: Final = 100


class BrokenAnswer(ValueError):
    """What arrived is no answer of the gateway. The message says what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """An answer of the gateway."""

    status: int
    body: Mapping[str, object]

    @property
    def text(self) -> str:
        """What it says to people, as Markdown with marked command lines."""
        return str(self.body.get("text") or self.body.get("error") or f"The gateway answered with {self.status}.")

    @property
    def is_done(self) -> bool:
        """Whether the command was done."""
        return self.body.get("state") == "done"

    @property
    def code(self) -> str | None:
        """The code of a refusal."""
        code = self.body.get("code")
        return code if isinstance(code, str) else None


@dataclass(frozen=True, slots=True)
class GatewayRequests:
    """Asks the gateway at `path`."""

    path: Path
    door: Door = "gateway"
    """What this program is, for the audit; it grants nothing."""
    retry_for: float = RETRY_FOR
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic

    async def get(self, path: str) -> GatewayAnswer:
        """Return the answer to a GET request.

        Raises:
            NotRunning: nothing listens on the socket.
            LostConnection: the connection broke.
            MusterError: another user listens there.
        """
        try:
            async with asyncio.timeout(ANSWER_S), self.opened("GET", path) as (status, _, reader):
                return await read_answer(status, reader)
        except (TimeoutError, OSError, BrokenAnswer) as error:
            raise LostConnection(f"Muster did not answer: {_why(error)}. Try again.") from None

    async def run(
        self,
        name: str,
        arguments: Mapping[str, str | bool | float],
        *,
        confirmed: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> GatewayAnswer:
        """Run a command once, also if the connection breaks.

        Args:
            name: the command's name.
            arguments: its arguments by name.
            confirmed: whether the person has confirmed the command.
            progress: called with each report of the command's progress.

        Raises:
            NotRunning: nothing listens on the socket.
            LostConnection: the connection broke and could not be restored in time.
            MusterError: another user listens there.
        """
        headers = {"Idempotency-Key": os.urandom(16).hex(), "Muster-Door": self.door, "Accept": LINES}
        if confirmed:
            headers["Muster-Confirm"] = "yes"
        body, until, asked = json.dumps(arguments).encode(), self.clock() + self.retry_for, False
        while True:
            try:
                async with self.opened("POST", command_path(name), body, headers) as (status, kind, reader):
                    asked = True
                    answer = await (_last_line(reader, progress) if kind == LINES else read_answer(status, reader))
                if answer.status != 503 or answer.code != "stopping":
                    return answer
            except NotRunning:
                if not asked:
                    raise
            except (TimeoutError, OSError, BrokenAnswer):
                asked = True
            if self.clock() >= until:
                raise LostConnection
            await self.sleep(_PAUSE_S)

    @contextlib.asynccontextmanager
    async def opened(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[int, str, asyncio.StreamReader]]:
        """Send a request, and give its status, its media type and what follows.

        Raises:
            NotRunning: nothing listens on the socket.
            MusterError: another user listens there.
            BrokenAnswer: something else than HTTP came.
            OSError: the connection broke; `TimeoutError` if no answer began.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(connection, os.fspath(self.path))
            refuse_stranger(connection, self.path)
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=LONGEST_LINE)
        except PermissionError:
            connection.close()
            raise MusterError(not_ours(self.path)) from None
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            raise NotRunning from None
        except BaseException:
            connection.close()
            raise
        try:
            writer.write(written_request(method, path, body, headers or {}))
            await writer.drain()
            # A command may take as long as it needs.
            async with asyncio.timeout(None if body is not None else CONNECT_S):
                status, kind = await _head(reader)
            yield status, kind, reader
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> tuple[int, str]:
    try:
        version, status, *_ = (await reader.readline()).split()
        if not version.startswith(b"HTTP/1."):
            raise BrokenAnswer("it is no HTTP")
        kind = ""
        for _ in range(_MOST_HEADERS):
            line = (await reader.readline()).strip()
            if not line:
                return int(status), kind
            name, _, value = line.partition(b":")
            if name.lower() == b"content-type":
                kind = value.decode("latin-1").partition(";")[0].strip()
    except ValueError as error:
        raise BrokenAnswer(str(error) if isinstance(error, BrokenAnswer) else "it is no HTTP") from None
    raise BrokenAnswer("its head does not end")


async def read_answer(status: int, reader: asyncio.StreamReader) -> GatewayAnswer:
    """Return the answer that follows its head, to the end of the connection.

    Raises:
        BrokenAnswer: it is too long, or no JSON object.
    """
    received = bytearray()
    while chunk := await reader.read(1_048_576):
        received += chunk
        if len(received) > LONGEST_ANSWER:
            raise BrokenAnswer(f"it is longer than {LONGEST_ANSWER:,} bytes")
    return GatewayAnswer(status=status, body=await parsed(bytes(received)))


async def _last_line(reader: asyncio.StreamReader, progress: Callable[[str], None] | None) -> GatewayAnswer:
    """Return the answer that follows the reports of progress."""
    received = bytearray()
    while chunk := await reader.read(1_048_576):
        received += chunk
        if len(received) > LONGEST_ANSWER:
            raise BrokenAnswer(f"it is longer than {LONGEST_ANSWER:,} bytes")
        *lines, rest = bytes(received).split(b"\n") if b"\n" in chunk else [bytes(received)]
        if lines:
            received = bytearray(rest)
        for line in lines:
            said = await parsed(line)
            status, body = said.get("status"), said.get("body")
            if "progress" not in said and isinstance(status, int) and isinstance(body, dict):
                return GatewayAnswer(status=status, body=body)
            if progress is not None and "progress" in said:
                progress(str(said["progress"]))
    raise BrokenAnswer("it ended before the answer")


#: Bytes of JSON above which it is read in a thread, so that keys are answered meanwhile.
_LARGE: Final = 65_536


async def parsed(written: bytes) -> Mapping[str, object]:
    """Return a JSON object.

    Raises:
        BrokenAnswer: it is none.
    """
    try:
        value: object = json.loads(written) if len(written) < _LARGE else await asyncio.to_thread(json.loads, written)
    except (ValueError, RecursionError):
        raise BrokenAnswer("it is no JSON, or was cut off") from None
    if not isinstance(value, dict):
        raise BrokenAnswer("it is no JSON object")
    return value


def _why(error: Exception) -> str:
    return "it takes too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
