"""What the ledger comes to, by the hour: sums that cost the same whether a thousand requests were made or a million.

Whole hours are read from `spending`, which is kept in the transaction that writes the ledger's rows
(`register.queries.rollup`); an hour that a bound cuts in two is read row by row. So every sum is what a count of all
rows would give. Of an hour whose rows were forgotten nothing but the whole is known: it counts where it begins.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Integer, and_, case, cast, func, literal, literal_column, or_, select, union_all

from register.schema import ledger, spending, tasks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import tzinfo

    from sqlalchemy import FromClause, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

HOUR = 3_600

#: Requests that ended further than this ahead of the clock are of a time when it was set wrong. Who counts up to now
#: takes this for the end, or they would count in every window until then.
AHEAD_S = 86_400.0

#: The columns in which tokens are counted; none is counted in two of them.
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

#: What can be summed up by itself, and the column that says it.
SORTS = ("agent", "role", "profile", "account", "provider", "host")
#: Tasks that are asked for in one statement.
_MANY = 500

_Keys = tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """What some requests come to."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    usd: float = 0.0
    """Of those whose price is known."""
    unpriced: int = 0
    """How many used tokens of which no price is known."""
    estimated: int = 0
    """Of how many it is an estimate what they used. A failed request that cost nothing is none of them."""

    @property
    def tokens(self) -> int:
        """All of them, none weighted."""
        return sum(getattr(self, kind) for kind in TOKENS)

    @property
    def kinds(self) -> dict[str, int]:
        """The tokens by kind, as ``budget.tokens.Tokens`` takes them."""
        return {kind.removesuffix("_tokens"): getattr(self, kind) for kind in TOKENS}

    def __add__(self, other: Sums) -> Sums:
        # Snapshots of the pace add up thousands: hence not by names.
        return Sums(
            requests=self.requests + other.requests,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            usd=self.usd + other.usd,
            unpriced=self.unpriced + other.unpriced,
            estimated=self.estimated + other.estimated,
        )

    def __sub__(self, other: Sums) -> Sums:
        return self + Sums(**{name: -getattr(other, name) for name in _MEASURES})


_MEASURES = tuple(each.name for each in fields(Sums))
NOTHING = Sums()


# --- sums of scopes ----------------------------------------------------------------------------------------------


async def used(
    tx: AsyncConnection,
    scope: object,
    since: float,
    until: float | None = None,
    *,
    heirs: Mapping[str, Collection[str]] | None = None,
) -> Sums:
    """What was used on a scope by requests that ended at or after `since` and before `until`.

    Args:
        tx: to read from.
        scope: agent:, role:, profile:, account:, provider: or host: and a name, as ``budget.scopes.Scope`` writes it;
            ``host`` and ``all``: everything that is in the register, of all hosts.
        since: seconds since the epoch.
        until: the same; None: up to the last that is known.
        heirs: by sandbox profile those that extend it. The ledger names of a request the agent's own profile alone, so
            that what counts on a profile is what it and its heirs used.

    Raises:
        ValueError: there are no sums of such a scope.
    """
    where = _condition(str(scope), heirs or {})
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


async def since_result(tx: AsyncConnection, agent: str, since: float, *, until: float | None = None) -> Sums:
    """What an agent used since it last had something to show."""
    return await used(tx, f"agent:{agent}", since, until)


async def by_task(tx: AsyncConnection, ids: Collection[str]) -> dict[str, Sums]:
    """What each of these tasks used, over all of its attempts; one that used nothing is not among them."""
    made: dict[str, Sums] = {}
    wanted = sorted(ids)
    for begin in range(0, len(wanted), _MANY):
        part = spending.c.task.in_(wanted[begin : begin + _MANY])
        query = select(literal(0), spending.c.task, *_sums_of_hours()).where(part).group_by(spending.c.task)
        made |= {row[1]: sums_in(row, 2) for row in await tx.execute(query)}
    return made


async def projected(tx: AsyncConnection, ids: Collection[str]) -> dict[str, float]:
    """What these tasks were projected to use, in weighted tokens; those of which nothing was are not among them."""
    made: dict[str, float] = {}
    wanted = sorted(ids)
    for begin in range(0, len(wanted), _MANY):
        those = tasks.c.id.in_(wanted[begin : begin + _MANY])
        query = select(tasks.c.id, tasks.c.projected_tokens).where(those, tasks.c.projected_tokens.is_not(None))
        made |= {row[0]: row[1] for row in await tx.execute(query)}
    return made


async def groups(
    tx: AsyncConnection, by: Sequence[str], since: float, until: float | None = None
) -> dict[tuple[str, ...], Sums]:
    """What was used within a time, by the values of these columns of `spending`; an empty value: none was known."""
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
    heirs: Mapping[str, Collection[str]] | None = None,
) -> list[tuple[float, Sums]]:
    """What was used on a scope, piece by piece of time, each with the moment at which it begins.

    Args:
        tx: to read from.
        scope: as of `used`.
        since: where the first piece begins. Pieces of an hour or more begin with the hour in which this is.
        bucket_s: how long each is. Of an hour or more, whole hours. Shorter ones are counted row by row, which is for
            a window of some hours.
        until: what ended then or later is left out.
        heirs: as of `used`.

    Raises:
        ValueError: there are no sums of such a scope, or no such pieces.
    """
    where = _condition(str(scope), heirs or {})
    if bucket_s < 1 or (bucket_s > HOUR and bucket_s % HOUR):
        raise ValueError(f"pieces of {bucket_s:g} s cannot be summed up: take seconds below an hour, or whole hours.")
    if bucket_s >= HOUR:
        since = since // HOUR * HOUR
        found = {hour * HOUR: sums for hour, sums in (await _hours(tx, since, until, where)).items()}
    else:
        place = _floored(tx, (ledger.c.ended_at - since) / bucket_s)
        query = (
            select(place.label("place"), *sums_of_rows())
            .where(ledger.c.ended_at >= since, ledger.c.ended_at < until, *_where(where, ledger))
            .group_by(literal_column("place"))
        )
        found = {since + row[0] * bucket_s: sums_in(row, 1) for row in await tx.execute(query)}
    pieces = [NOTHING] * max(0, math.ceil((until - since) / bucket_s))
    for at, sums in found.items():
        place_ = min(int((at - since) / bucket_s + 1e-6), len(pieces) - 1)
        pieces[place_] += sums
    return [(since + index * bucket_s, sums) for index, sums in enumerate(pieces)]


async def days(tx: AsyncConnection, since: float, zone: tzinfo, *, until: float | None = None) -> dict[str, Sums]:
    """What was used on each day of a time zone, by its date (2026-11-25), in order; days of nothing are left out.

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
        minute = _floored(tx, ledger.c.ended_at / 60.0)
        ranges = [_between(*_clipped(hour, since, until)) for hour in split[begin : begin + _MANY]]
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


async def _hours(tx: AsyncConnection, since: float, until: float | None, where: _Condition | None) -> dict[int, Sums]:
    """Hour by hour; of the first and the last only what is within."""
    first, last = math.ceil(since / HOUR), None if until is None else math.floor(until / HOUR)
    whole = [spending.c.hour >= first, *_where(where, spending)]
    if last is not None:
        whole.append(spending.c.hour < last)
    query = select(spending.c.hour, *_sums_of_hours()).where(*whole).group_by(spending.c.hour)
    made = {row[0]: sums_in(row, 1) for row in await tx.execute(query)}
    edges = {math.floor(at / HOUR) for at in (since, until) if at is not None and at % HOUR}
    for hour in sorted(edges):
        begin, end = _clipped(hour, since, until)
        if begin < end:
            key = await slices(tx, [begin], end, (), where)
            made[hour] = key.get((0, ()), NOTHING)
    return {hour: sums for hour, sums in made.items() if sums.requests}


def _clipped(hour: int, since: float, until: float | None) -> tuple[float, float]:
    end = float((hour + 1) * HOUR)
    return max(float(hour * HOUR), since), end if until is None else min(end, until)


# --- reading -----------------------------------------------------------------------------------------------------


async def slices(
    tx: AsyncConnection, bounds: Sequence[float], until: float | None, keys: _Keys, where: _Condition | None
) -> dict[tuple[int, tuple[str, ...]], Sums]:
    """The sums between bounds, by the number of the bound before, and by `keys`. In one statement.

    Args:
        tx: to read from.
        bounds: in order.
        until: where the last piece ends; None: nowhere.
        keys: columns that are grouped by.
        where: what alone is counted; None: everything.
    """
    first, end = bounds[0], until
    if end is not None and end <= first:
        return {}
    last = None if end is None else math.floor(end / HOUR)
    #: Hours in which a bound lies: their rows are looked at one by one.
    split = sorted({math.floor(at / HOUR) for at in (*bounds, *([] if end is None else [end])) if at % HOUR})
    whole = [spending.c.hour >= math.ceil(first / HOUR), *_where(where, spending)]
    if last is not None:
        whole.append(spending.c.hour < last)
    parts = [grouped(spending, place_in(spending.c.hour, [math.ceil(at / HOUR) for at in bounds]), keys, whole, split)]
    if split:
        ranges = [_between(*clip) for hour in split if (clip := _clipped(hour, first, end))[0] < clip[1]]
        rows = [or_(*ranges), *_where(where, ledger)]
        parts.append(grouped(ledger, place_in(ledger.c.ended_at, bounds), keys, rows))
        # What was forgotten but for its sums.
        oldest = select(func.coalesce(func.min(ledger.c.ended_at), math.inf)).scalar_subquery()
        gone = [spending.c.hour.in_(split), (spending.c.hour + 1) * HOUR <= oldest, *_where(where, spending)]
        if last is not None:
            gone.append(spending.c.hour < last)
        parts.append(grouped(spending, place_in(spending.c.hour, [math.floor(at / HOUR) for at in bounds]), keys, gone))
    made: dict[tuple[int, tuple[str, ...]], Sums] = {}
    for row in await tx.execute(union_all(*parts) if len(parts) > 1 else parts[0]):
        at = (row[0], tuple(row[1 : 1 + len(keys)]))
        sums = sums_in(row, 1 + len(keys))
        made[at] = made[at] + sums if at in made else sums
    return made


def grouped(
    table: FromClause,
    place: ColumnElement[int],
    keys: _Keys,
    where: Sequence[ColumnElement[bool]],
    without: Sequence[int] = (),
) -> Select[Any]:
    sums = _sums_of_hours() if table is spending else sums_of_rows()
    shown: list[ColumnElement[Any]] = [place.label("place"), *(_key(table, key).label(f"key_{key}") for key in keys)]
    outside = [spending.c.hour.not_in(without)] if without else []
    named: list[ColumnElement[Any]] = [literal_column(name) for name in ("place", *(f"key_{key}" for key in keys))]
    return select(*shown, *sums).where(*where, *outside).group_by(*named)


def _key(table: FromClause, name: str) -> ColumnElement[str]:
    column = table.c[name]
    return func.coalesce(column, "") if column.nullable else column


def place_in(column: ColumnElement[Any], bounds: Sequence[float]) -> ColumnElement[int]:
    """The number of the last bound that is not above it."""
    later = [(column >= at, index) for index, at in reversed(list(enumerate(bounds))) if index]
    return case(*later, else_=0) if later else cast(literal(0), Integer)


def _between(begin: float, end: float) -> ColumnElement[bool]:
    return and_(ledger.c.ended_at >= begin, ledger.c.ended_at < end)


def _floored(tx: AsyncConnection, value: ColumnElement[Any]) -> ColumnElement[int]:
    """A whole number. PostgreSQL's cast rounds, and not every SQLite has a floor; nothing here is below zero."""
    return cast(func.floor(value) if tx.dialect.name == "postgresql" else value, Integer)


def _sums_of_hours() -> list[ColumnElement[Any]]:
    return [func.sum(spending.c[name]).label(name) for name in _MEASURES]


def sums_of_rows() -> list[ColumnElement[Any]]:
    """The columns of `Sums` over rows of the ledger."""
    total = sum((ledger.c[kind] for kind in TOKENS), start=cast(literal(0), Integer))
    return [
        func.count().label("requests"),
        *(func.sum(ledger.c[kind]).label(kind) for kind in TOKENS),
        func.coalesce(func.sum(ledger.c.usd), 0.0).label("usd"),
        func.sum(case((ledger.c.usd.is_(None) & (total > 0), 1), else_=0)).label("unpriced"),
        func.sum(case((ledger.c.reported | (total == 0), 0), else_=1)).label("estimated"),
    ]


def sums_in(row: Row[Any], begin: int) -> Sums:
    # PostgreSQL sums up in numerics, and nothing to nothing. There may be thousands of tasks: hence not by names.
    requests, input_, output, cache_read, cache_write, reasoning, usd, unpriced, estimated = row[begin:]
    return Sums(
        requests=int(requests or 0),
        input_tokens=int(input_ or 0),
        output_tokens=int(output or 0),
        cache_read_tokens=int(cache_read or 0),
        cache_write_tokens=int(cache_write or 0),
        reasoning_tokens=int(reasoning or 0),
        usd=float(usd or 0.0),
        unpriced=int(unpriced or 0),
        estimated=int(estimated or 0),
    )


# --- scopes ------------------------------------------------------------------------------------------------------

_Condition = tuple[str, tuple[str, ...]]


def members(scope: str, heirs: Mapping[str, Collection[str]]) -> tuple[str, tuple[str, ...]]:
    """A column, and the values of it that count; an empty column: everything counts."""
    sort, _, name = scope.partition(":")
    if scope in ("host", "all"):
        return "", ("",)
    if sort not in SORTS or not name:
        known = ", ".join(f"{each}:NAME" for each in SORTS)
        raise ValueError(f"There are no sums of {scope!r}. There are of {known}, host and all.")
    return sort, tuple(dict.fromkeys((name, *heirs.get(name, ())))) if sort == "profile" else (name,)


def _condition(scope: str, heirs: Mapping[str, Collection[str]]) -> _Condition | None:
    member = members(scope, heirs)
    return member if member[0] else None


def _where(condition: _Condition | None, table: FromClause) -> list[ColumnElement[bool]]:
    if condition is None:
        return []
    sort, names = condition
    return [table.c[sort] == names[0] if len(names) == 1 else table.c[sort].in_(names)]
