"""What is recorded of a run of an agent, as one value and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Final, TypeVar, cast

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError

from forge.cleaning import disarming
from forge.provenance.canonical import Json

#: The version of the JSON form. A reader refuses later ones.
VERSION: Final = 1
#: The most characters of a name, and entries of a list, in a record. A longer one would not fit a comment or a note.
LONGEST_NAME: Final = 200
MOST_ENTRIES: Final = 50

Count = Annotated[int, Field(ge=0, le=2**53)]
Money = Annotated[Decimal, Field(ge=0, max_digits=20, decimal_places=9)]

_T = TypeVar("_T")


class UnreadableRecord(ValueError):
    """The JSON is no record, or one of a later version."""


class SecretScan(StrEnum):
    """What a search for secrets in the changes said."""

    NOT_RUN = "not run"
    CLEAN = "clean"
    FOUND = "found"


class RunEnding(StrEnum):
    """Who ended a run."""

    SIGNALLED = "signal_done"
    """The agent said that it is done."""
    BLOCKED = "signal_done: blocked"
    """The agent said that it needs an answer."""
    FAILED = "signal_done: failed"
    """The agent said that it cannot be done."""
    WATCHDOG = "watchdog"
    """Muster ended it."""
    WORKING = "working"
    """The agent still works: the record is that of a comment that it wrote meanwhile."""


class ForgeOperation(StrEnum):
    """What Muster did at a forge, or refused to do, because an agent asked."""

    COMMENT = "comment"
    EDIT = "edit"
    DESCRIPTION = "description"
    PULL_REQUEST = "pull_request"
    READY = "ready"
    REVIEW = "review"
    PUSH = "push"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOperation:
    """One operation on the forge, from Muster's log."""

    kind: ForgeOperation
    target: str
    """``#17``, or the name of a branch."""
    refusal: str | None = None
    """Why it was refused; None: it was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRoute:
    """A host that the agent could reach through the egress."""

    host: str
    """Its public name, or ``internal``."""
    authentication: str | None = None
    """The kind of credential that the egress added, such as ``api key``; None: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedApproval:
    """A permission request that somebody answered."""

    request: str
    by: str
    """A public name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedConfiguration:
    """The configuration that was in force."""

    digest: str
    version: str | None = None
    url: str | None = None
    """The page of the version, by its commit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenanceRecord:
    """A run of an agent. Names come from outside, so they may hold anything; None is unknown."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    agent: str
    role: str
    runtime: str
    runtime_version: str | None = None
    models: tuple[str, ...] = ()
    """The models that answered."""
    sandboxes: tuple[str, ...] = ()
    run: str
    session: str | None = None
    started: AwareDatetime
    duration_s: Count | None = None
    exit: str | None = None
    """How the runtime ended, such as ``0``."""
    turns: Count | None = None
    tokens_projected: Count | None = None
    tokens_actual: Count | None = None
    cost_projected: Money | None = None
    """USD."""
    cost_actual: Money | None = None
    secret_scan: SecretScan = SecretScan.NOT_RUN
    ending: RunEnding
    routes: tuple[RecordedRoute, ...] | None = None
    operations: tuple[RecordedOperation, ...] = ()
    approvals: tuple[RecordedApproval, ...] = ()
    configuration: RecordedConfiguration | None = None
    audit: str | None = None
    """The digest of the newest line of the audit when the record was made."""
    left_out: Count = 0
    """Entries of lists that the record was too long for."""
    version: int = field(default=VERSION)

    def __post_init__(self) -> None:
        if self.started.tzinfo is None:
            raise ValueError(f"{self.started} has no time zone.")

    def as_json(self) -> dict[str, Json]:
        """Return the record as JSON, bounded in size: times in UTC, decimals as strings."""
        made: dict[str, Json] = _adapter().dump_python(bounded(self), mode="json")
        return made

    @classmethod
    def from_json(cls, value: object) -> ProvenanceRecord:
        """Read what `as_json` returned.

        Raises:
            UnreadableRecord: it is something else.
        """
        found = value.get("version") if isinstance(value, dict) else None
        if found != VERSION or isinstance(found, bool):
            raise UnreadableRecord(f"This is no record of version {VERSION}. A later Muster may be able to read it.")
        try:
            return _adapter().validate_json(json.dumps(value))
        except (ValidationError, ValueError, RecursionError) as error:
            what = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            place = ".".join(map(str, what["loc"]))
            raise UnreadableRecord(
                f"This is no record: {place[:100]!a}: {disarming.visible(str(what['msg']))[:200]}."
            ) from None


def bounded(record: ProvenanceRecord) -> ProvenanceRecord:
    """Return a record whose names are one short visible line each, and whose lists are short.

    Lists keep their beginning; `left_out` counts the rest.
    """
    left_out = record.left_out
    changes: dict[str, Any] = {}
    for name in ("agent", "role", "runtime", "runtime_version", "run", "session", "exit", "audit"):
        changes[name] = _name(getattr(record, name))
    for name in ("models", "sandboxes", "routes", "operations", "approvals"):
        entries = getattr(record, name)
        if entries is not None:
            left_out += max(0, len(entries) - MOST_ENTRIES)
            changes[name] = tuple(_entry(each) for each in entries[:MOST_ENTRIES])
    if record.configuration is not None:
        changes["configuration"] = _entry(record.configuration)
    return replace(record, **changes, left_out=left_out)


def first_entries(record: ProvenanceRecord, count: int) -> ProvenanceRecord:
    """Return the record with the first entries of each list."""
    lists: dict[str, Sequence[object]] = {
        name: getattr(record, name) or () for name in ("models", "sandboxes", "routes", "operations", "approvals")
    }
    left_out = sum(max(0, len(entries) - count) for entries in lists.values())
    changes: dict[str, Any] = {name: tuple(entries[:count]) for name, entries in lists.items() if entries}
    return replace(record, **changes, left_out=record.left_out + left_out)


def _entry(entry: _T) -> _T:
    if isinstance(entry, str):
        return cast("_T", _name(entry))
    shown: Any = entry
    fields = {name: getattr(shown, name) for name in shown.__dataclass_fields__}
    texts = {name: _name(value) for name, value in fields.items() if type(value) is str}
    return cast("_T", replace(shown, **texts))


def _name(text: str | None) -> str | None:
    if text is None:
        return None
    line = " ".join(disarming.visible(text[: 8 * LONGEST_NAME]).split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1]}…"


@cache
def _adapter() -> TypeAdapter[ProvenanceRecord]:
    return TypeAdapter(ProvenanceRecord)


def utc(moment: datetime) -> str:
    """Return a moment as people read it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
