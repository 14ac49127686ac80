"""What was posted, so that it is posted once: a report by the time at which it was due, a crossing by its window."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from register.schema import reports
from register.store import insert_once

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

#: Keys in one statement; databases take a bounded number of parameters.
_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow:
    """One report that was posted, or another moment that posting has to remember. Times are seconds since the epoch."""

    key: str
    kind: str
    due_at: float
    posted_at: float

    @classmethod
    def from_row(cls, row: Row[Any]) -> ReportRow:
        return cls(**{name: row._mapping[name] for name in cls.__dataclass_fields__})


async def there(tx: AsyncConnection, keys: Collection[str]) -> dict[str, ReportRow]:
    """Those of these keys that there are."""
    found: dict[str, ReportRow] = {}
    wanted = sorted(keys)
    for start in range(0, len(wanted), _AT_ONCE):
        rows = await tx.execute(select(reports).where(reports.c.key.in_(wanted[start : start + _AT_ONCE])))
        found |= {row.key: ReportRow.from_row(row) for row in rows}
    return found


async def of_kind(tx: AsyncConnection, kind: str, *, limit: int = 10_000) -> list[ReportRow]:
    """Those of a kind, the one that was due last first."""
    rows = await tx.execute(
        select(reports).where(reports.c.kind == kind).order_by(reports.c.due_at.desc(), reports.c.key).limit(limit)
    )
    return [ReportRow.from_row(row) for row in rows]


async def latest(tx: AsyncConnection, kind: str, *, before: float) -> ReportRow | None:
    """That of a kind which was due last before `before`."""
    row = (
        await tx.execute(
            select(reports)
            .where(reports.c.kind == kind, reports.c.due_at < before)
            .order_by(reports.c.due_at.desc())
            .limit(1)
        )
    ).one_or_none()
    return None if row is None else ReportRow.from_row(row)


async def add(tx: AsyncConnection, row: ReportRow) -> bool:
    """Write that it was posted. Says whether that is new; if not, nothing changes."""
    return await insert_once(tx, reports, **asdict(row))


async def replace(tx: AsyncConnection, row: ReportRow) -> None:
    """Write it, whatever stands under its key."""
    await tx.execute(delete(reports).where(reports.c.key == row.key))
    await tx.execute(insert(reports), [asdict(row)])


async def remove(tx: AsyncConnection, keys: Collection[str]) -> None:
    """Forget these."""
    gone = sorted(keys)
    for start in range(0, len(gone), _AT_ONCE):
        await tx.execute(delete(reports).where(reports.c.key.in_(gone[start : start + _AT_ONCE])))


async def forget(tx: AsyncConnection, kinds: Collection[str], before: float) -> int:
    """Forget those of these kinds that were due before `before`; says how many."""
    return (
        await tx.execute(delete(reports).where(reports.c.kind.in_(list(kinds)), reports.c.due_at < before))
    ).rowcount
