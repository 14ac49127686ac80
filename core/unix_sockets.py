"""Unix sockets of this user's alone, and who is at their other end."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_CREDENTIALS: Final = struct.Struct("3i")


def listen(path: Path) -> socket.socket:
    """Return a socket that this user alone can connect to; one that was left there is replaced.

    Raises:
        OSError: there can be none.
    """
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        path.chmod(0o600)
    except OSError:
        listening.close()
        raise
    return listening


def uid_of(sock: Any) -> int | None:
    """Return the user id of the process that connected, or that listens (unix(7), SO_PEERCRED); None where unknown."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or sock is None:
        return None
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)


def is_own(sock: Any) -> bool:
    """Return whether the other end is this user, or root, whom nothing could keep out."""
    return uid_of(sock) in {os.geteuid(), 0}
