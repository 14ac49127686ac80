"""What was used, asked of the ledger's sums by the hour: the same cost for a thousand requests as for a million."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from datetime import tzinfo

from sqlalchemy import literal, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.id_batches import batches
from database.queries.spending.hourly_sums_reader import (
    AHEAD_S,
    HOUR,
    NOTHING,
    SORTS,
    TOKENS,
    Condition,
    Sums,
    between,
    clipped,
    condition,
    floored,
    members,
    slices,
    sums_in,
    sums_of_hours,
    sums_of_rows,
    where_in,
)
from database.schema import ledger, spending, tasks

__all__ = [
    "AHEAD_S", "HOUR", "NOTHING", "SORTS", "TOKENS", "Sums",
    "by_task", "days", "groups", "projected", "series", "used", "used_many",
]  # fmt: skip

#: Hours that are asked for in one statement.
_MANY = 500


async def used(
    tx: AsyncConnection,
    scope: object,
    since: float,
    until: float | None = None,
    *,
    heirs: Mapping[str, Collection[str]] | None = None,
) -> Sums:
    """Return what was used on a scope by requests that ended at or after `since` and before `until`.

    Args:
        tx: to read from.
        scope: agent:, role:, profile:, account:, provider: or host: and a name, as ``budget.limits.scopes.Scope``
        writes it;
            ``host`` and ``all``: everything that is in the register, of all hosts.
        since: seconds since the epoch.
        until: the same; None: up to the last that is known.
        heirs: by sandbox profile those that extend it. The ledger names of a request the agent's own profile alone, so
            that what counts on a profile is what it and its heirs used.

    Raises:
        ValueError: there are no sums of such a scope.
    """
    where = condition(str(scope), heirs or {})
    found = await slices(tx, [since], until, (), where)
    return found.get((0, ()), NOTHING)


async def used_many(
    tx: AsyncConnection,
    asked: Sequence[tuple[object, float]],
    *,
    until: float | None = None,
    heirs: Mapping[str, Collection[str]] | None = None,
) -> list[Sums]:
    """Like `used` of each (scope, since), in their order, with one statement for all.

    What it costs grows with the time since the earliest, and hardly with how many are asked for.

    Raises:
        ValueError: there are no sums of such a scope.
    """
    wanted = [(*members(str(scope), heirs or {}), since) for scope, since in asked]
    if not wanted:
        return []
    bounds = sorted({since for _, _, since in wanted})
    if until is not None:
        bounds = [at for at in bounds if at < until] or bounds[:1]
    found = await slices(tx, bounds, until, SORTS, None)
    totals: dict[tuple[int, str, str], Sums] = {}
    for (cut, key), sums in found.items():
        for sort, name in (("", ""), *zip(SORTS, key, strict=True)):
            at = (cut, sort, name)
            totals[at] = totals.get(at, NOTHING) + sums
    made = []
    for sort, names, since in wanted:
        cuts = range(bisect_left(bounds, since), len(bounds))
        parts = (totals.get((cut, sort, name), NOTHING) for cut in cuts for name in names)
        made.append(sum(parts, NOTHING))
    return made


async def by_task(tx: AsyncConnection, ids: Collection[str]) -> dict[str, Sums]:
    """Return what each of these tasks used, over all of its attempts; one that used nothing is not among them."""
    made: dict[str, Sums] = {}
    for some in batches(ids):
        part = spending.c.task.in_(some)
        query = select(literal(0), spending.c.task, *sums_of_hours()).where(part).group_by(spending.c.task)
        made |= {row[1]: sums_in(row, 2) for row in await tx.execute(query)}
    return made


async def projected(tx: AsyncConnection, ids: Collection[str]) -> dict[str, float]:
    """Return what these tasks were projected to use, in weighted tokens; those of which nothing was are not
    among them."""
    made: dict[str, float] = {}
    for some in batches(ids):
        those = tasks.c.id.in_(some)
        query = select(tasks.c.id, tasks.c.projected_tokens).where(those, tasks.c.projected_tokens.is_not(None))
        made |= {row[0]: row[1] for row in await tx.execute(query)}
    return made


async def groups(
    tx: AsyncConnection, by: Sequence[str], since: float, until: float | None = None
) -> dict[tuple[str, ...], Sums]:
    """Return what was used within a time, by the values of these columns of `spending`; an empty value: none was
    known."""
    found = await slices(tx, [since], until, tuple(by), None)
    return {key: sums for (_, key), sums in found.items() if sums.requests}


# --- sums over time ----------------------------------------------------------------------------------------------


async def series(
    tx: AsyncConnection,
    scope: object,
    since: float,
    bucket_s: float,
    *,
    until: float,
) -> list[tuple[float, Sums]]:
    """Return what was used on a scope, piece by piece of time, each with the moment at which it begins.

    Args:
        tx: to read from.
        scope: as of `used`.
        since: where the first piece begins. Pieces of an hour or more begin with the hour in which this is.
        bucket_s: how long each is. Of an hour or more, whole hours. Shorter ones are counted row by row, which is for
            a window of some hours.
        until: what ended then or later is left out.

    Raises:
        ValueError: there are no sums of such a scope, or no such pieces.
    """
    where = condition(str(scope), {})
    if bucket_s < 1 or (bucket_s > HOUR and bucket_s % HOUR):
        raise ValueError(f"pieces of {bucket_s:g} s cannot be summed up: take seconds below an hour, or whole hours.")
    if bucket_s >= HOUR:
        since = since // HOUR * HOUR
        found = {hour * HOUR: sums for hour, sums in (await _hours(tx, since, until, where)).items()}
    else:
        place = floored(tx, (ledger.c.ended_at - since) / bucket_s)
        query = (
            select(place.label("place"), *sums_of_rows())
            .where(ledger.c.ended_at >= since, ledger.c.ended_at < until, *where_in(where, ledger))
            .group_by(literal_column("place"))
        )
        found = {since + row[0] * bucket_s: sums_in(row, 1) for row in await tx.execute(query)}
    pieces = [NOTHING] * max(0, math.ceil((until - since) / bucket_s))
    for at, sums in found.items():
        place_ = min(int((at - since) / bucket_s + 1e-6), len(pieces) - 1)
        pieces[place_] += sums
    return [(since + index * bucket_s, sums) for index, sums in enumerate(pieces)]


async def days(tx: AsyncConnection, since: float, zone: tzinfo, *, until: float | None = None) -> dict[str, Sums]:
    """Return what was used on each day of a time zone, by its date (2026-11-25), in order; days of nothing are left
    out.

    Days begin at any minute of an hour: zones are half an hour apart from others, too. An hour that midnight cuts in
    two is counted row by row.
    """
    from datetime import datetime

    def date_of(at: float) -> str:
        return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d}"

    def cut(hour: int) -> bool:
        return date_of(hour * HOUR) != date_of((hour + 1) * HOUR - 60)

    whole = await _hours(tx, since, until, None)
    split = [hour for hour in whole if cut(hour)]
    rows: dict[int, dict[int, Sums]] = {}
    for begin in range(0, len(split), _MANY):
        minute = floored(tx, ledger.c.ended_at / 60.0)
        ranges = [between(*clipped(hour, since, until)) for hour in split[begin : begin + _MANY]]
        query = select(minute.label("place"), *sums_of_rows()).where(or_(*ranges)).group_by(literal_column("place"))
        for row in await tx.execute(query):
            rows.setdefault(row[0] // 60, {})[row[0]] = sums_in(row, 1)
    made: dict[str, Sums] = {}
    for hour, sums in sorted(whole.items()):
        # Without rows of it, it was forgotten but for its sums.
        pieces = {minute * 60.0: part for minute, part in rows.get(hour, {}).items()} or {float(hour * HOUR): sums}
        for at, part in sorted(pieces.items()):
            if part.requests:
                made[date_of(at)] = made.get(date_of(at), NOTHING) + part
    return made


async def _hours(tx: AsyncConnection, since: float, until: float | None, where: Condition | None) -> dict[int, Sums]:
    """Hour by hour; of the first and the last only what is within."""
    first, last = math.ceil(since / HOUR), None if until is None else math.floor(until / HOUR)
    whole = [spending.c.hour >= first, *where_in(where, spending)]
    if last is not None:
        whole.append(spending.c.hour < last)
    query = select(spending.c.hour, *sums_of_hours()).where(*whole).group_by(spending.c.hour)
    made = {row[0]: sums_in(row, 1) for row in await tx.execute(query)}
    edges = {math.floor(at / HOUR) for at in (since, until) if at is not None and at % HOUR}
    for hour in sorted(edges):
        begin, end = clipped(hour, since, until)
        if begin < end:
            key = await slices(tx, [begin], end, (), where)
            made[hour] = key.get((0, ()), NOTHING)
    return {hour: sums for hour, sums in made.items() if sums.requests}
