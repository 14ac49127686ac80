"""Windows for reports: the current state, the use so far, and a projection to the reset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.pacing.services import PacingServices
from budget.amounts import Unit
from budget.tokens import Tokens, Weights
from budget.windows.even_spread_line import EvenSpreadLine, LastSeen, Window, line_at
from budget.windows.pace_admission import WindowState
from budget.windows.usage_forecast import Use, project
from budget.windows.window_state import Figures
from database.queries.operations import posted_reports
from database.queries.operations.posted_reports import RoleHour
from database.queries.spending import pacing_windows, usage_queries
from database.queries.spending.usage_queries import Sums

#: Number of windows that get a projection.
_PROJECTED: Final = 8
#: Maximum number of points of a curve; a phone's screen cannot show more.
_POINTS: Final = 60
#: Seconds of history behind a projection: two weeks cover each weekday twice, and older days hardly count.
_REMEMBERED_S: Final = 15 * 86_400.0
#: Maximum length of a curve in seconds.
_LONGEST_S: Final = 32 * 86_400.0
_HOUR: Final = 3600.0
#: Maximum difference in seconds between two reports of the same reset.
_SAME_RESET_S: Final = 3600.0


async def standing_windows(services: PacingServices) -> list[WindowFacts]:
    """Return the current state of every window, the most used first, without history or projection.

    Raises:
        RegisterError: the register cannot be read.
    """
    return [facts_of(*each) for each in await _standings(services)]


async def _standings(services: PacingServices) -> list[tuple[WindowState, Figures]]:
    """Return every window with its figures, the most used first."""
    gate = None if services.egress_client is None else await services.egress_client.standing()
    snapshot = (await services.pace.snapshot()).seen_at_the_gate(gate)
    return [(snapshot.standings[each.key], each) for each in snapshot.every()]


async def gather_windows(services: PacingServices, now: float, *, by_role: bool = False) -> list[WindowFacts]:
    """Return every window, the most used first; the first ones include history and projection.

    Args:
        services: the services to use.
        now: seconds since the epoch.
        by_role: also project each role's use, for the first window with a projection.

    Raises:
        RegisterError: the register cannot be read.
    """
    found = await _standings(services)
    standings = [standing for standing, _ in found]
    weights = Weights.of(services.settings.budgets.weights)
    zone: ZoneInfo = services.settings.timezone
    uses: dict[tuple[str, float], list[Use]] = {}
    made = [facts_of(*each) for each in found]
    async with services.store.read() as tx:
        for place, each in enumerate(standings[:_PROJECTED]):
            # Windows of one scope mostly need the same history.
            key = each.window.scope, _since(made[place], now)
            if key not in uses:
                uses[key] = await _uses(tx, *key, weights, now)
            made[place] = await _with_past(tx, each, made[place], uses[key], zone, now)
        first = next((place for place, each in enumerate(made) if each.expected is not None), None)
        if by_role and first is not None:
            known = await posted_reports.roles_by_hour(tx, standings[first].window.scope, now - _REMEMBERED_S, now)
            roles = [_use_of_role(each, weights) for each in known]
            made[first] = replace(made[first], by_role=_by_role(standings[first], roles, zone, now))
    return made


def _use_of_role(hour: RoleHour, weights: Weights) -> Use:
    return Use(at=hour.at, role=hour.role, tokens=float(weights.weigh(Tokens(**hour.tokens))), usd=hour.usd)


def _by_role(standing: WindowState, uses: Sequence[Use], zone: ZoneInfo, now: float) -> tuple[tuple[str, float], ...]:
    projection = project(standing.window, standing.line, uses, now, zone=zone)
    found = {} if projection is None else projection.by_role
    return tuple(sorted(((role, amount) for role, amount in found.items() if amount > 0), key=lambda each: -each[1]))


def _since(window: WindowFacts, now: float) -> float:
    """Return the hour from which use is needed, for the projection and for the curve up to its maximum length."""
    begin = now - _REMEMBERED_S
    if window.begins_at is not None:
        begin = max(min(begin, window.begins_at), now - _LONGEST_S)
    return begin // _HOUR * _HOUR


async def _uses(tx: AsyncConnection, scope: str, since: float, weights: Weights, now: float) -> list[Use]:
    """Return the hourly use on a scope."""
    try:
        pieces = await usage_queries.series(tx, scope, since, _HOUR, until=now)
    except ValueError:
        # The ledger keeps no sums for such a scope.
        return []
    return [_use(at, sums, weights) for at, sums in pieces if sums.requests]


async def _with_past(
    tx: AsyncConnection, standing: WindowState, facts: WindowFacts, uses: Sequence[Use], zone: ZoneInfo, now: float
) -> WindowFacts:
    """Add history and projection to a window."""
    window = standing.window
    projection = project(window, standing.line, uses, now, zone=zone)
    if projection is not None:
        facts = replace(facts, expected=projection.expected, low=projection.low, high=projection.high)
    seen = await _observed(tx, facts, now) if window.is_quota else []
    told = len(seen) > (1 if facts.used is not None else 0)
    return replace(facts, points=_told(facts, seen, now) if told else _curve(window, facts, uses, now))


async def _observed(tx: AsyncConnection, facts: WindowFacts, now: float) -> list[tuple[float, float]]:
    """Return the provider's stored observations of the current window."""
    begin, reset = facts.begins_at, facts.resets_at
    if begin is None or reset is None:
        return []
    account, _, name = facts.key.removeprefix("account:").partition("/")
    return [
        (each.seen_at, each.used)
        for each in await pacing_windows.observations(tx, account, name)
        if each.used is not None
        and begin <= each.seen_at <= now
        and (each.reset_at is None or abs(each.reset_at - reset) <= _SAME_RESET_S)
    ]


def _told(facts: WindowFacts, seen: Sequence[tuple[float, float]], now: float) -> tuple[tuple[float, float], ...]:
    """Return the curve from the provider's reports. It never falls, since reports are rounded and arrive late."""
    assert facts.begins_at is not None
    points, highest = [(facts.begins_at, 0.0)], 0.0
    for at, used in seen:
        highest = max(highest, used)
        points.append((at, highest))
    by_now = facts.used if facts.used is not None else max(highest, facts.at_least or 0.0)
    return _thinned([*points, (now, by_now)])


def facts_of(standing: WindowState, found: Figures) -> WindowFacts:
    """Return a window without history."""
    return WindowFacts(
        key=found.key,
        scope=found.scope,
        unit=found.unit,
        limit=found.limit,
        used=found.used,
        at_least=found.at_least,
        last_seen=found.last_seen,
        reserved=found.reserved,
        line=found.line,
        begins_at=found.begins_at,
        resets_at=found.resets_at,
        certainty=found.certainty,
        authorized=found.authorized,
        spread=_spread(standing.line, found),
    )


def _spread(line: EvenSpreadLine, found: Figures) -> tuple[tuple[float, float], ...]:
    """Return the ends of the current line: when it was drawn, and the reset."""
    if found.line is None or line.resets_at is None:
        return ()
    return (line.drawn_at, line_at(line, line.drawn_at)), (line.resets_at, line_at(line, line.resets_at))


def _use(at: float, sums: Sums, weights: Weights) -> Use:
    tokens = weights.weigh(Tokens(**sums.kinds))
    return Use(at=at, role="", tokens=float(tokens), usd=None if sums.unpriced else sums.usd)


def _curve(window: Window, facts: WindowFacts, uses: Iterable[Use], now: float) -> tuple[tuple[float, float], ...]:
    """Return the cumulative use, ending with the current use.

    The ledger gives the shape. The window gives the height, since a provider also counts use by others.
    """
    begin, used = facts.begins_at, facts.used
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
    return _thinned([*points, (now, used)])


def _thinned(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    step = max(1, len(points) // _POINTS)
    return (*points[:-1:step], points[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFacts:
    """The current state of one window in its own unit: tokens, USD, or shares of it (1.0 is all)."""

    key: str
    scope: str
    unit: Unit
    limit: float
    used: float | None
    """None: currently unknown."""
    reserved: float | None
    """None: unknown."""
    line: float | None
    """Use that the pace allows until now, as `pace` shows it; None: all of it may be used at any time."""
    begins_at: float | None
    resets_at: float | None
    certainty: str
    """Source of the reset time: provider, user, estimated, unknown."""
    at_least: float | None = None
    """If `used` is unknown, the certain minimum; None if that is unknown, too."""
    last_seen: LastSeen | None = None
    """If `used` is unknown, the last observation."""
    authorized: float = 0.0
    """Amount that may be used beyond the pace."""
    expected: float | None = None
    """Projected use at the reset; `low` and `high` bound the range around it."""
    low: float | None = None
    high: float | None = None
    by_role: Sequence[tuple[str, float]] = ()
    """Likely further use by each role until the reset, the largest first; only for one window of a weekly report."""
    points: Sequence[tuple[float, float]] = ()
    """Cumulative use over time, ascending, as far as known."""
    spread: Sequence[tuple[float, float]] = ()
    """The current line: where it was drawn and where it ends."""

    @property
    def least(self) -> float | None:
        """Use, or its certain minimum; None if no observation still counts."""
        if self.used is not None or self.last_seen is None:
            return self.used
        return self.at_least or 0.0

    @property
    def share(self) -> float | None:
        """Use as a share of the limit."""
        return None if self.used is None or self.limit <= 0 else self.used / self.limit
