"""The base of every error that Muster raises on purpose.

    MusterError
    ├── core.errors.RegisterError    the database cannot be used as it is
    │   ├── RegisterFull                 its disk is full
    │   ├── RegisterAway                 its server does not respond
    │   ├── RegisterUnusable             its file is damaged, missing, or cannot be read or written
    │   ├── RegisterFenced               another orchestrator leads now
    │   └── RegisterConflict             it rolled back a transaction in favor of another
    ├── connectors.contract.connector_protocol.SendError    a chat system did not take a message
    ├── forge.model.errors.ForgeError    a forge did not do what was asked
    ├── fleet.errors.FleetError          an agent cannot do what was asked
    └── bot.text.errors.UserError        invalid input by a person, in a command or in a file

The module is in `core` so that every package may import it.
"""

from __future__ import annotations


class MusterError(Exception):
    """An error that a person can act on. The message says what happened and what to do.

    The default message is the docstring of the class.
    """

    code: str = "failed"
    """What happened, for programs: words that stay when the message changes, such as ``agent.unknown``."""

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or type(self).__name__).split()))
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class RegisterError(MusterError):
    """The register cannot be used in its current state."""

    code = "register.failed"


class RegisterFull(RegisterError):
    """The register's disk is full. No change was written in part. Free disk space, and the work continues."""

    code = "register.full"


class RegisterAway(RegisterError):
    """The register's server does not respond. No change was written in part. The work continues when it is back."""

    code = "register.away"


class RegisterUnusable(RegisterError):
    """The register's file is damaged or missing, or cannot be read or written. Repair or restore it."""

    code = "register.unusable"


class RegisterFenced(RegisterError):
    """Another Muster now leads with this register, because this one was silent for too long. Nothing was written."""

    code = "register.fenced"


class RegisterConflict(RegisterError):
    """The register rolled back a transaction in favor of another one. Nothing was written. A retry can succeed."""

    code = "register.conflict"


def is_away(error: BaseException) -> bool:
    """Return whether an error, or every error in a group, means that the register is away."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_away(each) for each in error.exceptions)
    return isinstance(error, RegisterAway)
