"""Where the egress keeps what it knows, and where it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from core.errors import MusterError

if TYPE_CHECKING:
    from pathlib import Path

#: What the name of a unix socket may be long, in bytes, on Linux (unix(7): sun_path has 108, with a closing zero).
LONGEST_SOCKET_PATH: Final = 107


class SocketPathTooLong(MusterError):
    """A unix socket cannot have so long a name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressPaths:
    """Both folders are absolute."""

    state: Path
    """Muster's state; the egress has a folder of its own in it."""
    sockets: Path

    @property
    def folder(self) -> Path:
        """The egress's own."""
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
        """Certificates that sandboxes are shown (`ca.pem`, `bundle.pem`). No keys."""
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
        """Long request bodies lie here while they are on their way, without a name."""
        return self.folder / "spool"

    @property
    def estop(self) -> Path:
        """While this file is there, nothing leaves."""
        return self.state / "estop"

    @property
    def control(self) -> Path:
        """The egress's own socket."""
        return self.sockets / "egress.sock"

    def listener(self, agent: str) -> Path:
        """Return the socket that is an agent's identity, alone in a folder that its sandbox can be shown.

        Raises:
            SocketPathTooLong: no one could connect to it.
        """
        path = self.sockets / f"out-{agent}" / "sock"
        if len(str(path).encode()) > LONGEST_SOCKET_PATH:
            raise SocketPathTooLong(
                f"the socket {path} has a longer name than the {LONGEST_SOCKET_PATH} bytes that there may be. "
                "Choose a folder for sockets with a shorter path."
            )
        return path
