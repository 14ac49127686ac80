"""What can go wrong between the orchestrator and an agent."""

from __future__ import annotations

from core.errors import MusterError


class FleetError(MusterError):
    """An agent cannot do what was asked."""


class AgentUnreachable(FleetError):
    """The agent host does not answer on its control socket."""


class AgentRefused(FleetError):
    """The agent host answered, and says no; the message says why."""

    def __init__(self, message: str, *, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code
        """A word for programs: ``too_late``, ``unknown_message``, ``not_writable``, ``protocol``, ..."""


class RuntimeMissing(FleetError):
    """The program of a runtime is not installed; the message says how to install it."""


class RosterError(FleetError):
    """The roster is not valid; the message names file, line and key."""
