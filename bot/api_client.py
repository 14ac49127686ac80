"""The shell's client of the gateway: one request over the unix socket, using only the standard library.

It writes the request itself, because importing `http.client` takes 15 ms of CPU, as much as all else that a command
does. The request is HTTP/1.0 (RFC 1945), so that the response has no chunks and ends with the connection.

A retry after a broken connection sends the same idempotency key, so the command runs only once.
"""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from bot.text.errors import NotRunning
from core.errors import MusterError
from core.unix_sockets import uid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

#: Seconds for which a broken connection is retried; long enough for a restart of the orchestrator.
RETRY_FOR = 30.0
_PAUSE = 0.2
#: The media type of a response in lines: one object with `progress` per progress report, then one object with the
#: `status` and `body` of the ordinary response.
LINES = "application/x-ndjson"
#: Maximum size of a response in bytes.
LONGEST_ANSWER = 64 * 1_048_576
#: Maximum size of a line of its head in bytes.
LONGEST_LINE = 65_536


class LostConnection(MusterError):
    """Muster went away before it answered. Your request runs once when Muster is back, or not at all."""

    code = "muster.lost_connection"


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """A response of the gateway."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Client:
    """A client of the gateway at `path`."""

    path: Path
    retry_for: float = RETRY_FOR
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def run(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        confirmed: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> GatewayResponse:
        """Run a command under a new idempotency key.

        Args:
            name: the command's name, in one word or two.
            arguments: the command's arguments by name.
            confirmed: whether the person has confirmed the command.
            progress: called with each progress report of the command.

        Raises:
            NotRunning: nothing listens on the socket.
            LostConnection: the connection broke and could not be restored in time.
        """
        headers = {"Idempotency-Key": os.urandom(16).hex(), "Muster-Door": "cli"}
        if confirmed:
            headers["Muster-Confirm"] = "yes"
        if progress is not None:
            headers["Accept"] = LINES
        return self._ask("POST", command_path(name), json.dumps(arguments).encode(), headers, progress)

    def get(self, path: str) -> GatewayResponse:
        """Send a GET request.

        Raises:
            NotRunning: nothing listens on the socket.
            LostConnection: the connection broke and could not be restored in time.
        """
        return self._ask("GET", path, None, {})

    def follow(self, kind: str, work_id: str) -> Iterator[Mapping[str, Any]]:
        """Yield what happens to a run, a message or a task, until it is over (bot.runs.following.follow).

        A connection that breaks is made again, and nothing of the answer is repeated or lost.

        Raises:
            NotRunning: nothing listens on the socket any more.
            LostConnection: the connection broke and could not be restored in time.
            MusterError: there is no such work, or it cannot be read; the message says why.
        """
        had = 0
        until = self.clock() + self.retry_for
        while True:
            try:
                with closing(_connected(self.path)) as connection:
                    path = f"/v1/follow/{quote(kind, safe='')}/{quote(work_id, safe='')}?after={had}"
                    connection.sendall(written_request("GET", path, None, {}))
                    with connection.makefile("rb") as response:
                        for item in _items(response):
                            until = self.clock() + self.retry_for
                            had += len(item.get("answer", ""))
                            yield item
                            if "end" in item:
                                return
            except (OSError, ValueError, LookupError) as error:
                if isinstance(error, PermissionError):
                    raise MusterError(not_ours(self.path)) from None
                if self.clock() >= until:
                    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
                        raise NotRunning from None
                    raise LostConnection from None
            self.sleep(_PAUSE)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        progress: Callable[[str], None] | None = None,
    ) -> GatewayResponse:
        until = self.clock() + self.retry_for
        asked = False
        while True:
            try:
                with closing(_connected(self.path)) as connection:
                    asked = True
                    connection.sendall(written_request(method, path, body, headers))
                    with connection.makefile("rb") as response:
                        answer = _read(response, progress)
                if answer.status != 503 or _code(answer) != "stopping":
                    return answer
            except PermissionError:
                raise MusterError(not_ours(self.path)) from None
            except (OSError, ValueError, LookupError):
                if not asked:
                    raise NotRunning from None
            if self.clock() >= until:
                raise LostConnection
            self.sleep(_PAUSE)


def _connected(path: Path) -> socket.socket:
    """Return a connection to the gateway.

    Raises:
        OSError: nothing listens on the socket.
        MusterError: another user listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(os.fspath(path))
        refuse_stranger(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def refuse_stranger(connection: socket.socket, path: Path) -> None:
    """Refuse to talk to another user's process.

    Raises:
        MusterError: another user listens there.
    """
    uid = uid_of(connection)
    if uid != os.getuid():
        raise MusterError(f"Another user ({uid}) listens on {path}. Nothing was sent; remove that file.")


def not_ours(path: Path) -> str:
    """Return the sentence about a socket that this user may not open."""
    return f"You may not use {path}: Muster runs there for another user."


def command_path(name: str) -> str:
    """Return the address of a command."""
    return "/v1/commands/" + "/".join(quote(word, safe="") for word in name.split())


def written_request(method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
    """Return a request as it is sent."""
    lines = [f"{method} {path} HTTP/1.0", "Host: muster", *(f"{name}: {value}" for name, value in headers.items())]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


def _read(response: BinaryIO, progress: Callable[[str], None] | None) -> GatewayResponse:
    """Return the response, after reporting the progress that precedes it.

    Raises:
        ValueError: the response is missing, incomplete or malformed.
    """
    version, status, *_ = response.readline(LONGEST_LINE).split()
    if not version.startswith(b"HTTP/1."):
        raise ValueError("it is no HTTP")
    headers: dict[bytes, bytes] = {}
    while line := response.readline(LONGEST_LINE).rstrip(b"\r\n"):
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if progress is None or headers.get(b"content-type") != LINES.encode():
        # What is cut short is no JSON: a response is an object.
        return GatewayResponse(int(status), json.loads(response.read(LONGEST_ANSWER)))
    while line := response.readline(LONGEST_ANSWER):
        said = json.loads(line)
        if "progress" not in said:
            return GatewayResponse(int(said["status"]), said["body"])
        progress(str(said["progress"]))
    raise ValueError("it ended before the answer")


def _items(response: BinaryIO) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a response in lines.

    Raises:
        ValueError: the response is incomplete or malformed.
        MusterError: it is a refusal.
    """
    version, status, *_ = response.readline(LONGEST_LINE).split()
    if not version.startswith(b"HTTP/1."):
        raise ValueError("it is no HTTP")
    while response.readline(LONGEST_LINE).rstrip(b"\r\n"):
        pass
    if int(status) != 200:
        refused = GatewayResponse(int(status), json.loads(response.read(LONGEST_ANSWER)))
        if _code(refused) in ("stopping", "register"):
            raise ValueError("it is away")
        raise MusterError(str(refused.body["error"]), code=str(refused.body["code"]))
    while line := response.readline(LONGEST_ANSWER):
        item = json.loads(line)
        if not isinstance(item, dict):
            raise ValueError("it is no object")
        yield item
    raise ValueError("it ended before the work did")


def _code(answer: GatewayResponse) -> object:
    return answer.body.get("code") if isinstance(answer.body, dict) else None
