"""What can go wrong between the orchestrator and an agent."""

from __future__ import annotations

from core.errors import MusterError


class FleetError(MusterError):
    """An agent cannot do what was asked."""

    code = "agent.failed"


class AgentUnreachable(FleetError):
    """The agent host does not answer on its control socket."""

    code = "agent.unreachable"


class AgentRefused(FleetError):
    """The agent host answered, and says no; the message says why."""

    code = "agent.refused"

    def __init__(self, message: str, *, refusal: str = "refused") -> None:
        super().__init__(message)
        self.refusal = refusal
        """A word for programs: ``too_late``, ``unknown_message``, ``not_writable``, ``protocol``, ..."""


class RuntimeMissing(FleetError):
    """The program of a runtime is not installed; the message says how to install it."""

    code = "runtime.missing"


class RosterError(FleetError):
    """The roster is not valid; the message names file, line and key."""

    code = "roster.invalid"
