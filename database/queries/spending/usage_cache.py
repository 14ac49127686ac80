"""What was used since many moments, kept in memory: a second look reads only what has come into the ledger since.

For each moment that is asked for there is a sum by agent, role, and so on
(`database.queries.spending.hourly_sums_reader.SORTS`), up to a place in each host's ledger. Rows beyond that place are
added, to every moment that they ended after, whenever they ended. A moment that was not asked for before comes from the
nearest one that was: what lies between them is read, and added or taken away. That is right as long as nothing but new
rows changes the sums, so everything is reread where

* the oldest row or the oldest sum is another: some were forgotten, or one came from before them;
* a ledger ends before the place that was read, or is gone: another register is in place of this one;
* a row that lay beyond the end of what was counted, of a clock that was wrong, has come to lie before it, or the
  clock went back behind one;
* someone says so (`UsageTally.doubt`): sums were put right; and from time to time in any case.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries.spending.hourly_sums_reader import (
    AHEAD_S,
    HOUR,
    NOTHING,
    SORTS,
    Sums,
    grouped,
    members,
    place_in,
    slices,
    sums_in,
)
from database.schema import ledger, spending

#: Everything is reread after so long, seconds: sums of money that are added one by one drift, and a hand in the
#: database tells no one.
EVERY_S = 3_600.0
#: A moment is kept for so many questions in which no one asks for it. Of windows that move along, the next is near it.
_ASKED_WITHIN = 6

_ACCOUNT = SORTS.index("account")

_Key = tuple[str, ...]


class UsageQuestion(NamedTuple):
    """What is asked for: what was used on a scope by requests that ended at or after a moment."""

    scope: str
    """As ``database.queries.spending.usage_queries.used`` has it."""
    since: float
    account: str | None = None
    """Only what was used of this account; None: of all."""


class _Frontier(NamedTuple):
    """Where a register's ledgers begin and end."""

    places: Mapping[str, int]
    """Of each ledger its last place."""
    oldest: tuple[float, float]
    """When the first row ended, and the first hour that there is a sum of; infinity: there is none."""
    ahead: float
    """The first moment, at or after the end of what is counted, at which something more would count."""


@dataclass(slots=True)
class UsageTally:
    """Sums since some moments. One look follows another: whoever looks has `begin` and the look to themselves."""

    _kept: UsageCache | None = None
    _doubted: bool = False

    def doubt(self) -> None:
        """What was read may not be so any more: the next look that begins reads everything."""
        self._doubted = True

    def begin(self) -> None:
        """Called before the transaction of the next look begins: it sees all of which was told until then."""
        if self._doubted:
            self._kept, self._doubted = None, False

    async def look(self, tx: AsyncConnection, now: float) -> UsageCache:
        """Return the sums up to `now`, as the register has them; to be asked in the same transaction."""
        until = now + AHEAD_S
        frontier = await _read_frontier(tx, until)
        kept = self._kept
        if kept is None or not kept.goes_on(frontier, now, until):
            self._kept = kept = UsageCache(read_at=now, until=until, frontier=frontier)
        else:
            await kept.follow(tx, frontier, until)
        return kept


@dataclass(kw_only=True, slots=True)
class UsageCache:
    """The sums of one register, as a transaction sees them."""

    read_at: float
    """When all of it was read, seconds since the epoch."""
    until: float
    """What ended then or later is left out."""
    frontier: _Frontier
    _since: dict[float, dict[_Key, Sums]] = field(default_factory=dict)
    _named: dict[tuple[str, str], list[_Key]] = field(default_factory=dict)
    """The keys that have a name in a column."""
    _keys: set[_Key] = field(default_factory=set)
    _asked: dict[float, int] = field(default_factory=dict)
    _questions: int = 0

    def goes_on(self, frontier: _Frontier, now: float, until: float) -> bool:
        """Return whether nothing happened since but that rows came."""
        before = self.frontier
        same_end = until < before.ahead if until >= self.until else frontier.ahead >= self.until
        return (
            0 <= now - self.read_at < EVERY_S
            and same_end
            and frontier.oldest == before.oldest
            and all(frontier.places.get(name, -1) >= place for name, place in before.places.items())
        )

    async def follow(self, tx: AsyncConnection, frontier: _Frontier, until: float) -> None:
        """Add the rows that came."""
        bounds = sorted(self._since)
        news: list[tuple[int, _Key, Sums]] = []
        for name, place in frontier.places.items():
            before = self.frontier.places.get(name, -1)
            if place > before and bounds:
                news += await _read_news(tx, name, before, bounds, until)
        for index, key, sums in news:
            self._note(key)
            for at in bounds[: index + 1]:
                of = self._since[at]
                of[key] = of.get(key, NOTHING) + sums
        self.frontier, self.until = frontier, until

    async def used(
        self,
        tx: AsyncConnection,
        asked: Sequence[UsageQuestion],
        *,
        now: float,
        heirs: Mapping[str, Collection[str]] | None = None,
    ) -> list[Sums]:
        """Return the sum of each, in their order.

        Args:
            tx: that it was looked with.
            asked: scopes and moments.
            now: that it was looked with.
            heirs: as of ``database.queries.spending.usage_queries.used``.

        Raises:
            ValueError: there are no sums of such a scope.
        """
        if not asked:
            return []
        wanted = [(members(each.scope, heirs or {}), each) for each in asked]
        moments = {each.since for each in asked if each.since < self.until}
        await self._reach(tx, sorted(moments - self._since.keys()), now)
        self._questions += 1
        self._asked |= dict.fromkeys(moments, self._questions)
        for at in [at for at, last in self._asked.items() if last <= self._questions - _ASKED_WITHIN]:
            del self._asked[at], self._since[at]
        return [self._sum(sort, names, each) for (sort, names), each in wanted]

    def _sum(self, sort: str, names: Iterable[str], asked: UsageQuestion) -> Sums:
        of, total = self._since.get(asked.since, {}), NOTHING
        for name in names:
            for key in self._named.get((sort, name), ()) if sort else of:
                if key in of and asked.account in (None, key[_ACCOUNT]):
                    total += of[key]
        return total

    async def _reach(self, tx: AsyncConnection, missing: Sequence[float], now: float) -> None:
        """Have sums since these moments, too."""
        if not missing:
            return
        known = sorted(self._since)
        every = sorted({*known, *missing})
        between: list[tuple[float, float | None, float | None]] = []
        reads = 0.0
        for at in reversed(missing):
            place, below = bisect_left(every, at), bisect_left(known, at)
            above = every[place + 1] if place + 1 < len(every) else None
            up = max(0.0, (now if above is None else above) - at)
            lower = known[below - 1] if below else None
            down = math.inf if lower is None else at - lower
            between.append((at, above, lower if down < up else None))
            reads += min(up, down)
        if not known or reads >= now - every[0]:
            self._since = _from_each(every, await slices(tx, every, self.until, SORTS, None))
            self.read_at = now
        else:
            found = []
            for at, above, lower in between:
                end = self.until if above is None else min(above, self.until)
                begin, end = (at, end) if lower is None else (lower, at)
                read = await slices(tx, [begin], end, SORTS, None)
                found.append({key: sums for (_, key), sums in read.items()})
            for (at, above, lower), part in zip(between, found, strict=True):
                if lower is None:
                    self._since[at] = _with(part, {} if above is None else self._since[above])
                else:
                    self._since[at] = _without(self._since[lower], part)
        for at in missing:
            for key in self._since[at]:
                self._note(key)
        # What is known and was not asked for yet in this way is as if it was asked for now.
        self._asked |= dict.fromkeys(missing, self._questions)

    def _note(self, key: _Key) -> None:
        if key not in self._keys:
            self._keys.add(key)
            for sort, name in zip(SORTS, key, strict=True):
                self._named.setdefault((sort, name), []).append(key)


def _with(one: Mapping[_Key, Sums], other: Mapping[_Key, Sums]) -> dict[_Key, Sums]:
    return dict(other) | {key: other.get(key, NOTHING) + sums for key, sums in one.items()}


def _without(all_: Mapping[_Key, Sums], part: Mapping[_Key, Sums]) -> dict[_Key, Sums]:
    made = dict(all_) | {key: all_.get(key, NOTHING) - sums for key, sums in part.items()}
    # Money need not come to nothing where nothing is left.
    return {key: sums for key, sums in made.items() if sums.requests}


def _from_each(bounds: Sequence[float], pieces: Mapping[tuple[int, _Key], Sums]) -> dict[float, dict[_Key, Sums]]:
    """From the sums between bounds those since each of them."""
    made: dict[float, dict[_Key, Sums]] = {}
    total: dict[_Key, Sums] = {}
    by_place: dict[int, dict[_Key, Sums]] = {}
    for (place, key), sums in pieces.items():
        by_place.setdefault(place, {})[key] = sums
    for place, at in reversed(list(enumerate(bounds))):
        total = _with(by_place.get(place, {}), total)
        made[at] = total
    return made


# --- reading -----------------------------------------------------------------------------------------------------


async def _read_frontier(tx: AsyncConnection, until: float) -> _Frontier:
    """In one statement, which looks into indexes alone."""
    last = math.floor(until / HOUR)
    first = select(func.min(ledger.c.ledger).label("name"))
    names = first.cte("names", recursive=True)
    following = select(func.min(ledger.c.ledger)).where(ledger.c.ledger > names.c.name).correlate(names)
    names = names.union_all(select(following.scalar_subquery()).where(names.c.name.is_not(None)))
    place = select(func.max(ledger.c.seq)).where(ledger.c.ledger == names.c.name).correlate(names)
    query = select(
        names.c.name,
        place.scalar_subquery(),
        select(func.min(ledger.c.ended_at)).scalar_subquery(),
        select(func.min(spending.c.hour)).scalar_subquery(),
        select(func.min(ledger.c.ended_at)).where(ledger.c.ended_at >= until).scalar_subquery(),
        # Of an hour without rows nothing counts before its end.
        select(func.min(spending.c.hour)).where(spending.c.hour >= last).scalar_subquery(),
    )
    rows = (await tx.execute(query)).all()
    _, _, oldest, hour, row_ahead, hour_ahead = rows[0]
    return _Frontier(
        places={row[0]: int(row[1]) for row in rows if row[0] is not None},
        oldest=(math.inf if oldest is None else oldest, math.inf if hour is None else hour),
        ahead=min(
            math.inf if row_ahead is None else row_ahead,
            math.inf if hour_ahead is None else float((hour_ahead + 1) * HOUR),
        ),
    )


async def _read_news(
    tx: AsyncConnection, name: str, after: int, bounds: Sequence[float], until: float
) -> list[tuple[int, _Key, Sums]]:
    """Return what lies in a ledger after a place: sums by the last of the bounds at or after which it ended."""
    # An expression: by the place it is found at once, and SQLite might take the index of the ends instead.
    ended = ledger.c.ended_at + 0.0
    where = [ledger.c.ledger == name, ledger.c.seq > after, ended >= bounds[0], ended < until]
    rows = await tx.execute(grouped(ledger, place_in(ledger.c.ended_at, bounds), SORTS, where))
    return [(row[0], tuple(row[1 : 1 + len(SORTS)]), sums_in(row, 1 + len(SORTS))) for row in rows]
