"""What a person typed, or wrote in a file, and cannot have."""

from __future__ import annotations

from core.errors import MusterError


class UserError(MusterError):
    """Refused. The message says what was found, what is allowed, and what to do."""

    code = "refused"


class UsageError(UserError):
    """The words of a command are wrong; doors add the usage line."""

    code = "command.usage"


class NotPermitted(UserError):
    """Your permission does not allow this."""

    code = "permission.denied"


class ConfigError(UserError):
    """A configuration file is not valid; the message names file, line and key."""

    code = "config.invalid"


class NotRunning(MusterError):
    """Muster is not running here. `muster up` starts it, `muster up --detach` in the background."""

    code = "muster.not_running"
