"""Use of authorizations in windows that have ended. Pure.

While Muster is down, the egress keeps the last limits that it received, and a window may end. Use beyond a limit is
recorded with the window's line, but the next window has another line. So this use is recounted for each authorization
that outlasted a window. Otherwise the next window would grant it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from bot.egress_client.settings_push import HeldLimit
from bot.pacing.window_inputs import Budgeted, CountStart, Quota, Spender, UsedSince, authorization_of, budgeted
from budget.windows import window_boundaries
from budget.windows.even_spread_line import Window
from budget.windows.pace_admission import worth
from database.queries.spending.pacing_windows import AuthorizationRow

#: Maximum number of past windows to examine per limit. Use in older windows was recorded at the time.
_MOST = 64


class PastWindows(NamedTuple):
    """A limit, and its windows that ended while an authorization was in force."""

    limit: Budgeted
    per_token: float | None
    bounds: tuple[float, ...]
    """The start of each window, ascending, and the end of the last one."""

    def start(self, at: float) -> CountStart:
        """Return the key for use that is counted from this time on."""
        return CountStart(self.limit.scope, at, self.limit.limit.of)


def ended(
    held: Sequence[HeldLimit],
    spenders: Mapping[str, Spender],
    quotas: Sequence[Quota],
    rows: Iterable[AuthorizationRow],
    now: float,
) -> list[PastWindows]:
    """Return the limits that had a window end since an authorization in force was granted."""
    since: dict[str, float] = {}
    for row in rows:
        since[row.scope] = min(since.get(row.scope, now), row.granted_at)
    if not since:
        return []
    found = []
    for each in budgeted(held, spenders):
        granted = since.get(each.scope)
        if granted is None or each.scope == f"account:{each.limit.of}":
            continue
        bounds, per_token = _bounds(each, quotas, granted, now)
        if len(bounds) > 1:
            found.append(PastWindows(each, per_token, bounds))
    return found


def _bounds(
    each: Budgeted, quotas: Sequence[Quota], granted: float, now: float
) -> tuple[tuple[float, ...], float | None]:
    limit = each.limit
    if limit.unit != "share":
        bounds = [window_boundaries.start_of(limit.window, now)]
        while bounds[0] > granted and len(bounds) <= _MOST:
            bounds.insert(0, window_boundaries.start_of(limit.window, bounds[0] - 1))
        return tuple(bounds), None
    quota = next((one for one in quotas if (one.account, one.name) == (limit.of, limit.window)), None)
    if quota is None or quota.reading.begins_at is None or not quota.reading.length_s:
        return (), None
    bounds = [min(quota.reading.begins_at, now)]
    while bounds[0] > granted and len(bounds) <= _MOST:
        bounds.insert(0, bounds[0] - quota.reading.length_s)
    return tuple(bounds), quota.per_token


def used_up(
    rows: Sequence[AuthorizationRow],
    others: Sequence[AuthorizationRow],
    over: Sequence[PastWindows],
    used: Mapping[CountStart, UsedSince],
) -> list[AuthorizationRow]:
    """Return the authorizations in force, with their use in past windows.

    Args:
        rows: the authorizations in force.
        others: authorizations that ended since the first of `rows` was granted. Their share of the use is deducted.
        over: the result of `ended`.
        used: the use since each key of `starts_of`, all up to the same moment.
    """
    drawn = {row.id: row.drawn for row in rows}
    for each in over:
        sums = [_amount(each, used.get(each.start(at), UsedSince())) for at in each.bounds]
        beyond = {row.id: 0.0 for row in rows if row.scope == each.limit.scope}
        for begins, ends, so_far, rest in zip(each.bounds, each.bounds[1:], sums, sums[1:], strict=False):
            left = so_far - rest - each.limit.limit.amount
            left -= sum(_worth(row, each, row.drawn) for row in others if row.scope == each.limit.scope)
            for row in sorted(rows, key=lambda one: (one.until, one.id)):
                if row.id not in beyond or row.granted_at >= ends:
                    continue
                since = max(begins, row.granted_at)
                spent = _amount(each, used.get(each.start(since), UsedSince())) - rest
                part = max(0.0, min(left, spent, _worth(row, each, row.amount) - beyond[row.id]))
                beyond[row.id] += part
                left -= part
        for row in rows:
            whole = _worth(row, each, row.amount)
            if row.id in beyond and whole > 0:
                drawn[row.id] = max(drawn[row.id], row.amount * beyond[row.id] / whole)
    return [replace(row, drawn=drawn[row.id]) for row in rows]


def starts_of(over: Iterable[PastWindows], rows: Sequence[AuthorizationRow]) -> Iterator[CountStart]:
    """Yield the keys from which use has to be counted."""
    for each in over:
        yield from map(each.start, each.bounds)
        yield from (each.start(row.granted_at) for row in rows if row.scope == each.limit.scope)


def _amount(each: PastWindows, used: UsedSince) -> float:
    if each.limit.limit.unit == "usd":
        return used.usd
    return used.tokens * (1.0 if each.limit.limit.unit == "tokens" else each.per_token or 0.0)


def _worth(row: AuthorizationRow, each: PastWindows, amount: float) -> float:
    limit = each.limit.limit
    window = Window(
        key=each.limit.key, scope=each.limit.scope, unit=limit.unit, limit=limit.amount, per_token=each.per_token
    )
    return worth(authorization_of(row), window, amount)
