"""Who did what. Times are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One row of the audit log."""

    seq: int
    at: float
    identity: str
    through: str | None = None
    """The group that gave the permission; None: the identity itself had it."""
    door: str
    """Where it came from: chat, cli, gateway, web, egress, ..."""
    connector: str | None = None
    action: str
    arguments: str = ""
    """``name=value`` pairs, shortened."""
    outcome: str
    """done, refused, failed, lapsed, answered or expired."""
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerification:
    """Whether the audit log is as Muster wrote it."""

    lines: int
    signatures: int
    signed_at: float | None
    """When a line was last signed; None: none was yet."""
    begins_at: float | None
    """When the lines before the first one expired and were deleted; None: none were."""
    head: str
    """The digest of the newest line."""
    key: str
    """The public key of this installation."""
    faults: tuple[AuditProblem, ...] = ()
    more_faults: int = 0
    """Faults that are not listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditProblem:
    """A place at which the audit log is not as Muster wrote it."""

    code: str
    """``unchained``, ``broken``, ``anchor_missing``, ``anchor_invalid`` or ``anchor_unknown_key``."""
    seq: int
    """The number of the line that it is about."""
    at: float | None
    """The time of the line; for a signature, its own."""
    key: str | None = None
    """The unknown key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditModel:
    """A page of the audit log, newest first."""

    entries: tuple[AuditEntry, ...] = ()
    before: str | None = None
    """The page with older rows is the one before this place; None: there are none."""
