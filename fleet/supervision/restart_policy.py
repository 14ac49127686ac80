"""Whether and when an agent is started again that should run and fell. Pure: what happened and when in, a verdict out.

Each try waits twice as long as the one before. An agent that falls again and again in a short time is given up, and one
that only a person can bring up is not tried at all. A run that lasted makes good what was before it, and a fall that is
the machine's (it was restarted) counts for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

#: Why an agent is given up (`RestartRecord.ended`).
TOO_OFTEN: Final = "too often"
FOR_A_PERSON: Final = "for a person"

#: Behind the id of the launch that someone asked for, in the ids of Muster's own tries.
_TRY: Final = re.compile(r"(?P<launch>.*)~(?P<number>\d{1,9})", re.DOTALL)
#: What an agent host says of a runtime that cannot be started as it is.
_NOT_STARTABLE: Final = re.compile(r"cannot be started: |so \S+ cannot be started in it")


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartLimits:
    """How often, and how long between. Seconds."""

    first: float = 1.0
    longest: float = 300.0
    falls: int = 5
    """So many within the window, and the agent is given up."""
    window: float = 600.0
    lasting: float = 300.0
    """An agent that was ready for so long has recovered from its earlier falls."""


#: How often an agent is restarted, and after which delays.
LIMITS = RestartLimits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Fall:
    """An agent that should run does not any more. Times are seconds since the epoch."""

    at: float
    of: str
    """Which run it was: the same fall has the same word, and is counted once."""
    why: str
    ready_at: float | None = None
    """When the run that ended became ready; None: it never did."""
    with_machine: bool = False
    """The machine was started anew meanwhile."""
    for_a_person: bool = False
    """No try would bring it up before somebody mends what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartRecord:
    """What is kept of an agent's falls."""

    of: str = ""
    """The last fall that was dealt with."""
    why: str = ""
    falls: tuple[float, ...] = ()
    """When it fell, as far back as counts."""
    row: int = 0
    """How often in a row, however long ago it began."""
    try_at: float | None = None
    """When it is tried again; None: it runs, or is given up."""
    ended: str = ""
    """Why it is given up; empty: it is not."""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"falls": list(self.falls)}

    @classmethod
    def from_json(cls, source: Mapping[str, Any] | None) -> RestartRecord:
        """Read one back; of another version, as far as it is understood."""
        known = {name: value for name, value in (source or {}).items() if name in cls.__dataclass_fields__}
        return cls(**known | {"falls": tuple(known.get("falls") or ())})


def after(record: RestartRecord, fall: Fall, limits: RestartLimits = LIMITS) -> RestartRecord:
    """Return what follows from a fall; nothing new from one that was dealt with."""
    if fall.of == record.of:
        return record
    if fall.for_a_person:
        return RestartRecord(of=fall.of, why=fall.why, falls=_recent(record, fall.at, limits), ended=FOR_A_PERSON)
    if fall.ready_at is not None and fall.at - fall.ready_at >= limits.lasting:
        record = RestartRecord()
    falls = _recent(record, fall.at, limits)
    if fall.with_machine:
        return RestartRecord(of=fall.of, why=fall.why, falls=falls, row=record.row, try_at=fall.at)
    falls, row = (*falls, fall.at), record.row + 1
    if len(falls) >= limits.falls:
        return RestartRecord(of=fall.of, why=fall.why, falls=falls, row=row, ended=TOO_OFTEN)
    return RestartRecord(of=fall.of, why=fall.why, falls=falls, row=row, try_at=fall.at + pause(row, limits))


def pause(row: int, limits: RestartLimits = LIMITS) -> float:
    """Return seconds before the next try, after so many falls in a row."""
    return min(limits.first * 2.0 ** min(row - 1, 60), limits.longest)


def due(record: RestartRecord, now: float, limits: RestartLimits = LIMITS) -> float | None:
    """Return when it is tried again, or None. A clock that is set back never makes the wait longer than announced."""
    return None if record.try_at is None else min(record.try_at, now + pause(record.row, limits))


def tried(record: RestartRecord) -> RestartRecord:
    """Return what is kept once it is tried again."""
    return replace(record, try_at=None)


def is_over(record: RestartRecord, now: float) -> bool:
    """Return whether an agent that was given up may be restarted when the whole fleet is.

    Falls in a short time stay counted however often Muster itself is started meanwhile; what a person had to mend may
    be repaired.
    """
    return record.ended == FOR_A_PERSON or (record.ended == TOO_OFTEN and not _recent(record, now, LIMITS))


def _recent(record: RestartRecord, now: float, limits: RestartLimits) -> tuple[float, ...]:
    # Those that a clock which was put back has left ahead of it count as little as those of long ago.
    return tuple(at for at in record.falls if abs(now - at) < limits.window)


def try_id(launch_id: str) -> str:
    """Return the id of the next try of a launch. The one that someone asked for stays recognizable in it."""
    match = _TRY.fullmatch(launch_id)
    return f"{match['launch']}~{int(match['number']) + 1}" if match else f"{launch_id}~1"


def asked_for(launch_id: str) -> str:
    """Return the id of the launch that someone asked for, of which this may be a try."""
    match = _TRY.fullmatch(launch_id)
    return match["launch"] if match else launch_id


def needs_a_person(reason: str, stderr: str, hints: Mapping[str, str]) -> bool:
    """Return whether a runtime that never became ready said something that only a person can mend.

    Args:
        reason: why it did not, as the agent host said.
        stderr: its last lines.
        hints: what is known of its kind (fleet.runtimes.Runtime.hints).
    """
    said = f"{reason}\n{stderr}"
    return _NOT_STARTABLE.search(reason) is not None or any(re.search(pattern, said) for pattern in hints)
