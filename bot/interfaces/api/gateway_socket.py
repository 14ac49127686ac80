"""The gateway's socket, which listens before the gateway serves. Early requests wait in it."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

from core.errors import MusterError

#: Connections that may wait until the gateway serves.
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class GatewaySocket:
    """A listening unix socket, and the file that leads to it."""

    socket: socket.socket
    path: Path
    inode: int

    @classmethod
    def at(cls, path: Path) -> GatewaySocket:
        """Listen at `path`. The leftover socket of an earlier process is replaced.

        Raises:
            MusterError: the socket cannot be created.
        """
        try:
            listening = _listening(path)
        except OSError as error:
            raise MusterError(f"The gateway cannot listen on {path}: {error.strerror or error}.") from error
        return cls(socket=listening, path=path, inode=path.stat().st_ino)

    def remove(self) -> None:
        """Remove the file, unless another process has replaced it. Safe to call twice."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_ino == self.inode:
                self.path.unlink()

    def close(self) -> None:
        """Stop to listen. Whoever waits for an answer is disconnected, and asks again."""
        self.remove()
        self.socket.close()


def _listening(path: Path) -> socket.socket:
    """Return a socket at `path` that no other user could open, not even during its creation."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    part = path.with_name(path.name + ".new")
    try:
        part.unlink(missing_ok=True)
        listener.bind(str(part))
        part.chmod(0o600)
        listener.listen(_BACKLOG)
        part.replace(path)
    except OSError:
        listener.close()
        raise
    return listener
