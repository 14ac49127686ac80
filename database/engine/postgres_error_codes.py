"""What PostgreSQL's error codes mean for a register.

The codes are those of the manual's appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

from core.errors import RegisterAway, RegisterConflict, RegisterError, RegisterFull

_AWAY = (
    "08",  # connection exception
    "53300",  # too many connections
    "57P01",  # the server was told to stop
    "57P02",  # it crashed
    "57P03",  # it is starting, or stopping
    "57P05",  # the connection was idle for too long
    "25P03",  # the transaction was
    "57014",  # the statement took too long, or was cancelled
)
_CONFLICT = ("40001", "40P01")  # serialization failure, deadlock
_DAMAGED = ("XX001", "XX002")  # data or index corrupted
_NO_IO = ("58030", "58P01", "58P02")  # a file of the server cannot be read, is missing, is there already
_FULL = ("53100",)
_NOT_ALLOWED = ("28", "42501")  # log-in, privileges


def away(place: object, reason: str) -> RegisterAway:
    """The server does not answer."""
    return RegisterAway(f"The register {place} does not answer: {reason}. Start PostgreSQL, or mend the way to it.")


def refusal(place: object, code: str | None, reason: str) -> RegisterError | None:
    """Return what to say of an error of the server; None when the statement itself was at fault.

    Args:
        place: the register, as it may be shown.
        code: the SQLSTATE; None when the driver had none.
        reason: the error's own words.
    """
    code, reason = code or "", " ".join(reason.split()).rstrip(".")
    if code.startswith(_CONFLICT):
        return RegisterConflict(
            f"The register {place} undid this in favour of something else that was written: {reason}. Nothing of it "
            "stands; try it again."
        )
    if code.startswith(_AWAY):
        return away(place, reason)
    if code.startswith(_FULL):
        return RegisterFull(
            f"The disk of the register {place} is full: {reason}. Nothing was half done; make room, and the work goes "
            "on."
        )
    if code.startswith(_DAMAGED):
        return RegisterError(f"The register {place} is damaged: {reason}. Restore it from a backup.")
    if code.startswith(_NO_IO):
        return RegisterError(f"The server of the register {place} cannot read its files: {reason}. Check its disk.")
    if code == "25006":
        return RegisterError(
            f"The register {place} can only be read: {reason}. Where this is a standby, name the primary."
        )
    if code == "55P03":
        return RegisterError(f"The register {place} is locked by another program. Stop what else uses it.")
    if code == "3D000":
        return RegisterError(f"The register {place} does not exist: {reason}. Create the database first (createdb).")
    if code.startswith(_NOT_ALLOWED):
        return RegisterError(
            f"The register {place} cannot be used: {reason}. Check the user, its password and its privileges."
        )
    return None
