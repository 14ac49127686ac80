"""Errors of whoever speaks to the egress's control socket. Importing them costs nothing (see
`egress.daemon.sync_control_client`)."""

from __future__ import annotations

from core.errors import MusterError


class EgressUnreachable(MusterError):
    """The egress does not answer on its control socket."""

    code = "egress.unreachable"


class EgressAbsent(EgressUnreachable):
    """Nobody listens on the egress's control socket."""


class EgressSilent(EgressUnreachable):
    """The egress accepts connections on its control socket and does not answer in time."""


class EgressRefused(MusterError):
    """The egress answered that it does not do this. The message says why."""

    code = "egress.refused"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
