"""Errors of clients of the egress's control socket. Cheap to import (see `egress.daemon.sync_control_client`)."""

from __future__ import annotations

from core.errors import MusterError


class EgressUnreachable(MusterError):
    """The egress does not answer on its control socket."""

    code = "egress.unreachable"


class EgressAbsent(EgressUnreachable):
    """No process listens on the egress's control socket."""


class EgressSilent(EgressUnreachable):
    """The egress accepts connections on its control socket but does not answer in time."""


class EgressRefused(MusterError):
    """The egress refused the request. The message says why."""

    code = "egress.refused"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
