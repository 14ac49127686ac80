"""Reading the ledger's sums: what requests come to, and the one statement that adds them up between moments.

Whole hours are read from `spending`, which is kept in the transaction that writes the ledger's rows
(`database.queries.spending.hourly_rollup`); an hour that a bound cuts in two is read row by row. So every sum is what a
count of all rows would give. Of an hour whose rows were forgotten nothing but the whole is known: it counts where it
begins.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Row,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from database.schema import ledger, spending

HOUR = 3_600

#: Requests that ended further than this ahead of the clock are of a time when it was set wrong. Who counts up to now
#: takes this for the end, or they would count in every window until then.
AHEAD_S = 86_400.0

#: The columns in which tokens are counted; none is counted in two of them.
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")

#: What can be summed up by itself, and the column that says it.
SORTS = ("agent", "role", "profile", "account", "provider", "host")

Keys = tuple[str, ...]
#: A column, and the values of it that count.
Condition = tuple[str, tuple[str, ...]]


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


async def slices(
    tx: AsyncConnection, bounds: Sequence[float], until: float | None, keys: Keys, where: Condition | None
) -> dict[tuple[int, tuple[str, ...]], Sums]:
    """Return the sums between bounds, by the number of the bound before, and by `keys`. In one statement.

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
    whole = [spending.c.hour >= math.ceil(first / HOUR), *where_in(where, spending)]
    if last is not None:
        whole.append(spending.c.hour < last)
    parts = [grouped(spending, place_in(spending.c.hour, [math.ceil(at / HOUR) for at in bounds]), keys, whole, split)]
    if split:
        ranges = [between(*clip) for hour in split if (clip := clipped(hour, first, end))[0] < clip[1]]
        rows = [or_(*ranges), *where_in(where, ledger)]
        parts.append(grouped(ledger, place_in(ledger.c.ended_at, bounds), keys, rows))
        # What was forgotten but for its sums.
        oldest = select(func.coalesce(func.min(ledger.c.ended_at), math.inf)).scalar_subquery()
        gone = [spending.c.hour.in_(split), (spending.c.hour + 1) * HOUR <= oldest, *where_in(where, spending)]
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
    keys: Keys,
    where: Sequence[ColumnElement[bool]],
    without: Sequence[int] = (),
) -> Select[Any]:
    """Return the sums of one table, by place and by `keys`; `without`: hours that are left out."""
    sums = sums_of_hours() if table is spending else sums_of_rows()
    shown: list[ColumnElement[Any]] = [place.label("place"), *(_key(table, key).label(f"key_{key}") for key in keys)]
    outside = [spending.c.hour.not_in(without)] if without else []
    named: list[ColumnElement[Any]] = [literal_column(name) for name in ("place", *(f"key_{key}" for key in keys))]
    return select(*shown, *sums).where(*where, *outside).group_by(*named)


def _key(table: FromClause, name: str) -> ColumnElement[str]:
    column = table.c[name]
    return func.coalesce(column, "") if column.nullable else column


def place_in(column: ColumnElement[Any], bounds: Sequence[float]) -> ColumnElement[int]:
    """Return the number of the last bound that is not above it."""
    later = [(column >= at, index) for index, at in reversed(list(enumerate(bounds))) if index]
    return case(*later, else_=0) if later else cast(literal(0), Integer)


def between(begin: float, end: float) -> ColumnElement[bool]:
    """Requests that ended at or after `begin` and before `end`."""
    return and_(ledger.c.ended_at >= begin, ledger.c.ended_at < end)


def floored(tx: AsyncConnection, value: ColumnElement[Any]) -> ColumnElement[int]:
    """Return a whole number. PostgreSQL's cast rounds, and not every SQLite has a floor; nothing here is below zero."""
    return cast(func.floor(value) if tx.dialect.name == "postgresql" else value, Integer)


def sums_of_hours() -> list[ColumnElement[Any]]:
    """Return the columns of `Sums` over whole hours."""
    return [func.sum(spending.c[name]).label(name) for name in _MEASURES]


def sums_of_rows() -> list[ColumnElement[Any]]:
    """Return the columns of `Sums` over rows of the ledger."""
    total = sum((ledger.c[kind] for kind in TOKENS), start=cast(literal(0), Integer))
    return [
        func.count().label("requests"),
        *(func.sum(ledger.c[kind]).label(kind) for kind in TOKENS),
        func.coalesce(func.sum(ledger.c.usd), 0.0).label("usd"),
        func.sum(case((ledger.c.usd.is_(None) & (total > 0), 1), else_=0)).label("unpriced"),
        func.sum(case((ledger.c.reported | (total == 0), 0), else_=1)).label("estimated"),
    ]


def sums_in(row: Row[Any], begin: int) -> Sums:
    """Return what such columns hold; `begin`: where they begin in the row."""
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


def clipped(hour: int, since: float, until: float | None) -> tuple[float, float]:
    """Of an hour what lies within; where nothing does, its end is not after its beginning."""
    end = float((hour + 1) * HOUR)
    return max(float(hour * HOUR), since), end if until is None else min(end, until)


# --- scopes ------------------------------------------------------------------------------------------------------


def members(scope: str, heirs: Mapping[str, Collection[str]]) -> tuple[str, tuple[str, ...]]:
    """Return a column, and the values of it that count; an empty column: everything counts."""
    sort, _, name = scope.partition(":")
    if scope in ("host", "all"):
        return "", ("",)
    if sort not in SORTS or not name:
        known = ", ".join(f"{each}:NAME" for each in SORTS)
        raise ValueError(f"There are no sums of {scope!r}. There are of {known}, host and all.")
    return sort, tuple(dict.fromkeys((name, *heirs.get(name, ())))) if sort == "profile" else (name,)


def condition(scope: str, heirs: Mapping[str, Collection[str]]) -> Condition | None:
    """Return what counts on a scope (`members`); None: everything."""
    member = members(scope, heirs)
    return member if member[0] else None


def where_in(counted: Condition | None, table: FromClause) -> list[ColumnElement[bool]]:
    """Return what a statement asks of a table so that only this counts."""
    if counted is None:
        return []
    sort, names = counted
    return [table.c[sort] == names[0] if len(names) == 1 else table.c[sort].in_(names)]
