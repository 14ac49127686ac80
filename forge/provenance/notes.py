"""Signed records as lines of a git note. Pure.

A note of a commit has one line of JSON for each run, sorted, each once: notes of the same commit by several runs are
merged by putting their lines together, as git's `cat_sort_uniq` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from core.signing.signing_key import is_signed
from forge.provenance.canonical import Json, canonical
from forge.provenance.record import ProvenanceRecord, UnreadableRecord

#: The version of the line around a record.
VERSION: Final = 1
LONGEST_LINE: Final = 400_000
_FIELDS: Final = frozenset({"commit", "key", "record", "signature", "version"})


class RecordSigner(Protocol):
    """The installation's key (`core.signing.signing_key`)."""

    @property
    def public(self) -> str: ...

    def sign(self, content: bytes) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRecord:
    """A record that is bound to a commit."""

    commit: str
    record: ProvenanceRecord
    key: str
    """The public key that is said to have signed it."""
    is_valid: bool
    """Whether that key signed exactly this."""


def note_line(record: ProvenanceRecord, commit: str, signer: RecordSigner) -> str:
    """Return a signed record of a commit as a line of a note."""
    body: dict[str, Json] = {"commit": commit, "key": signer.public, "record": record.as_json(), "version": VERSION}
    return canonical({**body, "signature": signer.sign(canonical(body))}).decode()


def read_line(line: str) -> SignedRecord:
    """Read a line of a note.

    Raises:
        UnreadableRecord: it is no signed record, or one of a later version.
    """
    if len(line) > LONGEST_LINE:
        raise UnreadableRecord(f"This line is longer than {LONGEST_LINE} characters.")
    try:
        value = json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise UnreadableRecord("This line is no JSON of a record.") from None
    if not isinstance(value, dict) or value.keys() != _FIELDS or value["version"] != VERSION:
        raise UnreadableRecord(f"This line is no signed record of version {VERSION}. A later Muster may read it.")
    texts = {name: value[name] for name in ("commit", "key", "signature")}
    if not all(isinstance(each, str) for each in texts.values()):
        raise UnreadableRecord("This line is no signed record: commit, key and signature are texts.")
    record = ProvenanceRecord.from_json(value["record"])
    body: dict[str, Json] = {name: part for name, part in value.items() if name != "signature"}
    try:
        is_valid = is_signed(canonical(body), texts["signature"], texts["key"])
    except (ValueError, RecursionError):
        is_valid = False
    return SignedRecord(commit=texts["commit"], record=record, key=texts["key"], is_valid=is_valid)


def merged(*notes: str) -> str:
    """Return one note with the lines of several, sorted, each once. Lines that are no records stay."""
    lines = {line.strip() for note in notes for line in note.splitlines() if line.strip()}
    return "".join(f"{line}\n" for line in sorted(lines))


def _object(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice")
    return made
