"""Whether commits have records of Muster's, and whether these are what Muster wrote. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from forge.provenance.notes import SignedRecord, read_line
from forge.provenance.record import UnreadableRecord

#: Lines of one note that are read.
_MOST_LINES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvidence:
    """What the audit log says."""

    digests: Collection[str]
    """The digests of lines that records name, as far as they are in the chain."""
    faults: int = 0
    """Places at which the audit log is not as Muster wrote it."""
    begins_at: float | None = None
    """When its first line was written, if older ones expired and were deleted; None: none were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceFault:
    """Something that does not match."""

    code: str
    """``note_missing``, ``note_unreadable``, ``record_altered``, ``commit_differs``, ``key_unknown``,
    ``audit_missing`` or ``audit_altered``."""
    detail: str
    """For people; it names nothing that came from outside but keys and commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitVerification:
    """What was found out of one commit."""

    commit: str
    records: tuple[SignedRecord, ...]
    """Those that match, by the time at which their runs began. Several runs may have worked on a commit."""
    faults: tuple[ProvenanceFault, ...]
    notices: tuple[str, ...] = ()
    """What could not be compared, and is no fault."""


def verify(
    notes: Mapping[str, str], commits: Sequence[str], keys: Collection[str], audit: AuditEvidence | None = None
) -> tuple[CommitVerification, ...]:
    """Compare notes with commits, keys, and the audit log.

    Args:
        notes: the text of each commit's note; hostile, as anybody who can push may have written it.
        commits: the commits that are asked about.
        keys: the public keys that are trusted.
        audit: what the audit log says; None: it is not compared.
    """
    return tuple(_commit(commit, notes.get(commit, ""), keys, audit) for commit in commits)


def named_digests(notes: Mapping[str, str]) -> frozenset[str]:
    """Return the digests of audit lines that notes name."""
    found = set()
    for note in notes.values():
        for line in note.splitlines()[:_MOST_LINES]:
            try:
                digest = read_line(line).record.audit
            except UnreadableRecord:
                continue
            if digest is not None:
                found.add(digest)
    return frozenset(found)


def _commit(commit: str, note: str, keys: Collection[str], audit: AuditEvidence | None) -> CommitVerification:
    lines = [line for line in note.splitlines() if line.strip()]
    records: list[SignedRecord] = []
    faults: list[ProvenanceFault] = []
    notices: list[str] = []
    if not lines:
        faults.append(ProvenanceFault(code="note_missing", detail="There is no record of it."))
    if len(lines) > _MOST_LINES:
        faults.append(ProvenanceFault(code="note_unreadable", detail=f"Its note has more than {_MOST_LINES} lines."))
    for number, line in enumerate(lines[:_MOST_LINES], 1):
        try:
            signed = read_line(line)
        except UnreadableRecord as error:
            faults.append(ProvenanceFault(code="note_unreadable", detail=f"Line {number} of its note: {error}"))
            continue
        found = _record(signed, commit, keys, audit, notices)
        faults += found
        if not found:
            records.append(signed)
    if len(records) > 1:
        notices.append(f"It has {len(records)} records: several runs worked on it.")
    if audit is not None and audit.faults:
        faults.append(
            ProvenanceFault(
                code="audit_altered", detail="The audit log is not as Muster wrote it: see `muster audit verify`."
            )
        )
    records.sort(key=lambda each: each.record.started)
    return CommitVerification(commit=commit, records=tuple(records), faults=tuple(faults), notices=tuple(notices))


def _record(
    signed: SignedRecord, commit: str, keys: Collection[str], audit: AuditEvidence | None, notices: list[str]
) -> list[ProvenanceFault]:
    if not signed.is_valid:
        return [ProvenanceFault(code="record_altered", detail="A record was altered: its signature does not match.")]
    faults = []
    if signed.key not in keys:
        faults.append(
            ProvenanceFault(code="key_unknown", detail=f"A record is signed by {signed.key}, which is not trusted.")
        )
    if signed.commit != commit:
        faults.append(
            ProvenanceFault(code="commit_differs", detail=f"A record is of another commit, {signed.commit[:64]!r}.")
        )
    if audit is None or faults:
        return faults
    if signed.record.audit is None:
        notices.append("A record names no line of the audit log.")
    elif signed.record.audit not in audit.digests:
        if audit.begins_at is not None and signed.record.started.timestamp() < audit.begins_at:
            notices.append("The line of the audit log that a record names may have expired.")
        else:
            faults.append(
                ProvenanceFault(code="audit_missing", detail="The audit log has no line that a record names.")
            )
    return faults
