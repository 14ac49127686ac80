"""Whether the audit log is as Muster wrote it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from core.signing.signing_key import is_signed
from database.queries.operations.audit_anchors import RETENTION, AuditAnchor, ChainedLine
from database.schema.audit_chain import BEGIN, digest


@dataclass(frozen=True, slots=True)
class AuditFault:
    """A place at which the audit is not as Muster wrote it."""

    code: str
    """``unchained``, ``broken``, ``anchor_missing``, ``anchor_invalid`` or ``anchor_unknown_key``."""
    seq: int
    """The number of the line, or of the line that an anchor is about."""
    at: float | None
    """The time of the line or of the anchor."""
    key: str | None = None
    """The unknown key."""


@dataclass(slots=True)
class AuditCheck:
    """Reads the lines in their order, and says what is wrong with them.

    Args:
        anchors: everything that was signed, oldest first.
        keys: the public keys that may have signed it.
        looked_for: digests that are searched for.
        most: how many faults are kept; the rest is counted.
    """

    anchors: Sequence[AuditAnchor]
    keys: Collection[str]
    looked_for: Collection[str] = ()
    most: int = 100
    lines: int = 0
    faults: list[AuditFault] = field(default_factory=list)
    more_faults: int = 0
    head: str = BEGIN
    """The digest of the last line read."""
    found: set[str] = field(default_factory=set)
    """Those of `looked_for` that belong to a line that follows the one before."""
    begins_at: float | None = None
    """When the lines before the first one were deleted; None: none were."""
    _wanted: dict[int, list[AuditAnchor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        valid = [each for each in self.anchors if self._is_valid(each)]
        begin = next((each for each in reversed(valid) if each.kind == RETENTION), None)
        if begin is not None:
            self.head = begin.chain
            self.begins_at = begin.at
            self._find(begin.chain)
        for each in valid:
            if each is not begin:
                self._wanted.setdefault(each.seq, []).append(each)

    def line(self, line: ChainedLine) -> None:
        """Check the next line."""
        self.lines += 1
        at = float(line.columns["at"])
        if line.chain is None:
            self._add(AuditFault("unchained", line.seq, at))
            return
        if digest(self.head, line.columns) != line.chain:
            self._add(AuditFault("broken", line.seq, at))
        else:
            self._find(line.chain)
        self.head = line.chain
        for anchor in self._wanted.pop(line.seq, ()):
            if anchor.chain != line.chain:
                self._add(AuditFault("anchor_missing", anchor.seq, anchor.at))

    def end(self) -> None:
        """Check what was signed and is not there."""
        for seq in sorted(self._wanted):
            for anchor in self._wanted[seq]:
                self._add(AuditFault("anchor_missing", seq, anchor.at))
        self._wanted = {}

    def _find(self, chain: str) -> None:
        if chain in self.looked_for:
            self.found.add(chain)

    def _is_valid(self, anchor: AuditAnchor) -> bool:
        if not is_signed(anchor.signed, anchor.signature, anchor.key):
            self._add(AuditFault("anchor_invalid", anchor.seq, anchor.at))
            return False
        if anchor.key not in self.keys:
            self._add(AuditFault("anchor_unknown_key", anchor.seq, anchor.at, anchor.key[:100]))
            return False
        return True

    def _add(self, fault: AuditFault) -> None:
        if len(self.faults) < self.most:
            self.faults.append(fault)
        else:
            self.more_faults += 1
