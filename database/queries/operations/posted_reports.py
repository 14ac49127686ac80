"""What was posted, so that it is posted once: a report by the time at which it was due, a crossing by its window."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.id_batches import batches
from database.engine.store import insert_once
from database.queries.record import Record
from database.queries.spending.hourly_sums_reader import TOKENS
from database.queries.task_states import ENDED
from database.queries.tasks import Task
from database.schema import reports, spending, tasks, topics


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRow(Record):
    """One report that was posted, or another moment that posting has to remember. Times are seconds since the epoch."""

    key: str
    kind: str
    due_at: float
    posted_at: float


async def there(tx: AsyncConnection, keys: Collection[str]) -> dict[str, ReportRow]:
    """Return those of these keys that there are."""
    found: dict[str, ReportRow] = {}
    for some in batches(keys):
        query = select(reports).where(reports.c.key.in_(some))
        found |= {row.key: row for row in await ReportRow.every(tx, query)}
    return found


async def of_kind(tx: AsyncConnection, kind: str, *, limit: int = 10_000) -> list[ReportRow]:
    """Return those of a kind, the one that was due last first."""
    found = select(reports).where(reports.c.kind == kind).order_by(reports.c.due_at.desc(), reports.c.key)
    return await ReportRow.every(tx, found.limit(limit))


async def add(tx: AsyncConnection, row: ReportRow) -> bool:
    """Write that it was posted. Says whether that is new; if not, nothing changes."""
    return await insert_once(tx, reports, **asdict(row))


async def replace(tx: AsyncConnection, row: ReportRow) -> None:
    """Write it, whatever is under its key."""
    await tx.execute(delete(reports).where(reports.c.key == row.key))
    await tx.execute(insert(reports), [asdict(row)])


async def remove(tx: AsyncConnection, keys: Collection[str]) -> None:
    """Forget these."""
    for some in batches(keys):
        await tx.execute(delete(reports).where(reports.c.key.in_(some)))


async def forget(tx: AsyncConnection, kinds: Collection[str], before: float) -> int:
    """Forget those of these kinds that were due before `before`; says how many."""
    return (
        await tx.execute(delete(reports).where(reports.c.kind.in_(list(kinds)), reports.c.due_at < before))
    ).rowcount


# --- what reports tell of roles --------------------------------------------------------------------------------------

#: The columns of `spending` that say by whom.
_SCOPES = ("agent", "role", "account", "provider")


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleHour:
    """What a role used within an hour that is over."""

    at: float
    """When the hour began, seconds since the epoch."""
    role: str
    """Empty: none is known."""
    tokens: dict[str, int]
    """By kind, as `budget.tokens.Tokens` calls them."""
    usd: float | None
    """None: of some of it no price is known."""


async def roles_by_hour(tx: AsyncConnection, scope: str, since: float, until: float) -> list[RoleHour]:
    """Return what each role used on a scope, in the whole hours of a time; nothing of a scope that is no one column."""
    sort, _, name = scope.partition(":")
    where = [spending.c.hour >= since // 3600, spending.c.hour < until // 3600]
    if scope != "host":
        if sort not in _SCOPES:
            return []
        where.append(spending.c[sort] == name)
    sums = (func.sum(spending.c[each]) for each in (*TOKENS, "usd", "unpriced"))
    query = select(spending.c.hour, spending.c.role, *sums).where(*where).group_by(spending.c.hour, spending.c.role)
    return [
        RoleHour(
            at=row[0] * 3600.0,
            role=row[1],
            tokens={kind.removesuffix("_tokens"): int(sum_) for kind, sum_ in zip(TOKENS, row[2:7], strict=True)},
            usd=None if row[8] else float(row[7]),
        )
        for row in await tx.execute(query)
    ]


# --- what reports tell of tasks --------------------------------------------------------------------------------------


async def ended_counts(tx: AsyncConnection, begin: float, end: float) -> dict[str, int]:
    """Return how many tasks ended how, from `begin` until before `end`."""
    within = (tasks.c.state.in_(ENDED), tasks.c.ended_at >= begin, tasks.c.ended_at < end)
    found = select(tasks.c.state, func.count()).where(*within).group_by(tasks.c.state)
    return {row[0]: int(row[1]) for row in await tx.execute(found)}


async def done_by(tx: AsyncConnection, begin: float, end: float) -> dict[str, int]:
    """Return how many tasks each agent got done, from `begin` until before `end`."""
    within = (tasks.c.state == "done", tasks.c.ended_at >= begin, tasks.c.ended_at < end)
    found = select(tasks.c.assigned, func.count()).where(*within).group_by(tasks.c.assigned)
    return {row[0]: int(row[1]) for row in await tx.execute(found) if row[0] is not None}


async def ended_last(tx: AsyncConnection, begin: float, end: float, *, limit: int) -> list[Task]:
    """Return the tasks that ended from `begin` until before `end`, the last first."""
    within = (tasks.c.state.in_(ENDED), tasks.c.ended_at >= begin, tasks.c.ended_at < end)
    found = select(tasks).where(*within).order_by(tasks.c.ended_at.desc(), tasks.c.seq.desc()).limit(limit)
    return await Task.every(tx, found)


async def waiting_first(tx: AsyncConnection, *, limit: int) -> list[Task]:
    """Return the tasks that wait, those first that were asked for first."""
    found = select(tasks).where(tasks.c.state == "queued").order_by(tasks.c.seq).limit(limit)
    return await Task.every(tx, found)


async def texts(tx: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
    """Return what these tasks are about, by their ids."""
    found: dict[str, str] = {}
    for some in batches(ids):
        query = select(tasks.c.id, tasks.c.text).where(tasks.c.id.in_(some))
        found |= {row[0]: row[1] for row in await tx.execute(query)}
    return found


# --- what reports tell of topics -------------------------------------------------------------------------------------


async def topics_opened(tx: AsyncConnection, begin: float, end: float) -> dict[str, int]:
    """Return how many topics of each project were opened, from `begin` until before `end`."""
    within = (topics.c.created_at >= begin, topics.c.created_at < end)
    found = select(topics.c.project, func.count()).where(*within).group_by(topics.c.project)
    return {row[0]: int(row[1]) for row in await tx.execute(found)}


async def topics_ended(tx: AsyncConnection, begin: float, end: float) -> dict[tuple[str, str], int]:
    """Return how many topics of each project ended how, from `begin` until before `end`.

    The outcome is ``merge``, ``keep``, ``discard``, or ``closed`` for one that had not begun.
    """
    within = (topics.c.ended_at >= begin, topics.c.ended_at < end)
    found = select(topics.c.project, topics.c.outcome, func.count()).where(*within)
    rows = await tx.execute(found.group_by(topics.c.project, topics.c.outcome))
    return {(row[0], row[1] or "closed"): int(row[2]) for row in rows}
