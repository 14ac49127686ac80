"""What the room is told of jobs that fail: once, again ever less often while it lasts, and once when it is over. Pure.

What was told is in the register, a row per job (`database.queries.operations.watchdog_findings`). It stays for a
while after the job is well, so that one that fails every other time is not told every time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from database.queries.operations.watchdog_findings import JOB_FAILS, JOB_WELL, FindingRow

if TYPE_CHECKING:
    from scheduler.jobs import JobRecord

#: Seconds until it is told again: after the first time, the second, and every one from then on.
PAUSES: Final = (3600.0, 4 * 3600.0, 24 * 3600.0)
#: A job is well again when it has not failed for so many seconds.
CALM_S: Final = 600.0
#: What was told is forgotten after so many seconds without a failure.
FORGET_S: Final = 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Something to be said of a job."""

    news: Literal["fails", "still", "well"]
    #: Its outbox key.
    key: str
    #: How often it will not be said for, seconds; None: there is nothing to repeat.
    silent_for: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What follows from a run."""

    #: What is to stand from now on; None: nothing.
    row: FindingRow | None
    piece: Piece | None = None


def judged(record: JobRecord, standing: FindingRow | None, *, failed_at: float | None, now: float) -> Verdict:
    """Return what follows from a job's run that has just ended.

    Args:
        record: of the job.
        standing: what was told of it.
        failed_at: when it failed last before this run, as far as this process knows.
        now: seconds since the epoch.
    """
    if record.away:
        return Verdict(row=standing)
    if record.last_error is None:
        return _well(standing, failed_at, now)
    return _failed(record, standing, now)


def _failed(record: JobRecord, standing: FindingRow | None, now: float) -> Verdict:
    cause = record.last_error or ""
    if standing is None:
        event = f"job/{record.name}/{now * 1000:.0f}"
        row = FindingRow(
            key=f"job/{record.name}",
            kind=JOB_FAILS,
            agent=None,
            cause=cause,
            event=event,
            found_at=now,
            told_at=now,
        )
        return Verdict(row=row, piece=Piece(news="fails", key=event, silent_for=PAUSES[0]))
    # A clock that was set far back must not keep it from being told.
    if abs(now - standing.told_at) < pause(standing.tells):
        return Verdict(row=standing)
    tells = standing.tells + 1
    news: Literal["fails", "still"] = "still" if standing.kind == JOB_FAILS else "fails"
    row = replace(standing, kind=JOB_FAILS, cause=cause, told_at=now, tells=tells)
    return Verdict(row=row, piece=Piece(news=news, key=f"{standing.event}/{tells}", silent_for=pause(tells)))


def _well(standing: FindingRow | None, failed_at: float | None, now: float) -> Verdict:
    if standing is None:
        return Verdict(row=None)
    if standing.kind == JOB_WELL:
        calm_since = max(standing.told_at, failed_at or 0.0)
        return Verdict(row=None if abs(now - calm_since) >= FORGET_S else standing)
    if failed_at is not None and abs(now - failed_at) < CALM_S:
        return Verdict(row=standing)
    return Verdict(
        row=replace(standing, kind=JOB_WELL, told_at=now),
        piece=Piece(news="well", key=f"{standing.event}/{standing.tells}/well"),
    )


def pause(tells: int) -> float:
    """Return seconds between the time that it was told last, the `tells`-th, and the next."""
    return PAUSES[min(tells, len(PAUSES)) - 1]
