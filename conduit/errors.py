"""Why a homeserver could not be set up."""

from __future__ import annotations

from core.errors import MusterError


class ProvisionError(MusterError):
    """Stopped. The message says what was found and what to do; the same command goes on from there."""
