"""Unix sockets that only this user can connect to, and the user at their other end."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_CREDENTIALS: Final = struct.Struct("3i")


def listen(path: Path) -> socket.socket:
    """Listen on a socket that only this user can connect to. A stale socket is replaced.

    Raises:
        OSError: the socket cannot be created.
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
    """Return the user ID of the peer process (unix(7), SO_PEERCRED), or None if it is unknown."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None or sock is None:
        return None
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    return int(uid)


def is_own(sock: Any) -> bool:
    """Return whether the peer is this user, or root, which has access to everything anyway."""
    return uid_of(sock) in {os.geteuid(), 0}
