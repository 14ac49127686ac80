"""The kinds of hosting that there are, and how starting in one of them fails."""

from __future__ import annotations

from typing import Final

from fleet.errors import FleetError

PROCESS: Final = "process"
TMUX: Final = "tmux"
SYSTEMD: Final = "systemd"
HOSTINGS: Final = (PROCESS, TMUX, SYSTEMD)
#: Where an agent host runs when no one says.
DEFAULT: Final = PROCESS


class NotHosted(FleetError):
    """An agent host cannot run, or cannot be ended, where it is to run; the message says what to do."""

    code = "hosting.unavailable"


class Barred(NotHosted):
    """And no other try would do, before someone does what the message says."""


class Stuck(FleetError):
    """What was started did not get as far as it should."""

    code = "hosting.stuck"

    def __init__(self, message: str, group: int) -> None:
        super().__init__(message)
        self.group = group
        """Its process group."""
