"""The base of every error that Muster raises on purpose.

    MusterError
    ├── core.errors.RegisterError    the database cannot be used as it is
    │   ├── RegisterFull                 its disk is full
    │   ├── RegisterAway                 its server does not answer
    │   ├── RegisterUnusable             its file is damaged, gone, or cannot be read or written
    │   ├── RegisterFenced               another orchestrator leads by now
    │   └── RegisterConflict             it undid a transaction in favour of another
    ├── connectors.contract.connector_protocol.SendError    a chat system did not take a message
    ├── fleet.errors.FleetError          an agent cannot do what was asked
    └── bot.text.errors.UserError             what a person typed or wrote in a file

It lives on the ground floor because every other package may import it.
"""

from __future__ import annotations


class MusterError(Exception):
    """Something that a person can act on. The message says what was found and what to do.

    Without a message, the docstring of the class is the message.
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
    """The register cannot be used as it is."""

    code = "register.failed"


class RegisterFull(RegisterError):
    """The disk of the register is full. Nothing was half done; make room, and the work goes on."""

    code = "register.full"


class RegisterAway(RegisterError):
    """The server of the register does not answer. Nothing was half done; when it is back, the work goes on."""

    code = "register.away"


class RegisterUnusable(RegisterError):
    """The register's file is damaged, gone, or cannot be read or written. Repair it, or restore a backup."""

    code = "register.unusable"


class RegisterFenced(RegisterError):
    """Another orchestrator took over this register, because this one did not answer in time. Nothing was written."""

    code = "register.fenced"


class RegisterConflict(RegisterError):
    """The register undid a transaction in favour of another one. Nothing was changed; try again."""

    code = "register.conflict"


def is_away(error: BaseException) -> bool:
    """Whether nothing but a register that is away stands behind an error, or a group of errors."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_away(each) for each in error.exceptions)
    return isinstance(error, RegisterAway)
