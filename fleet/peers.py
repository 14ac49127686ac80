"""Who is at the other end of a unix socket."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, Final

_CREDENTIALS: Final = struct.Struct("3i")


def uid_of(sock: Any) -> int | None:
    """The user id of the process that connected, or that listens (unix(7), SO_PEERCRED); None where unknown."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or sock is None:
        return None
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)


def is_own(sock: Any) -> bool:
    """Whether the other end is this user, or root, whom nothing could keep out."""
    return uid_of(sock) in {os.geteuid(), 0}
