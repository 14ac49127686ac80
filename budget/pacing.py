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
    redrawn,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Admitted",
    "Authorization",
    "Cause",
    "Certainty",
    "Cost",
    "Decision",
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

Urgency: TypeAlias = Literal["low", "normal", "high", "critical"]
Why: TypeAlias = Literal["pace", "limit", "unknown", "price"]

#: The high quantile where only the p80 is known, as a multiple of it: p95 over p80 of costs as they are found.
HIGH_OF_PROJECTED = 1.6
#: The margin for tasks that cost more than projected is at most this share of a window.
MARGIN = 0.1
#: An authorization is written down as used up in steps of this share of the limit.
STEP = 0.002


@dataclass(frozen=True, kw_only=True, slots=True)
class Authorization:
    """Leave to spend faster than the pace, until then. It is used up by what is spent beyond line and burst."""

    id: str
    scope: str
    unit: Unit
    amount: float
    granted_at: float
    until: float
    drawn: float = 0.0
    """Of the amount, what was used up before the line that stands was drawn."""

    def left(self, now: float) -> float:
        """What of it is not used up by the line that stands; 0 before it is granted and once it is over."""
        if not self.granted_at <= now < self.until or not math.isfinite(self.amount):
            return 0.0
        return max(0.0, self.amount - max(0.0, self.drawn))


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
class Standing:
    """A window, its line, and what is promised of it."""

    window: Window
    line: Line
    reserved: float = 0.0
    """What live tasks may still use, in the window's unit."""
    authorizations: Sequence[Authorization] = ()
    """Those that hold for the window's scope."""
    reserved_high: float | None = None
    """The same by the high quantile; None: as `reserved`."""
    under_way: int = 0
    """How many live tasks draw on it, whatever they may still use."""

    @property
    def held(self) -> float:
        """What is reserved, a number of at least 0."""
        return _amount(self.reserved)

    @property
    def is_busy(self) -> bool:
        """Whether anything is under way on it."""
        return self.under_way > 0 or self.held > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Admitted:
    """It may begin now."""

    window: str | None
    """The key of the window that governs it; None: nothing bounds it."""
    room: float | None = None
    """What remains admissible in that window when its projected cost is taken off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waits:
    """It may not begin now."""

    window: str
    """The key of the window that governs: of all that hold it, the one that opens last."""
    scope: str
    why: Why
    """pace: more than the even pace allows by now. limit: more than is left of the window. unknown: what is left cannot
    be told, and something is under way. price: the limit is in USD, and no price is known."""
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


Decision: TypeAlias = Admitted | Waits


def ceiling(standing: Standing, urgency: Urgency, now: float, policy: Policy) -> float:
    """What may be used and reserved at `now`, in the window's unit."""
    window, line = standing.window, standing.line
    limit = window.known_limit
    bare = line_at(line, now)
    if urgency == "low":
        return min(limit, bare)
    burst = burst_at(window, policy, now)
    paced = bare + max(0.0, burst - line.ahead)
    if urgency != "normal":
        paced = max(paced, line_at(line, now + _borrowed(window, line, now, policy)) + burst - line.ahead)
    left = sum(worth(authorization, window, authorization.left(now)) for authorization in standing.authorizations)
    most = limit
    if urgency == "critical" and not window.is_quota:
        most += sum(
            worth(authorization, window, authorization.amount)
            for authorization in standing.authorizations
            if authorization.left(now) > 0
        )
    else:
        paced = min(paced, limit)
    return min(paced + left, most)


def admissible(standing: Standing, urgency: Urgency, now: float, policy: Policy) -> float:
    """What a task that begins now may be projected to cost, in the window's unit; never negative.

    Where the use is not known: one thing at a time.
    """
    used = standing.window.known_use
    if used is None:
        return 0.0 if standing.is_busy else standing.window.known_limit
    return max(0.0, ceiling(standing, urgency, now, policy) - used - standing.held)


def need(window: Window, cost: Cost) -> float | None:
    """What a task is projected to cost, in the window's unit; None: that cannot be told."""
    return _in_unit(window, cost.tokens, cost.usd)


def worth(authorization: Authorization, window: Window, amount: float) -> float:
    """What an amount of an authorization is in the window's unit; 0 where the one cannot be told from the other."""
    if not math.isfinite(amount) or amount <= 0:
        return 0.0
    if authorization.unit == window.unit:
        return amount
    if authorization.unit == "share":
        return amount * window.known_limit
    if window.unit == "share" and authorization.unit == "tokens" and window.per_token is not None:
        return amount * _amount(window.per_token)
    return 0.0


def decide(standings: Sequence[Standing], cost: Cost, urgency: Urgency, now: float, policy: Policy) -> Decision:
    """Whether a task may begin now, in every window that it draws on.

    Args:
        standings: of these windows; without any, nothing bounds it.
        cost: what it is projected to cost.
        urgency: whose gate.
        now: seconds since the epoch.
        policy: how strictly the pace is kept.
    """
    waits = [found for standing in standings if (found := _waits(standing, cost, urgency, now, policy)) is not None]
    if waits:
        last = max(waits, key=lambda found: math.inf if found.at is None else found.at)
        others = tuple(found.window for found in waits if found is not last)
        amounts = [found.authorize for found in waits if (found.scope, found.unit) == (last.scope, last.unit)]
        return replace(last, also=others, authorize=_largest(amounts))
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


def settled(standing: Standing, now: float, policy: Policy, *, cause: Cause | None = None) -> Standing | None:
    """The standing with its line drawn anew, where that is due, and with what was used up of its authorizations.

    Authorizations are also used up while a line stands: that is written down, and the line drawn from there, in steps
    of `STEP`, so that waiting gives nothing of it back.

    Returns:
        None: all stays as it is.
    """
    window, line = standing.window, standing.line
    used = window.known_use
    beyond = 0.0
    if used is not None and line.known:
        paced = line_at(line, now) + max(0.0, burst_at(window, policy, now) - line.ahead)
        beyond = max(0.0, used - min(paced, max(line.limit, line.drawn_used)))
    taken: list[Authorization] = []
    rest = beyond
    for authorization in sorted(standing.authorizations, key=lambda one: (one.until, one.id)):
        left = authorization.left(now)
        whole = worth(authorization, window, left)
        part = min(rest, whole)
        rest -= part
        drawn = authorization.drawn + (left * part / whole if whole > 0 else 0.0)
        taken.append(replace(authorization, drawn=drawn))
    booked = beyond - rest
    if cause is None and booked > STEP * window.known_limit:
        cause = "authorization"
    fresh = redrawn(window, line, now, policy, cause=cause)
    if fresh is None:
        return None
    if booked and fresh.ahead:
        # What was authorized is counted there, and not against the burst as well.
        fresh = replace(fresh, ahead=max(0.0, fresh.ahead - booked))
    return replace(standing, line=fresh, authorizations=tuple(taken))


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
        )

    name = _name(window)
    if wanted is None and window.unit == "usd":
        return waits("price", f"{name} is in USD, and no price is known of what this would cost.")
    used = window.known_use
    if wanted is None or used is None:
        what = "what is used of it is not known" if used is None else "what a token is of it is not known yet"
        if standing.is_busy:
            return waits("unknown", f"{name}: {what}, so that one task runs at a time, and one is under way.")
        if wanted is not None and wanted > window.known_limit:
            return waits("limit", _too_large(window, wanted))
        if used is None or used < ceiling(standing, urgency, now, policy):
            return None
        wanted = 0.0
    free = ceiling(standing, urgency, now, policy) - used - standing.held
    tight = _most(standing, urgency, now) - used - _amount(standing.reserved_high, standing.held)
    margin = _margin(window, cost, wanted)
    short = max(wanted - free, wanted + margin - tight)
    if short <= 1e-9 * window.known_limit and (wanted > 0 or free > 0):
        return None
    at = _opens(standing, wanted, margin, urgency, now, policy)
    if wanted > _most(standing, urgency, now):
        return waits("limit", _too_large(window, wanted), at)
    spent = f"{_shown(used, window.unit)} used"
    if standing.held:
        spent += f" and {_shown(standing.held, window.unit)} reserved for what is under way"
    this = f"this needs about {_shown(wanted, window.unit)}"
    if wanted > tight or used >= window.known_limit:
        return waits(
            "limit", f"{name} has too little left: {spent} of {_shown(window.known_limit, window.unit)}; {this}.", at
        )
    allowed = _shown(max(0.0, ceiling(standing, urgency, now, policy)), window.unit)
    return waits("pace", f"{name} is used evenly: {spent}, by now {allowed} are allowed; {this}.", at, max(short, 0.0))


def _opens(
    standing: Standing, wanted: float, margin: float, urgency: Urgency, now: float, policy: Policy
) -> float | None:
    return standing.line.resets_at


def _most(standing: Standing, urgency: Urgency, now: float) -> float:
    """What nothing passes."""
    window = standing.window
    if urgency != "critical" or window.is_quota:
        return window.known_limit
    authorized = (one for one in standing.authorizations if one.left(now) > 0)
    return window.known_limit + sum(worth(one, window, one.amount) for one in authorized)


def _margin(window: Window, cost: Cost, wanted: float) -> float:
    """What a task must leave under the limit beyond its projection.

    At most half of what it would leave of an unused window, so that one that is nearly as large as the window still
    runs some day.
    """
    if not window.hard:
        return 0.0
    high = _in_unit(window, cost.high_tokens, cost.high_usd) if cost.high_tokens is not None else None
    more = wanted * (HIGH_OF_PROJECTED - 1) if high is None else high - wanted
    return max(0.0, min(more, MARGIN * window.known_limit, (window.known_limit - wanted) / 2))


def _borrowed(window: Window, line: Line, now: float, policy: Policy) -> float:
    """By how many seconds high urgency reads the line ahead: of the next day, or of what is left of the window."""
    if line.resets_at is None:
        return 0.0
    day = window.length / 5 if window.length is not None and window.is_short else DAY_S
    return policy.borrow * max(0.0, min(day, line.resets_at - now))


def _in_unit(window: Window, tokens: float | None, usd: float | None) -> float | None:
    if window.unit == "usd":
        return None if usd is None else _amount(usd, math.inf)
    counted = _amount(tokens, math.inf)
    if window.unit == "tokens":
        return counted
    per_token = window.per_token
    if per_token is None or not math.isfinite(per_token) or per_token <= 0:
        return None
    return counted * per_token


def _amount(value: float | None, otherwise: float = 0.0) -> float:
    """A number of at least 0; what is none is taken for `otherwise`."""
    return otherwise if value is None or not math.isfinite(value) else max(0.0, value)


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
