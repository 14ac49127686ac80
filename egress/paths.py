"""Paths of the egress's files and sockets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import MusterError

#: The longest path of a Unix socket on Linux, in bytes (unix(7): sun_path has 108, including the final zero).
LONGEST_SOCKET_PATH: Final = 107


class SocketPathTooLong(MusterError):
    """The path of a Unix socket is too long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressPaths:
    """Paths of one egress, below two absolute folders."""

    state: Path
    """Muster's state folder; the egress has a subfolder in it."""
    sockets: Path

    @property
    def folder(self) -> Path:
        """The egress's own folder."""
        return self.state / "egress"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def authority(self) -> Path:
        """The folder of the certificate authority."""
        return self.folder / "ca"

    @property
    def trust(self) -> Path:
        """Certificates that sandboxes can read (`ca.pem`, `bundle.pem`). No keys."""
        return self.folder / "trust"

    @property
    def log(self) -> Path:
        return self.folder / "egress.log"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def settings(self) -> Path:
        return self.folder / "settings.json"

    @property
    def spool(self) -> Path:
        """The folder for unnamed temporary files that hold long request bodies."""
        return self.folder / "spool"

    @property
    def estop(self) -> Path:
        """The emergency stop: while this file exists, nothing leaves the host."""
        return self.state / "estop"

    @property
    def control(self) -> Path:
        """The egress's control socket."""
        return self.sockets / "egress.sock"

    def listener(self, agent: str) -> Path:
        """Return the path of the socket that identifies an agent.

        It is alone in its folder, which can be mounted into the agent's sandbox.

        Raises:
            SocketPathTooLong: no client could connect to it.
        """
        path = self.sockets / f"out-{agent}" / "sock"
        if len(str(path).encode()) > LONGEST_SOCKET_PATH:
            raise SocketPathTooLong(
                f"the socket {path} has a longer name than the {LONGEST_SOCKET_PATH} bytes that there may be. "
                "Choose a folder for sockets with a shorter path."
            )
        return path
