"""Errors in what a person typed or wrote in a file."""

from __future__ import annotations

from core.errors import MusterError


class UserError(MusterError):
    """The request was refused. The message says what was found, what is allowed, and what to do."""

    code = "refused"


class UsageError(UserError):
    """The command's arguments are wrong. Interfaces append the usage line."""

    code = "command.usage"


class NotPermitted(UserError):
    """You do not have permission to do this."""

    code = "permission.denied"


class ConfigError(UserError):
    """A configuration file is not valid. The message names the file, line and key."""

    code = "config.invalid"


class NotRunning(MusterError):
    """Muster is not running here. Start it with `muster up`, or in the background with `muster up --detach`."""

    code = "muster.not_running"
    told = False
    """Whether programs already got an answer, from what can be known without Muster."""
