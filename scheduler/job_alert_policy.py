"""The alert policy for failing jobs: one alert, repeats at growing intervals, and one message on recovery. Pure.

The register has a row for each alerted job (`database.queries.operations.watchdog_findings`). The row remains for a
while after the recovery, so that a job that fails every other time does not alert every time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from database.queries.operations.watchdog_findings import JOB_FAILS, JOB_WELL, FindingRow
from scheduler.jobs import JobRecord

#: Seconds until an alert repeats: after the first, the second, and each later one.
PAUSES: Final = (3600.0, 4 * 3600.0, 24 * 3600.0)
#: Seconds without a failure after which a job has recovered.
CALM_S: Final = 600.0
#: Seconds without a failure after which the job's row is deleted.
FORGET_S: Final = 24 * 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A message about a job."""

    news: Literal["fails", "still", "well"]
    #: The outbox key.
    key: str
    #: Seconds until the message can repeat; None if it never does.
    silent_for: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobVerdict:
    """The consequences of a run."""

    #: The job's new row; None to delete it.
    row: FindingRow | None
    piece: Piece | None = None


def judged(record: JobRecord, standing: FindingRow | None, *, failed_at: float | None, now: float) -> JobVerdict:
    """Return the consequences of a job's run that just ended.

    Args:
        record: the job's record.
        standing: the job's row in the register.
        failed_at: the time of the last failure before this run, if this process knows it.
        now: seconds since the epoch.
    """
    if record.away:
        return JobVerdict(row=standing)
    if record.last_error is None:
        return _well(standing, failed_at, now)
    return _failed(record, standing, now)


def _failed(record: JobRecord, standing: FindingRow | None, now: float) -> JobVerdict:
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
        return JobVerdict(row=row, piece=Piece(news="fails", key=event, silent_for=PAUSES[0]))
    # A clock that was set far back must not suppress the alert.
    if abs(now - standing.told_at) < pause(standing.tells):
        return JobVerdict(row=standing)
    tells = standing.tells + 1
    news: Literal["fails", "still"] = "still" if standing.kind == JOB_FAILS else "fails"
    row = replace(standing, kind=JOB_FAILS, cause=cause, told_at=now, tells=tells)
    return JobVerdict(row=row, piece=Piece(news=news, key=f"{standing.event}/{tells}", silent_for=pause(tells)))


def _well(standing: FindingRow | None, failed_at: float | None, now: float) -> JobVerdict:
    if standing is None:
        return JobVerdict(row=None)
    if standing.kind == JOB_WELL:
        calm_since = max(standing.told_at, failed_at or 0.0)
        return JobVerdict(row=None if abs(now - calm_since) >= FORGET_S else standing)
    if failed_at is not None and abs(now - failed_at) < CALM_S:
        return JobVerdict(row=standing)
    return JobVerdict(
        row=replace(standing, kind=JOB_WELL, told_at=now),
        piece=Piece(news="well", key=f"{standing.event}/{standing.tells}/well"),
    )


def pause(tells: int) -> float:
    """Return the seconds between the `tells`-th alert and the next."""
    return PAUSES[min(tells, len(PAUSES)) - 1]
