"""Windows with their past and their future: the current state, the use so far, and projections to the reset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.pacing import window_pace
from bot.pacing.services import PacingServices
from bot.pacing.window_pace import thinned
from bot.pacing.window_status import PaceSnapshot
from bot.read_models.limits import Curve, WindowPace, WindowProjection
from budget.tokens import Tokens, Weights
from budget.windows.even_spread_line import PacePolicy, Window
from budget.windows.pace_admission import WindowState
from budget.windows.usage_forecast import Use, project
from budget.windows.use_outlook import outlook, present_rate
from budget.windows.window_key import WindowKey
from database.queries.operations import posted_reports
from database.queries.operations.posted_reports import RoleHour
from database.queries.spending import pacing_windows, usage_queries
from database.queries.spending.pacing_windows import Befell
from database.queries.spending.usage_queries import Sums

#: Number of windows that get a projection.
_PROJECTED: Final = 8
#: Seconds of history behind a projection: two weeks cover each weekday twice, and older days hardly count.
_REMEMBERED_S: Final = 15 * 86_400.0
#: Maximum length of a curve in seconds.
_LONGEST_S: Final = 32 * 86_400.0
_HOUR: Final = 3600.0
#: Maximum difference in seconds between two reports of the same reset.
_SAME_RESET_S: Final = 3600.0


async def standing_windows(services: PacingServices) -> list[WindowPace]:
    """Return the current state of every window, the most used first, without history or projection.

    Raises:
        RegisterError: the register cannot be read.
    """
    return window_pace.paces_of(await seen_snapshot(services))


async def seen_snapshot(services: PacingServices) -> PaceSnapshot:
    """Return the state of every window, with the egress's current counts.

    Raises:
        RegisterError: the register cannot be read.
    """
    gate = None if services.egress_client is None else await services.egress_client.standing()
    return (await services.pace.snapshot()).seen_at_the_gate(gate)


async def gather_windows(services: PacingServices, now: float, *, by_role: bool = False) -> list[WindowPace]:
    """Return every window, the most used first; the first ones include history and projections.

    Args:
        services: the services to use.
        now: seconds since the epoch.
        by_role: also project each role's use, for the first window with a projection.

    Raises:
        RegisterError: the register cannot be read.
    """
    return await with_past(services, await seen_snapshot(services), now, by_role=by_role)


async def with_past(
    services: PacingServices, snapshot: PaceSnapshot, now: float, *, by_role: bool = False
) -> list[WindowPace]:
    """Return the windows of a snapshot; see `gather_windows`."""
    made = window_pace.paces_of(snapshot)
    standings = [counted(snapshot.standings[each.key], each) for each in made]
    weights = Weights.of(services.settings.budgets.weights)
    zone: ZoneInfo = services.settings.timezone
    uses: dict[tuple[str, float], list[Use] | None] = {}
    earliest = min((each.begins_at for each in made if each.begins_at is not None), default=now)
    async with services.store.read() as tx:
        words = await pacing_windows.words_ahead(tx, earliest)
        made = [replace(each, words_ahead=_words(each, words.get(each.key, ()))) for each in made]
        for place, each in enumerate(standings[:_PROJECTED]):
            # Windows of one scope mostly need the same history.
            key = each.window.scope, _since(made[place], now)
            if key not in uses:
                uses[key] = await _uses(tx, *key, weights, now)
            made[place] = await _with_past(tx, each, made[place], uses[key], snapshot.policy, zone, now)
        first = next((place for place, each in enumerate(made) if _is_projected(each)), None)
        if by_role and first is not None:
            known = await posted_reports.roles_by_hour(tx, standings[first].window.scope, now - _REMEMBERED_S, now)
            roles = [_use_of_role(each, weights) for each in known]
            projection = made[first].projection or WindowProjection()
            projection = replace(projection, by_role=_by_role(standings[first], roles, zone, now))
            made[first] = replace(made[first], projection=projection)
    return made


def counted(standing: WindowState, shown: WindowPace) -> WindowState:
    """Return the state of a window with the use that views show, which the egress may have counted further."""
    if shown.used is None:
        return standing
    reserved = standing.reserved if shown.reserved is None else shown.reserved
    return replace(standing, window=replace(standing.window, used=shown.used), reserved=reserved)


def _words(window: WindowPace, words: Sequence[Befell]) -> int:
    return sum(one.at >= (window.begins_at or 0.0) for one in words)


def _is_projected(window: WindowPace) -> bool:
    return window.projection is not None and window.projection.expected is not None


def _use_of_role(hour: RoleHour, weights: Weights) -> Use:
    return Use(at=hour.at, role=hour.role, tokens=float(weights.weigh(Tokens(**hour.tokens))), usd=hour.usd)


def _by_role(standing: WindowState, uses: Sequence[Use], zone: ZoneInfo, now: float) -> tuple[tuple[str, float], ...]:
    projection = project(standing.window, standing.line, uses, now, zone=zone)
    found = {} if projection is None else projection.by_role
    return tuple(sorted(((role, amount) for role, amount in found.items() if amount > 0), key=lambda each: -each[1]))


def _since(window: WindowPace, now: float) -> float:
    """Return the hour from which use is needed, for the projection and for the curve up to its maximum length."""
    begin = now - _REMEMBERED_S
    if window.begins_at is not None:
        begin = max(min(begin, window.begins_at), now - _LONGEST_S)
    return begin // _HOUR * _HOUR


async def _uses(tx: AsyncConnection, scope: str, since: float, weights: Weights, now: float) -> list[Use] | None:
    """Return the hourly use on a scope, or None if the ledger keeps no sums for such a scope."""
    try:
        pieces = await usage_queries.series(tx, scope, since, _HOUR, until=now)
    except ValueError:
        return None
    return [_use(at, sums, weights) for at, sums in pieces if sums.requests]


async def _with_past(
    tx: AsyncConnection,
    standing: WindowState,
    shown: WindowPace,
    uses: Sequence[Use] | None,
    policy: PacePolicy,
    zone: ZoneInfo,
    now: float,
) -> WindowPace:
    """Add history and projections to a window."""
    window = standing.window
    shown = replace(shown, projection=_projection(standing, uses, policy, zone, now))
    seen = await _observed(tx, shown, now) if window.is_quota else []
    told = len(seen) > (1 if shown.used is not None else 0)
    return replace(shown, use=_told(shown, seen, now) if told else _curve(window, shown, uses or (), now))


def _projection(
    standing: WindowState, uses: Sequence[Use] | None, policy: PacePolicy, zone: ZoneInfo, now: float
) -> WindowProjection | None:
    """Return both forecasts, or None if neither is known."""
    days = project(standing.window, standing.line, uses or (), now, zone=zone)
    rate = None if uses is None else present_rate(standing, uses, now)
    goes_on = None if rate is None else outlook(standing, rate, now, policy)
    if days is None and goes_on is None:
        return None
    made = WindowProjection()
    if days is not None:
        made = replace(made, expected=days.expected, low=days.low, high=days.high)
    if goes_on is None:
        return made
    return replace(
        made,
        rate=goes_on.rate,
        at_reset=goes_on.at_reset,
        meets_line_at=goes_on.meets_line_at,
        holds_at=goes_on.holds_at,
        throttles_at=goes_on.throttles_at,
        meets_limit_at=goes_on.meets_limit_at,
    )


async def _observed(tx: AsyncConnection, shown: WindowPace, now: float) -> list[tuple[float, float]]:
    """Return the provider's stored observations of the current window."""
    begin, reset = shown.begins_at, shown.resets_at
    if begin is None or reset is None:
        return []
    key = WindowKey.parse(shown.key)
    return [
        (each.seen_at, each.used)
        for each in await pacing_windows.observations(tx, key.account, key.window)
        if each.used is not None
        and begin <= each.seen_at <= now
        and (each.reset_at is None or abs(each.reset_at - reset) <= _SAME_RESET_S)
    ]


def _told(shown: WindowPace, seen: Sequence[tuple[float, float]], now: float) -> Curve:
    """Return the curve from the provider's reports. It never falls, since reports are rounded and arrive late."""
    assert shown.begins_at is not None
    points, highest = [(shown.begins_at, 0.0)], 0.0
    for at, used in seen:
        highest = max(highest, used)
        points.append((at, highest))
    by_now = shown.used if shown.used is not None else max(highest, shown.at_least or 0.0)
    return thinned([*points, (now, by_now)])


def _use(at: float, sums: Sums, weights: Weights) -> Use:
    tokens = weights.weigh(Tokens(**sums.kinds))
    return Use(at=at, role="", tokens=float(tokens), usd=None if sums.unpriced else sums.usd)


def _curve(window: Window, shown: WindowPace, uses: Iterable[Use], now: float) -> Curve:
    """Return the cumulative use, ending with the current use.

    The ledger gives the shape. The window gives the height, since a provider also counts use by others.
    """
    begin, used = shown.begins_at, shown.used
    if begin is None or used is None or begin >= now:
        return ()
    inside = [(each.at, each.usd or 0.0 if window.unit == "usd" else each.tokens) for each in uses if each.at >= begin]
    whole = sum(amount for _, amount in inside)
    points, total = [(begin, 0.0)], 0.0
    for at, amount in inside:
        # Use is taken as even within an hour, and as none between hours with use.
        if at > points[-1][0]:
            points.append((at, points[-1][1]))
        total += amount
        points.append((min(at + _HOUR, now), used * total / whole if whole else 0.0))
    return thinned([*points, (now, used)])
