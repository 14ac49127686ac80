"""The shell's side of the gateway: one request over the unix socket, with the standard library alone.

A connection that breaks is made again with the same key, so a command runs once however often it is asked for.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bot.text.errors import NotRunning
from core.errors import MusterError
from core.unix_sockets import uid_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Seconds for which a broken connection is made again; a restart of the orchestrator fits into them.
RETRY_FOR = 30.0
_PAUSE = 0.2
#: The type of an answer in lines: an object with `progress` each time that the command says how far it is, and one with
#: the `status` and the `body` that the answer would have had alone.
LINES = "application/x-ndjson"
#: Bytes of an answer.
_LONGEST_ANSWER = 64 * 1_048_576


class LostConnection(MusterError):
    """Muster went away before it answered. What was asked is done once, when it runs again, or not at all."""

    code = "muster.lost_connection"


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """What the gateway answered."""

    status: int
    body: Any


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("muster")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))
        uid = uid_of(self.sock)
        if uid != os.getuid():
            raise MusterError(f"Another user ({uid}) listens on {self._path}. Nothing was sent; remove that file.")


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the gateway at `path`."""

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
        """Run a command, under a key of its own.

        Args:
            name: the command's.
            arguments: by name.
            confirmed: whether what cannot be undone is really meant.
            progress: told how far the command is, each time that it says so.

        Raises:
            NotRunning: no one listens.
            LostConnection: the connection broke and could not be made again in time.
        """
        headers = {"Idempotency-Key": secrets.token_hex(16), "Muster-Door": "cli"}
        if confirmed:
            headers["Muster-Confirm"] = "yes"
        if progress is not None:
            headers["Accept"] = LINES
        path = "/".join(quote(word, safe="") for word in name.split())
        return self._ask("POST", f"/v1/commands/{path}", json.dumps(arguments).encode(), headers, progress)

    def get(self, path: str) -> GatewayResponse:
        """Look at something.

        Raises:
            NotRunning: no one listens.
            LostConnection: the connection broke and could not be made again in time.
        """
        return self._ask("GET", path, None, {})

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
                connection = _Connection(self.path)
                try:
                    connection.connect()
                    asked = True
                    connection.request(method, path, body, dict(headers))
                    answer = _read(connection.getresponse(), progress)
                finally:
                    connection.close()
                if answer.status != 503 or _code(answer) != "stopping":
                    return answer
            except PermissionError:
                raise MusterError(f"You may not use {self.path}: Muster runs there for another user.") from None
            except (OSError, http.client.HTTPException, ValueError):
                if not asked:
                    raise NotRunning from None
            if self.clock() >= until:
                raise LostConnection
            self.sleep(_PAUSE)


def _read(response: http.client.HTTPResponse, progress: Callable[[str], None] | None) -> GatewayResponse:
    """Return the answer; what comes before it is told.

    Raises:
        ValueError: there is none.
    """
    if progress is None or response.getheader("Content-Type") != LINES:
        return GatewayResponse(response.status, json.loads(response.read(_LONGEST_ANSWER)))
    while line := response.readline(_LONGEST_ANSWER):
        said = json.loads(line)
        if "progress" not in said:
            return GatewayResponse(int(said["status"]), said["body"])
        progress(str(said["progress"]))
    raise ValueError("it ended before the answer")


def _code(answer: GatewayResponse) -> object:
    return answer.body.get("code") if isinstance(answer.body, dict) else None
