"""The decision whether a person's message to an agent begins a turn now. Pure; times are seconds since the epoch.

The pace holds queued tasks and work that agents start by themselves. But a person who writes to an agent waits for an
answer. So only a limit and the bound for running work (`budget.windows.overrun_allowance`) hold such a message; that
bound is a day ahead of the line. Until then a turn begins at once, and the decision says how far it is ahead of the
line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from budget.amounts import amount
from budget.windows.even_spread_line import PacePolicy, line_at, name_of, next_turn
from budget.windows.fit_check import Cost
from budget.windows.overrun_allowance import overrun
from budget.windows.pace_admission import Leave, Waits, need
from budget.windows.window_state import WindowState, ceiling, utmost

#: The factor that rounds up an amount to authorize, so that it is still enough in its written form.
_ENOUGH = 1 + 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class LineAhead:
    """A window in which the turn exceeds the line."""

    standing: WindowState
    amount: float
    """How far the usage with this turn exceeds the line, in the window's unit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Begins:
    """The message begins a turn now."""

    ahead: tuple[LineAhead, ...] = ()
    """The windows in which the turn is ahead of the pace, the furthest first."""


Decision: TypeAlias = Begins | Waits


def decide(standings: Sequence[WindowState], cost: Cost, now: float, policy: PacePolicy) -> Decision:
    """Decide whether a person's message begins a turn now.

    Args:
        standings: the states of the windows that the turn draws on.
        cost: the projected cost of the turn.
        now: seconds since the epoch.
        policy: the pace policy.
    """
    held = [wait for each in standings if (wait := _held(each, cost, now, policy)) is not None]
    if not held:
        ahead = [made for each in standings if (made := _ahead(each, cost, now, policy)) is not None]
        return Begins(ahead=tuple(sorted(ahead, key=_share, reverse=True)))
    last = max(held, key=lambda wait: (wait.at is None, wait.at or 0.0))
    return replace(last, also=tuple(each.window for each in held if each is not last), leave=_leave(held))


def _held(standing: WindowState, cost: Cost, now: float, policy: PacePolicy) -> Waits | None:
    window = standing.window
    used, most = window.least_use, utmost(standing, "critical", now)
    wanted = need(window, cost) or 0.0
    # A turn that is larger than its window would never fit, so any room is enough for it.
    fits = wanted if wanted <= window.known_limit else 0.0
    if used >= most or used + fits > most:
        return _waits(standing, wanted, "limit", window.resets_at, None if window.is_quota else used + fits - most)
    bound = overrun(standing, now, policy)
    by_now = None if bound is None else bound.at(now)
    # The usage ahead of earlier lines still counts after the line was redrawn out of turn.
    counted = used + standing.line.ahead
    if bound is None or by_now is None or counted <= line_at(standing.line, now) or used + wanted <= by_now:
        return None
    # The next regular line starts at the usage.
    turns = [
        bound.passes(used + wanted, now),
        _reaches(standing, counted),
        next_turn(window, standing.line, now, policy),
    ]
    at = min(each for each in turns if each is not None)
    return _waits(standing, wanted, "pace", at, used + wanted - by_now, by_now)


def _waits(
    standing: WindowState, wanted: float, why: str, at: float | None, authorize: float | None, by_now: float = 0.0
) -> Waits:
    window = standing.window
    leave = None if authorize is None else max(authorize, 1e-6 * window.known_limit) * _ENOUGH
    return Waits(
        window=window.key,
        scope=window.scope,
        why="limit" if why == "limit" else "pace",
        text=_text(standing, why, by_now),
        at=at,
        need=wanted,
        unit=window.unit,
        authorize=leave,
        leave=() if leave is None else (Leave(scope=window.scope, unit=window.unit, amount=leave),),
        reset_unknown=at is None,
    )


def _text(standing: WindowState, why: str, by_now: float) -> str:
    window = standing.window
    spent = f"{amount(window.least_use, window.unit)} used"
    if why == "limit":
        return f"{name_of(window)} has too little left of {amount(window.known_limit, window.unit)}: {spent}."
    turn = "a fifth of its time" if window.is_short else "a day"
    most = amount(by_now, window.unit)
    return f"{name_of(window)} is {turn} ahead of its pace, which allows {most} now: {spent}."


def _leave(held: Sequence[Waits]) -> tuple[Leave, ...]:
    """Return what lets the turn begin in all these windows: the largest amount for each scope and unit.

    Return nothing if no authorization helps in one of them.
    """
    if any(each.authorize is None for each in held):
        return ()
    most: dict[tuple[str, str], Leave] = {}
    for leave in (leave for each in held for leave in each.leave):
        known = most.get((leave.scope, leave.unit))
        if known is None or leave.amount > known.amount:
            most[leave.scope, leave.unit] = leave
    return tuple(most.values())


def _reaches(standing: WindowState, amount: float) -> float | None:
    """Return when the line reaches this amount, or None if it ends before."""
    line = standing.line
    if line.resets_at is None or amount > line.limit:
        return None
    low = line_at(line, line.drawn_at)
    if line.limit <= low:
        return None
    return line.drawn_at + (amount - low) / (line.limit - low) * (line.resets_at - line.drawn_at)


def _ahead(standing: WindowState, cost: Cost, now: float, policy: PacePolicy) -> LineAhead | None:
    window = standing.window
    used, wanted = window.known_use, need(window, cost)
    if used is None or wanted is None or standing.line.resets_at is None:
        return None
    if used + wanted <= ceiling(standing, "normal", now, policy):
        return None
    return LineAhead(standing=standing, amount=used + standing.line.ahead + wanted - line_at(standing.line, now))


def _share(ahead: LineAhead) -> float:
    limit = ahead.standing.window.known_limit
    return ahead.amount / limit if limit else 0.0
