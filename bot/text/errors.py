"""What a person typed, or wrote in a file, and cannot have."""

from __future__ import annotations

from core.errors import MusterError


class UserError(MusterError):
    """Refused. The message says what was found, what is allowed, and what to do."""


class UsageError(UserError):
    """The words of a command are wrong; doors add the usage line."""


class NotPermitted(UserError):
    """The person's permission does not reach."""


class ConfigError(UserError):
    """A configuration file is not valid; the message names file, line and key."""


class NotRunning(MusterError):
    """Muster is not running here. `muster up` starts it, `muster up --detach` in the background."""
