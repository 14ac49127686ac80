"""Whether work may begin now: the pace that the windows allow it. Pure; times are seconds since the epoch.

Work fits when, in every window that it draws on, what is used, what is reserved for tasks under way and what it is
projected to cost stay under the ceiling of its urgency:

- ``low``: the bare line;
- ``normal``: the line and a burst, and what is authorized;
- ``high``: the same, with the line read ahead by a part of the next day;
- ``critical``: as high; within an authorization it may pass the limit, too.

Nothing passes the limit and what is authorized beyond it, and a provider's quota nothing at all.

Projections are what 80 of 100 such tasks stay within. So that tasks that cost more do not use up the window before its
end, a task must fit under the *limit* with what 90 or 95 of 100 stay within, too (`Cost.high_tokens`): far from the end
the limit is far above the line and this asks nothing; near the end it governs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from budget.lines import (
    DAY_S,
    Cause,
    Certainty,
    Line,
    Policy,
    Unit,
    Window,
    burst_at,
    line_at,
    next_turn,
    redrawn,
)
from budget.reserve import outer
from budget.standings import Authorization, Standing, Urgency, admissible, amount_of, ceiling, settled, utmost, worth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Admitted",
    "Authorization",
    "Cause",
    "Certainty",
    "Cost",
    "Decision",
    "Leave",
    "Line",
    "Policy",
    "Standing",
    "Unit",
    "Urgency",
    "Waits",
    "Why",
    "Window",
    "admissible",
    "burst_at",
    "ceiling",
    "decide",
    "governing",
    "line_at",
    "need",
    "redrawn",
    "settled",
    "worth",
]

Why: TypeAlias = Literal["pace", "limit", "unknown", "price"]

#: The margin for tasks that cost more than projected is at most this share of a window.
MARGIN = 0.1
#: In this last part of a window that margin shrinks to nothing.
ENDING = 0.03
#: From the first of these parts of a window to the second the quantile that is asked for rises: in steps beyond p90
#: (budget.reserve.outer), from the first number to the second.
LATE, LATE_STEPS = (0.75, 0.95), (1.0, 3.0)
#: Amounts that differ by no more than this share of a limit are the same.
_LEAST = 1e-9
#: Amounts beyond this are no amounts.
_FINITE = 1e300
#: A day on which clocks are set back by two hours.
_LONG_DAY_S = 26 * 3_600.0
#: To so many seconds it is told when something would fit, within so many tries.
_NEAR_S, _TRIES = 60.0, 24
#: So many times a line is thought to be drawn anew, to tell when something would fit: more than the days of a year.
_TURNS = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a task is projected to cost."""

    tokens: float
    """Weighted; what 80 of 100 such tasks stay within."""
    usd: float | None = None
    """None: no price is known."""
    high_tokens: float | None = None
    """What 90 or 95 of 100 stay within. None: taken to be `HIGH_OF_PROJECTED` times `tokens`."""
    high_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """It may begin now."""

    window: str | None
    """The key of the window that governs it; None: nothing bounds it."""
    room: float | None = None
    """What remains admissible in that window when its projected cost is taken off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leave:
    """What would have to be authorized."""

    scope: str
    unit: Unit
    amount: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """It may not begin now."""

    window: str
    """The key of the window that governs: of all that hold it, the one that opens last."""
    scope: str
    why: Why
    """pace: more than the even pace allows by now. limit: more than is left of the window. unknown: what is left cannot
    be told, and something is under way. price: the limit is in USD, of such work no price is known yet, and something
    is under way. One at a time begins all the same: what it comes to is how a price becomes known."""
    text: str
    """For people: a sentence, without time and command."""
    at: float | None
    """When it would fit if nothing else were spent; None: not known, or never."""
    need: float
    """What it is projected to cost, in `unit`; 0 where that cannot be told."""
    unit: Unit
    authorize: float | None
    """The smallest amount, in `unit`, that would let it begin now in this window; None: none would."""
    also: tuple[str, ...] = ()
    """Keys of the other windows that hold it."""
    leave: tuple[Leave, ...] = ()
    """All that would have to be authorized for it to begin now, in every window that holds it; empty: that would not
    help."""
    critical: bool = False
    """It is beyond a limit that only work of critical urgency may pass, within an authorization."""


Decision: TypeAlias = Admitted | Waits
Known: TypeAlias = dict[tuple[int, Cost, Urgency], tuple[Standing, Waits | None]]
"""What was found of standings, by their identity, at one time and under one policy."""


def need(window: Window, cost: Cost) -> float | None:
    """What a task is projected to cost, in the window's unit; None: that cannot be told."""
    return _in_unit(window, cost.tokens, cost.usd)


def decide(
    standings: Sequence[Standing],
    cost: Cost,
    urgency: Urgency,
    now: float,
    policy: Policy,
    *,
    known: Known | None = None,
) -> Decision:
    """Whether a task may begin now, in every window that it draws on.

    Args:
        standings: of these windows; without any, nothing bounds it.
        cost: what it is projected to cost.
        urgency: whose gate.
        now: seconds since the epoch.
        policy: how strictly the pace is kept.
        known: what was found of the same standings before at this time, and is added to.
    """
    before: Known = {} if known is None else known

    def look(standing: Standing) -> Waits | None:
        key = (id(standing), cost, urgency)
        if key not in before:
            before[key] = standing, _waits(standing, cost, urgency, now, policy)
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
    standings: Sequence[Standing], urgency: Urgency, now: float, policy: Policy, cost: Cost | None = None
) -> Standing | None:
    """The tightest: in which the fewest such tasks fit, or without a task, least of the limit is admissible."""

    def room(standing: Standing) -> float:
        free = admissible(standing, urgency, now, policy)
        wanted = None if cost is None else need(standing.window, cost)
        per = wanted or standing.window.known_limit
        return free / per if per > 0 else 0.0

    return min(standings, key=room, default=None)


def _waits(standing: Standing, cost: Cost, urgency: Urgency, now: float, policy: Policy) -> Waits | None:
    window = standing.window
    wanted = need(window, cost)

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
        )

    name = _name(window)
    used = window.least_use
    if wanted is None or window.known_use is None:
        priceless = wanted is None and window.unit == "usd"
        what = "what a token is of it is not known yet" if wanted is None else "what is used of it is not known"
        what = "what such work costs in USD is not known yet" if priceless else what
        if standing.is_busy:
            text = f"{name}: {what}, so that one task runs at a time, and one is under way."
            return waits("price" if priceless else "unknown", text)
        if wanted is not None and wanted > window.known_limit:
            return waits("limit", _too_large(window, wanted))
        if wanted is None or (window.known_use is None and window.at_least is None):
            # One task, whatever it needs, as long as what is known to be used is less than the pace allows.
            wanted = 0.0
    short = _short(standing, wanted, cost, urgency, policy, now)
    if short <= 0:
        return None
    at = _opens(standing, wanted, cost, urgency, now, policy)
    most = utmost(standing, urgency, now)
    # What is authorized counts for all but low urgency, and not past what nothing passes.
    helps = urgency != "low" and (
        max(wanted, _LEAST * window.known_limit) <= most - used - standing.held_high
        or (urgency == "critical" and not window.is_quota)
    )
    authorize = short * (1 + 1e-6) if helps and short < _FINITE else None
    limit, spent = _shown(window.known_limit, window.unit), f"{_shown(used, window.unit)} used"
    if wanted > most:
        return waits("limit", _too_large(window, wanted), at, authorize)
    if standing.held:
        spent += f" and {_shown(standing.held, window.unit)} reserved for what is under way"
    this = f"this needs about {_shown(wanted, window.unit)}" if wanted else "what this needs is not known"
    if wanted > most - used - standing.held_high or used >= most:
        return waits("limit", f"{name} has too little left of {limit}: {spent}; {this}.", at, authorize)
    allowed = ceiling(standing, urgency, now, policy)
    if window.known_use is None:
        least = f" and is no less than {_shown(used, window.unit)}" if used else ""
        known = f"what is used of it is not known{least}"
        return waits("pace", f"{name}: {known}; its pace allows {_shown(allowed, window.unit)} by now.", at, authorize)
    if used + standing.held + wanted <= allowed:
        text = f"{name} nears its end: {spent} of {limit}; {this}, and might need more than is left."
    else:
        text = f"{name} is used evenly, which allows {_shown(allowed, window.unit)} by now: {spent}; {this}."
    return waits("pace", text, at, authorize)


def _short(standing: Standing, wanted: float, cost: Cost, urgency: Urgency, policy: Policy, now: float) -> float:
    """By how much a task does not fit; at most 0: it fits."""
    window, used = standing.window, standing.window.least_use
    free = ceiling(standing, urgency, now, policy) - used - standing.held
    if wanted <= 0:
        # What is known to cost nothing, or cannot be told, fits where there is anything left at all.
        return -free if free > 0 else max(-free, _LEAST * window.known_limit)
    tight = utmost(standing, urgency, now) - used - standing.held_high
    return max(wanted - free, wanted + _margin(standing, cost, wanted, now) - tight) - _LEAST * window.known_limit


def _opens(standing: Standing, wanted: float, cost: Cost, urgency: Urgency, now: float, policy: Policy) -> float | None:
    """When it would fit if nothing else were spent and what is under way cost what is reserved; None: never, or not
    known."""
    window = standing.window
    if wanted > window.known_limit and not (urgency == "critical" and standing.authorizations):
        return None
    found = _within(standing, wanted, cost, urgency, now, policy)
    reset, length = standing.line.resets_at, window.length
    if found is not None or reset is None or window.resets_at is None:
        return found
    if length is None:
        return max(reset, now)
    new = replace(window, begins_at=reset, resets_at=reset + length, length_s=length, used=0.0)
    line = redrawn(new, None, reset, policy)
    assert line is not None
    at = _within(Standing(window=new, line=line), wanted, cost, urgency, reset, policy)
    return None if at is None else max(at, now)


def _within(
    standing: Standing, wanted: float, cost: Cost, urgency: Urgency, now: float, policy: Policy
) -> float | None:
    """When it would fit within this window."""
    t = now
    for turns in range(_TURNS):
        line = standing.line
        turn, reset = next_turn(standing.window, line, t, policy), line.resets_at
        ends = min((at for at in (turn, reset) if at is not None), default=None)
        if ends is None or ends <= t:
            return None
        short = partial(_short, standing, wanted, cost, urgency, policy)
        late = max(t, ends - 1.0)
        if short(late) <= 0:
            return _first(short, t, late)
        if reset is None or ends >= reset:
            return None
        if not standing.window.knows_reset(ends) and turns:
            # A whole length from then, each time: it does not come nearer.
            return None
        earliest = _earliest(standing, wanted, t, policy)
        if earliest is not None and ends < earliest < reset:
            ends = next_turn(standing.window, line, earliest, policy) or ends
        window = replace(standing.window, used=standing.window.least_use + standing.held)
        fresh = redrawn(window, line, ends, policy) or line
        standing = replace(standing, window=window, line=fresh, reserved=0.0, reserved_high=None)
        t = ends
    return None


def _earliest(standing: Standing, wanted: float, now: float, policy: Policy) -> float | None:
    """Before this the line of one day does not rise as far as `wanted`; None: that cannot be told. Days without end are
    passed over by it."""
    window, reset = standing.window, standing.line.resets_at
    if window.is_short or reset is None or not window.knows_reset(now):
        return None
    left = sum(worth(one, window, one.left(now)) for one in standing.authorizations)
    rises = wanted - burst_at(window, policy, now) - left
    rest = window.known_limit - window.least_use - standing.held
    if rises <= 0 or rest <= 0:
        return None
    return reset - rest / rises * (_LONG_DAY_S + policy.borrow * DAY_S) - _LONG_DAY_S


def _first(short: Callable[[float], float], low: float, high: float) -> float:
    """When something fits that does not at `low` and does at `high`, to `_NEAR_S` and never too early: by regula falsi
    (Illinois), as what is short is nearly a straight line."""
    over, under = short(low), short(high)
    if over <= 0:
        return low
    for _ in range(_TRIES):
        if high - low <= _NEAR_S:
            break
        # Aimed a little late, so that it closes in from both sides.
        middle = min(high - _NEAR_S / 4, low + (high - low) * over / (over - under) + _NEAR_S / 4)
        found = short(middle)
        if found <= 0:
            high, under = middle, found
            over /= 2
        else:
            low, over = middle, found
            under /= 2
    return high


def _margin(standing: Standing, cost: Cost, wanted: float, now: float) -> float:
    """What a task must leave under the limit beyond its projection.

    At most half of what it would leave of an unused window, so that one that is nearly as large as the window still
    runs some day. Who authorizes takes that risk.
    """
    window = standing.window
    if not window.hard or not math.isfinite(wanted):
        return 0.0
    high = _in_unit(window, cost.high_tokens, cost.high_usd) if cost.high_tokens is not None else None
    more = outer(wanted, high, _steps(window, now)) - wanted
    margin = min(more, MARGIN * window.known_limit, (window.known_limit - wanted) / 2) * _patience(window, now)
    return max(0.0, margin - sum(worth(one, window, one.left(now)) for one in standing.authorizations))


def _steps(window: Window, now: float) -> float:
    """How far beyond the p90 a task may cost and still must fit: near its end a window cannot make good for one."""
    if window.length is None or window.resets_at is None:
        return LATE_STEPS[0]
    part = 1 - (window.resets_at - now) / window.length
    rise = min(1.0, max(0.0, (part - LATE[0]) / (LATE[1] - LATE[0])))
    return LATE_STEPS[0] + (LATE_STEPS[1] - LATE_STEPS[0]) * rise


def _patience(window: Window, now: float) -> float:
    """How much of the margin is kept: all of it, until the window is nearly over. What is left then is lost."""
    if window.length is None or window.resets_at is None:
        return 1.0
    return min(1.0, max(0.0, window.resets_at - now) / (ENDING * window.length))


def _in_unit(window: Window, tokens: float | None, usd: float | None) -> float | None:
    if window.unit == "usd":
        return None if usd is None else amount_of(usd, math.inf)
    counted = amount_of(tokens, math.inf)
    if window.unit == "tokens":
        return counted
    per_token = window.per_token
    if per_token is None or not math.isfinite(per_token) or per_token <= 0:
        return None
    return counted * per_token


def _leave(waits: Sequence[Waits]) -> tuple[Leave, ...]:
    """What lets it begin in all of these windows at once: of each scope and unit the most that one asks for."""
    found: dict[tuple[str, Unit], float] = {}
    for each in waits:
        if each.authorize is None:
            return ()
        found[each.scope, each.unit] = max(found.get((each.scope, each.unit), 0.0), each.authorize)
    return tuple(Leave(scope=scope, unit=unit, amount=amount) for (scope, unit), amount in found.items())


def _largest(amounts: Sequence[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return max(known) if len(known) == len(amounts) and known else None


def _name(window: Window) -> str:
    rest = window.key.removeprefix(window.scope).strip("/").replace("/", " ")
    return f"The window {rest} of {window.scope}" if rest else f"The window of {window.scope}"


def _too_large(window: Window, wanted: float) -> str:
    limit = _shown(window.known_limit, window.unit)
    return f"{_name(window)} is {limit} in all; this needs about {_shown(wanted, window.unit)}."


def _shown(amount: float, unit: Unit) -> str:
    if not math.isfinite(amount):
        return "more than anything"
    if unit == "share":
        return f"{amount * 100:.1f} percent"
    return f"{amount:,.0f} tokens" if unit == "tokens" else f"{amount:,.2f} USD"
