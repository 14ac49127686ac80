"""From the register and what this process knows to the facts of a report. Reads; decides and words nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from bot import rendering
from bot.reports.facts import AgentFacts, Down, Facts, Spent, TaskFacts, WindowFacts
from budget.lines import line_at
from budget.projection import Use, project
from budget.tokens import Tokens, Weights
from fleet.liveness import STATES
from register.queries import reports, spending, tasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.looking import AgentView
    from bot.reports.settings import Kind
    from bot.services import Services
    from budget.lines import Line, Window
    from budget.pacing import Standing
    from register.queries.spending import Sums
    from register.queries.tasks import Task

log = structlog.get_logger(__name__)

#: Of agents, tasks and days, so many are named; of windows, so many are reckoned to their reset.
NAMED: Final = 12
_PROJECTED: Final = 8
#: Points of a curve; more than a phone's screen shows are none the better.
_POINTS: Final = 60
#: What a projection rests on, at most.
_REMEMBERED_S: Final = 28 * 86_400.0
_TEXT: Final = 60
_HOUR: Final = 3600.0

#: Kinds of findings that mean that an agent was not there; `DOWN` is the kind of the rows that remember them.
MISSING: Final = frozenset({"silent", "failed", "stalled", "erring"})
DOWN: Final = "down"


# --- which time it is about ----------------------------------------------------------------------------------------


def midnight(at: float, zone: ZoneInfo, *, days: int = 0) -> float:
    """When the day of `at` began in `zone`, or one so many days away from it."""
    day = datetime.fromtimestamp(at, zone).date() + timedelta(days=days)
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def span_of(kind: Kind, at: float, zone: ZoneInfo, last: float | None = None) -> tuple[float, float]:
    """What a report is about that is due at `at`: from when on, and until before when.

    A daily report tells of yesterday, or of all days since the one before it, so that one after a weekend, or after
    some that were missed, leaves no day out.

    Args:
        kind: of the report.
        at: when it is due.
        zone: whose midnights count.
        last: when the one before was due; None: there was none.
    """
    end = midnight(at, zone)
    if kind == "weekly":
        return midnight(at, zone, days=-7), end
    begin = midnight(at, zone, days=-1)
    if kind == "daily" and last is not None:
        begin = min(begin, max(midnight(last, zone), midnight(at, zone, days=-31)))
    return begin, end


# --- facts ---------------------------------------------------------------------------------------------------------


async def gather(services: Services, kind: Kind, *, now: float, begin: float, end: float) -> Facts:
    """The facts of a report.

    Args:
        services: what knows of them.
        kind: of the report; what does not belong to it is left out.
        now: seconds since the epoch.
        begin: what is told of what was spent and done begins here,
        end: and ends before this.

    Raises:
        RegisterError: the register cannot be read.
    """
    zone: ZoneInfo = services.settings.timezone
    windows = await gather_windows(services, now) if kind != "fleet" else ()
    views: Sequence[AgentView] = await services.agents.view() if kind == "fleet" and services.agents is not None else ()
    behind = services.outlet.behind() if services.outlet is not None else None
    async with services.store.read() as tx:
        facts = Facts(kind=kind, now=now, zone=zone, begin=begin, end=end, behind=behind, windows=windows)
        if kind == "fleet":
            return await _with_fleet(tx, facts, views, known=services.outlet is not None and behind is None)
        if kind == "budget":
            return facts
        return await _with_work(tx, facts)


async def _with_work(tx: AsyncConnection, facts: Facts) -> Facts:
    """What was spent and done in this time, what waits, and who was down."""
    by_agent = await spending.groups(tx, ("agent",), facts.begin, facts.end)
    by_task = await spending.groups(tx, ("task",), facts.begin, facts.end)
    by_day = await spending.days(tx, facts.begin, facts.zone, until=facts.end) if facts.kind == "weekly" else {}
    waiting = await reports.waiting_first(tx, limit=NAMED)
    counts = await tasks.counts(tx)
    ended = await reports.ended_last(tx, facts.begin, facts.end, limit=NAMED)
    downs = await _downs(tx, facts.begin, facts.end)
    of_tasks = _largest({key[0]: sums for key, sums in by_task.items() if key[0]})
    texts = await reports.texts(tx, [each.key for each in of_tasks[:NAMED]])
    return replace(
        facts,
        total=_spent("", sum(by_agent.values(), spending.NOTHING)),
        agents=_largest({key[0] or "-": sums for key, sums in by_agent.items()}),
        tasks=of_tasks,
        days=[_spent(day, sums) for day, sums in by_day.items()],
        waiting=[_task(each) for each in waiting],
        waiting_count=counts["queued"],
        ended=[_task(each) for each in ended],
        ended_counts=sorted((await reports.ended_counts(tx, facts.begin, facts.end)).items()),
        downs=downs,
        names=[(task_id, rendering.one_line(text, _TEXT)) for task_id, text in texts.items()],
    )


async def _with_fleet(tx: AsyncConnection, facts: Facts, views: Sequence[AgentView], *, known: bool) -> Facts:
    """Who is there, and what they came to since midnight."""
    today = midnight(facts.now, facts.zone)
    used = await spending.groups(tx, ("agent",), today)
    done = await reports.done_by(tx, today, facts.now + 1)
    fleet = [
        AgentFacts(
            name=view.row.name,
            role=view.row.role,
            state=view.liveness.state,
            evidence=view.liveness.evidence,
            evidence_age_s=view.liveness.evidence_age_s,
            detail=view.liveness.detail,
            activity=view.activity,
            tasks_done=done.get(view.row.name, 0),
            tokens=used.get((view.row.name,), spending.NOTHING).tokens if known else None,
        )
        for view in sorted(views, key=lambda view: view.row.name)
    ]
    counted = Counter(each.state for each in fleet)
    order = {state: place for place, state in enumerate(STATES)}
    return replace(
        facts,
        fleet=fleet,
        fleet_count=len(fleet),
        fleet_states=sorted(counted.items(), key=lambda item: order.get(item[0], len(order))),
        downs=await _downs(tx, today, facts.now + 1),
    )


async def _downs(tx: AsyncConnection, begin: float, end: float) -> list[Down]:
    """Who was down in this time, as the sweeps remembered."""
    found = []
    for row in await reports.of_kind(tx, DOWN):
        _, kind, agent, _ = row.key.split("/", 3)
        lasted_until = row.posted_at
        if row.due_at < end and lasted_until >= begin:
            # A row is renewed at each sweep for as long as it lasts.
            until = None if lasted_until >= end - 1 else lasted_until
            found.append(Down(agent=agent, kind=kind, since=max(row.due_at, begin), until=until))
    return sorted(found, key=lambda each: (each.since, each.agent))


def _task(task: Task) -> TaskFacts:
    return TaskFacts(
        id=task.id,
        text=rendering.one_line(task.text, _TEXT),
        whose=task.assigned or task.agent or task.role or "anyone",
        state=task.state,
        reason=None if task.reason is None else rendering.one_line(task.reason, 160),
        look_at=task.look_at,
        created_at=task.created_at,
        ended_at=task.ended_at,
        projected_tokens=task.projected_tokens,
        actual_tokens=task.actual_tokens,
        actual_usd=task.actual_usd,
    )


def _spent(key: str, sums: Sums) -> Spent:
    usd = None if sums.unpriced else sums.usd
    return Spent(key=key, requests=sums.requests, tokens=sums.tokens, usd=usd, estimated=sums.estimated)


def _largest(found: Mapping[str, Sums]) -> list[Spent]:
    """All of them, the largest first."""
    made = [_spent(key, sums) for key, sums in found.items()]
    return sorted(made, key=lambda each: (-each.tokens, each.key))


# --- windows -------------------------------------------------------------------------------------------------------


async def standing_windows(services: Services, now: float) -> list[WindowFacts]:
    """Every window as it stands, those first that are used up most, without what came before and what will come.

    Raises:
        RegisterError: the register cannot be read.
    """
    return [_plain(each, now) for each in await _standings(services)]


async def _standings(services: Services) -> list[Standing]:
    if services.pace is None:
        return []
    snapshot = await services.pace.snapshot()
    return sorted(snapshot.standings.values(), key=lambda each: (-_share(each.window), each.window.key))


async def gather_windows(services: Services, now: float) -> list[WindowFacts]:
    """Every window, those first that are used up most; of the first, also where it goes.

    Raises:
        RegisterError: the register cannot be read.
    """
    standings = await _standings(services)
    weights = Weights.of(services.settings.budgets.weights)
    zone: ZoneInfo = services.settings.timezone
    async with services.store.read() as tx:
        return [
            await _window(tx, each, weights, zone, now) if place < _PROJECTED else _plain(each, now)
            for place, each in enumerate(standings)
        ]


def _share(window: Window) -> float:
    return (window.known_use or 0.0) / window.known_limit if window.known_limit else 0.0


async def _window(tx: AsyncConnection, standing: Standing, weights: Weights, zone: ZoneInfo, now: float) -> WindowFacts:
    window, facts = standing.window, _plain(standing, now)
    try:
        pieces = await spending.series(tx, window.scope, now - _REMEMBERED_S, _HOUR, until=now)
    except ValueError:
        # Nothing is summed up for such a scope.
        return facts
    uses = [_use(at, sums, weights) for at, sums in pieces if sums.requests]
    projection = project(window, standing.line, uses, now, zone=zone)
    if projection is not None:
        facts = replace(facts, expected=projection.expected, low=projection.low, high=projection.high)
    return replace(facts, points=_curve(window, facts, uses, now))


def _plain(standing: Standing, now: float) -> WindowFacts:
    """A window without what came before."""
    window, line = standing.window, standing.line
    begins_at = window.begins_at
    if begins_at is None and window.resets_at is not None and window.length is not None:
        begins_at = window.resets_at - window.length
    return WindowFacts(
        key=window.key,
        scope=window.scope,
        unit=window.unit,
        limit=window.known_limit,
        used=window.known_use,
        reserved=standing.held,
        line=even_spread(window, begins_at, line, now),
        begins_at=begins_at,
        resets_at=window.resets_at,
        certainty=window.certainty,
        authorized=sum(each.left(now) for each in standing.authorizations),
        spread=_spread(window, begins_at, line),
    )


def even_spread(window: Window, begins_at: float | None, line: Line, now: float) -> float | None:
    """What would be used by now, had it been spread evenly since the window began; None: it has no end to spread to."""
    spread = _spread(window, begins_at, line)
    if not spread:
        return None
    (begin, low), (end, high) = spread[0], spread[-1]
    if end <= begin:
        return high
    return low + (high - low) * min(1.0, max(0.0, (now - begin) / (end - begin)))


def _spread(window: Window, begins_at: float | None, line: Line) -> tuple[tuple[float, float], ...]:
    if begins_at is not None and window.resets_at is not None:
        return (begins_at, 0.0), (window.resets_at, window.known_limit)
    if line.resets_at is None:
        return ()
    return (line.drawn_at, line_at(line, line.drawn_at)), (line.resets_at, line_at(line, line.resets_at))


def _use(at: float, sums: Sums, weights: Weights) -> Use:
    tokens = weights.weigh(Tokens(**sums.kinds))
    return Use(at=at, role="", tokens=float(tokens), usd=None if sums.unpriced else sums.usd)


def _curve(window: Window, facts: WindowFacts, uses: Iterable[Use], now: float) -> tuple[tuple[float, float], ...]:
    """What was used by when, ending with what is used now.

    The ledger gives the shape; how high it goes is what the window says, since a provider also counts what others used.
    """
    begin, used = facts.begins_at, facts.used
    if begin is None or used is None or begin >= now:
        return ()
    inside = [(each.at, each.usd or 0.0 if window.unit == "usd" else each.tokens) for each in uses if each.at >= begin]
    whole = sum(amount for _, amount in inside)
    points, total = [(begin, 0.0)], 0.0
    for at, amount in inside:
        total += amount
        points.append((min(at + _HOUR, now), used * total / whole if whole else 0.0))
    points.append((now, used))
    step = max(1, len(points) // _POINTS)
    return tuple([*points[:-1:step], points[-1]])
