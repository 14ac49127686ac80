"""The decision whether work may begin now under the pace of its windows. Pure; times are seconds since the epoch.

Work must fit in every window that it draws on: the usage, the reserve of running tasks and its own projected cost stay
below the ceiling of its urgency:

- ``low`` and ``normal``: the line, a burst, and the authorized amount;
- ``high``: the same, with the line read half a day ahead, and less on the last day of the window;
- ``critical``: the limit, and the amount authorized beyond it.

No work exceeds the limit plus the amount authorized beyond it. A provider's quota cannot be exceeded at all.

A projection is the amount that 80 of 100 such tasks stay within. Tasks that cost more must not use up the window before
its end. So a task must also fit under the *limit* with the amount that most similar tasks stay within
(`Cost.high_tokens`). Far from the end, the limit is far above the line and this has no effect; near the end it governs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from budget.amounts import Unit
from budget.amounts import amount as _shown
from budget.windows.even_spread_line import (
    Cause,
    Certainty,
    EvenSpreadLine,
    PacePolicy,
    Window,
    burst_at,
    line_at,
    redrawn,
)
from budget.windows.even_spread_line import name_of as _name
from budget.windows.fit_check import (
    LEAST,
    Cost,
    WindowDemand,
    margin,
    need,
    opens,
    short,
    short_of_limit,
    short_of_pace,
    spare,
)
from budget.windows.large_task_accrual import is_large, is_too_large
from budget.windows.window_state import (
    PaceAuthorization,
    Urgency,
    WindowState,
    admissible,
    ceiling,
    settled,
    utmost,
    worth,
)

__all__ = [
    "LEAST",
    "Admitted",
    "Cause",
    "Certainty",
    "Cost",
    "Decision",
    "EvenSpreadLine",
    "Leave",
    "PaceAuthorization",
    "PacePolicy",
    "Unit",
    "Urgency",
    "Waits",
    "Why",
    "Window",
    "WindowState",
    "admissible",
    "burst_at",
    "ceiling",
    "decide",
    "governing",
    "line_at",
    "margin",
    "need",
    "redrawn",
    "settled",
    "spare",
    "worth",
]

Why: TypeAlias = Literal["pace", "limit", "unknown", "price"]

#: Amounts beyond this are invalid.
_FINITE = 1e300


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """The work may begin now."""

    window: str | None
    """The key of the window that governs it; None if no window bounds it."""
    room: float | None = None
    """The amount that remains admissible in that window after the projected cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """An amount to authorize."""

    scope: str
    unit: Unit
    amount: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """The work may not begin now."""

    window: str
    """The key of the window that governs: the last one to open among those that hold the work."""
    scope: str
    why: Why
    """pace: more than the even pace allows by now. limit: more than the window has left. unknown: the rest is unknown,
    and a task is running. price: the limit is in USD, the price of such work is unknown, and a task is running. One
    task at a time still begins, since its cost reveals the price."""
    text: str
    """A sentence for people, without time and command."""
    at: float | None
    """When the work fits if nothing else is spent; None if unknown or never."""
    need: float
    """The projected cost in `unit`; 0 if unknown."""
    unit: Unit
    authorize: float | None
    """The smallest amount, in `unit`, that would let it begin now in this window; None if no amount would."""
    also: tuple[str, ...] = ()
    """The keys of the other windows that hold it."""
    leave: tuple[Leave, ...] = ()
    """The authorizations that would let it begin now in every window that holds it; empty if none would help."""
    critical: bool = False
    """Whether it is beyond a limit that only critical work may exceed, within an authorization."""
    large: bool = False
    """Whether it needs more than the line grants in a day (budget.windows.large_task_accrual)."""
    too_large: bool = False
    """Whether it is so large that nothing is saved for it."""
    turn: bool = False
    """Whether only the line holds it and covers it before the reset, so that other tasks wait for it."""
    reset_unknown: bool = False
    """Whether no time is known because the reset of the window is unknown."""


Decision: TypeAlias = Admitted | Waits
Known: TypeAlias = dict[tuple[int, Cost, Urgency], tuple[WindowState, Waits | None]]
"""Cached results for standings, by their identity, at one time and under one policy."""


def decide(
    standings: Sequence[WindowState],
    cost: Cost,
    urgency: Urgency,
    now: float,
    policy: PacePolicy,
    *,
    known: Known | None = None,
) -> Decision:
    """Decide whether a task may begin now in every window that it draws on.

    Args:
        standings: the states of these windows; without any, nothing bounds the task.
        cost: the projected cost.
        urgency: the urgency, which decides the ceiling.
        now: seconds since the epoch.
        policy: the pace policy.
        known: a cache of results for the same standings at this time, which this call extends.
    """
    before: Known = {} if known is None else known

    def look(standing: WindowState) -> Waits | None:
        key = (id(standing), cost, urgency)
        if key not in before:
            before[key] = standing, wait_at(standing, cost, urgency, now, policy)
        return before[key][1]

    waits = [found for standing in standings if (found := look(standing)) is not None]
    if waits:
        last = max(waits, key=lambda found: math.inf if found.at is None else found.at)
        others = tuple(found.window for found in waits if found is not last)
        amounts = [found.authorize for found in waits if (found.scope, found.unit) == (last.scope, last.unit)]
        return replace(
            last,
            also=others,
            authorize=_largest(amounts),
            leave=_leave(waits),
            critical=any(found.critical for found in waits),
            large=any(found.large for found in waits),
            too_large=any(found.too_large for found in waits),
            turn=all(found.turn for found in waits),
        )
    tightest = governing(standings, urgency, now, policy, cost)
    if tightest is None:
        return Admitted(window=None)
    wanted = need(tightest.window, cost)
    return Admitted(
        window=tightest.window.key,
        room=max(0.0, admissible(tightest, urgency, now, policy) - (wanted or 0.0)),
    )


def governing(
    standings: Sequence[WindowState], urgency: Urgency, now: float, policy: PacePolicy, cost: Cost | None = None
) -> WindowState | None:
    """Return the tightest window: the one that fits the fewest such tasks.

    Without a cost, it is the one with the smallest admissible share of its limit.
    """

    def room(standing: WindowState) -> float:
        free = admissible(standing, urgency, now, policy)
        wanted = None if cost is None else need(standing.window, cost)
        per = wanted or standing.window.known_limit
        return free / per if per > 0 else 0.0

    return min(standings, key=room, default=None)


def wait_at(standing: WindowState, cost: Cost, urgency: Urgency, now: float, policy: PacePolicy) -> Waits | None:
    """Return why a start waits at one window, or None if it fits there."""
    window = standing.window
    wanted = need(window, cost)
    is_known = wanted is not None and window.known_use is not None
    is_reckoned = wanted is not None and window.reckoned is not None
    large = wanted is not None and is_reckoned and is_large(standing, wanted)
    too_large = wanted is not None and large and is_too_large(standing, wanted)

    def waits(why: Why, text: str, at: float | None = None, authorize: float | None = None) -> Waits:
        return Waits(
            window=window.key,
            scope=window.scope,
            why=why,
            text=text,
            at=at,
            need=wanted or 0.0,
            unit=window.unit,
            authorize=authorize,
            critical=why == "limit" and urgency != "critical" and not window.is_quota,
            large=large,
            too_large=too_large,
            turn=turns,
            reset_unknown=at is None and why in ("pace", "limit") and fits and not window.knows_reset(now),
        )

    name, turns = _name(window), False
    used = window.least_use
    fits = wanted is None or wanted <= window.known_limit
    most = utmost(standing, urgency, now)
    paced = wanted or 0.0
    if not is_known:
        priceless = wanted is None and window.unit == "usd"
        what = "what a token is of it is not known yet" if wanted is None else "what is used of it is not known"
        what = "what such work costs in USD is not known yet" if priceless else what
        if standing.is_busy and urgency != "critical":
            text = f"{name}: {what}, so that one task runs at a time, and one is under way."
            return waits("price" if priceless else "unknown", text)
        if wanted is not None and wanted > most:
            return waits("limit", _too_large(window, wanted))
        if wanted is not None and used + wanted > most:
            text = f"{name} has too little left: {what}, and is no less than {_shown(used, window.unit)}."
            reset = standing.line.resets_at
            return waits("limit", text, reset if reset is not None and reset > now else None)
    if not is_reckoned:
        # A probe: the first task that the limit allows begins. Only the certain usage holds it.
        paced = 0.0
    ask = WindowDemand(wanted=wanted or 0.0, cost=cost, urgency=urgency, policy=policy)
    lacks_pace = short_of_pace(standing, replace(ask, wanted=paced), now)
    lacks_limit = short_of_limit(standing, ask, now) if is_known else 0.0
    if max(lacks_pace, lacks_limit) <= 0:
        return None
    ask = replace(ask, wanted=paced)
    wanted = ask.wanted
    at = opens(standing, ask, now)
    # An authorization does not help beyond the absolute maximum.
    helps = max(wanted, LEAST * window.known_limit) <= most - used - standing.held_high or (
        urgency == "critical" and not window.is_quota
    )
    asked = _asked(standing, ask, now)
    authorize = asked * (1 + 1e-6) if helps and asked < _FINITE else None
    limit, spent = _shown(window.known_limit, window.unit), f"{_shown(used, window.unit)} used"
    if wanted > most:
        return waits("limit", _too_large(window, wanted), at, authorize)
    if standing.held:
        spent += f" and {_shown(standing.held, window.unit)} reserved for what is under way"
    this = f"this needs about {_shown(wanted, window.unit)}" if wanted else "what this needs is not known"
    if wanted > most - used - standing.held_high or used >= most:
        return waits("limit", f"{name} has too little left of {limit}: {spent}; {this}.", at, authorize)
    reset = standing.line.resets_at
    turns = lacks_limit <= 0 and not large and at is not None and (reset is None or at < reset)
    by_now = ceiling(standing, urgency, now, policy)
    if window.known_use is None:
        least = f" and is no less than {_shown(used, window.unit)}" if used else ""
        known = f"what is used of it is not known{least}"
        text = f"{name}: {known}; its pace allows {_shown(by_now, window.unit)} so far"
        return waits("pace", f"{text}; {this}." if wanted else f"{text}.", at, authorize)
    if used + standing.held + wanted <= by_now:
        text = f"{name} nears its end: {spent} of {limit}; {this}, and might need more than is left."
    else:
        text = f"{name} is used evenly, which allows {_shown(by_now, window.unit)} so far: {spent}; {this}"
        text += f", {_beyond(window, too_large)}." if large else "."
    return waits("pace", text, at, authorize)


def _asked(standing: WindowState, ask: WindowDemand, now: float) -> float:
    """Return the amount to authorize. The line is then redrawn, from the usage if that is beyond the line."""
    then = settled(standing, now, ask.policy, cause="authorization") or standing
    return max(short(then, ask, now), LEAST * standing.window.known_limit)


def _leave(waits: Sequence[Waits]) -> tuple[Leave, ...]:
    """Return what lets it begin in all these windows at once: the largest amount for each scope and unit."""
    found: dict[tuple[str, Unit], float] = {}
    for each in waits:
        if each.authorize is None:
            return ()
        found[each.scope, each.unit] = max(found.get((each.scope, each.unit), 0.0), each.authorize)
    return tuple(Leave(scope=scope, unit=unit, amount=amount) for (scope, unit), amount in found.items())


def _largest(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return max(known) if len(known) == len(amounts) and known else None


def _beyond(window: Window, too_large: bool) -> str:
    turn = "a fifth of its time" if window.is_short else "a day of it"
    half = "and more than half of it, so nothing is saved for it. It begins in a quiet fleet; or split it"
    return f"more than {turn} grants" + (f", {half}" if too_large else "")


def _too_large(window: Window, wanted: float) -> str:
    limit = _shown(window.known_limit, window.unit)
    return f"{_name(window)} is {limit} in all; this needs about {_shown(wanted, window.unit)}."
