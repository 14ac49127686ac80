"""Synchronous client of the egress's control socket, without an event loop or an HTTP library.

`muster egress cutoff` and `muster estop` use it: aiohttp and pydantic take a second of CPU to import, while an agent
continues to spend. It imports only the standard library. All other code uses `egress.daemon.control_client`.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

from egress.errors import EgressAbsent, EgressRefused, EgressSilent, EgressUnreachable

#: How long to wait for an answer, in seconds.
ANSWER_S: Final = 15.0
#: The longest answer, in bytes. The status of 1,000 agents takes 50 kB.
_LONGEST: Final = 16 * 2**20


def request(
    control: str | os.PathLike[str],
    method: str,
    path: str,
    wanted: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = ANSWER_S,
) -> dict[str, Any]:
    """Send one request to the control socket and return the answer (`egress.daemon.control_server` lists the requests).

    Raises:
        EgressAbsent: no process listens there.
        EgressUnreachable: the connection closed without an answer, or the process is not an egress.
        EgressSilent: there was no answer within `timeout_s`.
        EgressRefused: the egress refused the request.
    """
    body = b"" if wanted is None else json.dumps(wanted).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: egress\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    until = time.monotonic() + timeout_s
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            try:
                connection.connect(os.fspath(control))
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise EgressAbsent(_no_answer(control, type(error).__name__)) from None
            connection.sendall(head.encode() + body)
            while piece := connection.recv(2**16):
                received += piece
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                if len(received) > _LONGEST:
                    raise _no_egress(control)
                connection.settimeout(left)
    except TimeoutError:
        raise EgressSilent(_no_answer(control, "no answer in time")) from None
    except OSError as error:
        raise EgressUnreachable(_no_answer(control, type(error).__name__)) from None
    return _answer(control, bytes(received))


def _answer(control: str | os.PathLike[str], received: bytes) -> dict[str, Any]:
    # The server closes the connection after its answer, and aiohttp sends small answers with a Content-Length.
    head, _, content = received.partition(b"\r\n\r\n")
    try:
        status = int(head.split(b" ", 2)[1])
        found = json.loads(content) if content else {}
    except (ValueError, IndexError):
        raise _no_egress(control) from None
    if not isinstance(found, dict):
        raise _no_egress(control)
    if status >= 400:
        raise EgressRefused(str(found.get("error") or f"HTTP {status}"), status=status)
    return found


def _no_answer(control: str | os.PathLike[str], why: str) -> str:
    return (
        f"The egress does not answer on {os.fspath(control)} ({why}). `muster egress status` says whether it runs; "
        "if it ended, its log says why."
    )


def _no_egress(control: str | os.PathLike[str]) -> EgressUnreachable:
    return EgressUnreachable(f"What answers on {os.fspath(control)} is no egress.")
