"""Lines of windows, what happened to windows, what providers said of quotas, and leave to spend faster."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import authorizations, pace_lines, pace_log, quota_history, tasks

#: The kind under which a person's words that began ahead of the pace are counted.
WORDS = "words"
#: Of each window so many of the last observations are looked at.
OBSERVATIONS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorizationRow(Record):
    """Leave to spend faster than the pace. It ends when it is used up or over, and stays as a record."""

    id: str
    scope: str
    #: tokens, usd or share
    unit: str
    amount: float
    #: Of the amount, what was used up before the line that stands was drawn.
    drawn: float = 0.0
    granted_by: str
    granted_at: float
    until: float
    ended_at: float | None = None
    #: used, over, or taken back
    ended: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ObservationRow(Record):
    """What a provider said of a window of an account. What it did not say is None."""

    seq: int
    account: str
    window: str
    seen_at: float
    used: float | None
    reset_at: float | None
    window_s: float | None
    status: str | None
    tokens: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Befell(Record):
    """Something that befell a window."""

    window: str
    at: float
    #: What `budget.windows.even_spread_line.EvenSpreadLine` calls its cause, what `budget.windows.provider_quota.Event`
    # calls its
    #: kind, or `WORDS`.
    kind: str
    detail: Mapping[str, Any]


# --- lines -------------------------------------------------------------------------------------------------------


async def lines(tx: AsyncConnection) -> dict[str, Mapping[str, Any]]:
    """Return the line of each window, as it was kept."""
    return {row[0]: row[1] for row in await tx.execute(select(pace_lines.c.window, pace_lines.c.line))}


async def keep_line(tx: AsyncConnection, window: str, line: Mapping[str, Any], *, drawn_at: float) -> None:
    """Keep the line of a window instead of the one that it had."""
    await tx.execute(delete(pace_lines).where(pace_lines.c.window == window))
    await tx.execute(insert(pace_lines).values(window=window, line=dict(line), drawn_at=drawn_at))


async def drop_lines(tx: AsyncConnection, windows: Collection[str]) -> None:
    """Forget the lines of windows that are no more."""
    if windows:
        await tx.execute(delete(pace_lines).where(pace_lines.c.window.in_(list(windows))))


# --- log ---------------------------------------------------------------------------------------------------------


async def log(tx: AsyncConnection, befell: Befell) -> bool:
    """Write down what happened to a window, once; False: it stands there."""
    same = (pace_log.c.window == befell.window, pace_log.c.at == befell.at, pace_log.c.kind == befell.kind)
    if await tx.scalar(select(pace_log.c.seq).where(*same).limit(1)) is not None:
        return False
    await tx.execute(insert(pace_log).values(**asdict(befell)))
    return True


async def befell(tx: AsyncConnection, since: float, *, window: str | None = None, limit: int = 200) -> list[Befell]:
    """Return what happened to windows (or one) since a moment, newest first."""
    where = [pace_log.c.at >= since, *([] if window is None else [pace_log.c.window == window])]
    found = select(pace_log).where(*where).order_by(pace_log.c.at.desc(), pace_log.c.seq.desc()).limit(limit)
    return await Befell.every(tx, found)


async def words_ahead(tx: AsyncConnection, since: float) -> dict[str, list[Befell]]:
    """By window, the words of people since then that began ahead of its pace, newest first."""
    found: dict[str, list[Befell]] = {}
    where = (pace_log.c.at >= since, pace_log.c.kind == WORDS)
    for row in await tx.execute(select(pace_log).where(*where).order_by(pace_log.c.at.desc()).limit(1000)):
        found.setdefault(row.window, []).append(Befell.from_row(row))
    return found


# --- what providers said -----------------------------------------------------------------------------------------


async def observed(tx: AsyncConnection) -> dict[tuple[str, str], int]:
    """Return the windows of which something was seen, by account and name, each with its newest row.

    It costs some looks into the index for each window, however often it was seen.
    """
    table = quota_history
    accounts = select(func.min(table.c.account).label("account")).cte("seen_accounts", recursive=True)
    following = select(func.min(table.c.account)).where(table.c.account > accounts.c.account).correlate(accounts)
    accounts = accounts.union_all(select(following.scalar_subquery()).where(accounts.c.account.is_not(None)))
    first = select(func.min(table.c.window)).where(table.c.account == accounts.c.account).correlate(accounts)
    pairs = (
        select(accounts.c.account, first.scalar_subquery().label("window"))
        .where(accounts.c.account.is_not(None))
        .cte("seen_windows", recursive=True)
    )
    next_ = (
        select(func.min(table.c.window))
        .where(table.c.account == pairs.c.account, table.c.window > pairs.c.window)
        .correlate(pairs)
    )
    pairs = pairs.union_all(select(pairs.c.account, next_.scalar_subquery()).where(pairs.c.window.is_not(None)))
    newest = (
        select(func.max(table.c.seq))
        .where(table.c.account == pairs.c.account, table.c.window == pairs.c.window)
        .correlate(pairs)
    )
    rows = await tx.execute(
        select(pairs.c.account, pairs.c.window, newest.scalar_subquery()).where(pairs.c.window.is_not(None))
    )
    return {(row[0], row[1]): int(row[2]) for row in rows}


async def observations(tx: AsyncConnection, account: str, window: str) -> list[ObservationRow]:
    """Return what was seen last of a window, oldest first."""
    table = quota_history
    where = (table.c.account == account, table.c.window == window)
    found = select(table).where(*where).order_by(table.c.seq.desc()).limit(OBSERVATIONS)
    return (await ObservationRow.every(tx, found))[::-1]


# --- what waits --------------------------------------------------------------------------------------------------


async def waiting(tx: AsyncConnection) -> dict[str, int]:
    """Return how many tasks are queued, by why they wait; those of which no one has said it are left out."""
    found = select(tasks.c.why, func.count()).where(tasks.c.state == "queued", tasks.c.why.is_not(None))
    return {row[0]: int(row[1]) for row in await tx.execute(found.group_by(tasks.c.why))}


# --- authorizations ----------------------------------------------------------------------------------------------


async def live(tx: AsyncConnection) -> list[AuthorizationRow]:
    """Return those that were not ended, oldest first."""
    found = select(authorizations).where(authorizations.c.ended_at.is_(None))
    return await AuthorizationRow.every(tx, found.order_by(authorizations.c.granted_at, authorizations.c.id))


async def ended(tx: AsyncConnection, since: float) -> list[AuthorizationRow]:
    """Return those that ended since a moment, oldest first."""
    found = select(authorizations).where(authorizations.c.ended_at >= since).order_by(authorizations.c.ended_at)
    return await AuthorizationRow.every(tx, found)


async def authorize(tx: AsyncConnection, row: AuthorizationRow) -> bool:
    """Give leave; False: it was given before, by the same command."""
    return await insert_once(tx, authorizations, **asdict(row))


async def draw(tx: AsyncConnection, id: str, drawn: float) -> None:
    """Write down how much of it is used up; it never becomes less."""
    await tx.execute(
        update(authorizations)
        .where(authorizations.c.id == id, authorizations.c.ended_at.is_(None), authorizations.c.drawn < drawn)
        .values(drawn=drawn)
    )


async def end(tx: AsyncConnection, id: str, ended: str, now: float) -> bool:
    """End it; False: it had ended."""
    those = (authorizations.c.id == id, authorizations.c.ended_at.is_(None))
    return (await tx.execute(update(authorizations).where(*those).values(ended=ended, ended_at=now))).rowcount > 0


# --- forgetting --------------------------------------------------------------------------------------------------


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete events of windows, and authorizations that ended, before `before`, a batch of each; return how many."""
    log_ = await delete_some(tx, pace_log, pace_log.c.at < before)
    return log_ + await delete_some(tx, authorizations, authorizations.c.ended_at < before)
