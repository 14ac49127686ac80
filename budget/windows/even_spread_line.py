"""The even-spread line of a window: how much of it may be used by a time. Pure; times are seconds since the epoch.

A window is one limit over one period: a provider's quota of seven days, or the budget of a month. Its line is straight,
from the usage when it is drawn to the limit at the reset. It is redrawn at each midnight of the operator's zone (in
windows under two days: after each fifth of the window), so that the unused amount is spread over the rest. It is also
redrawn when the limit, the reset or an authorization changes, or when an observation contradicts it.

Numbers come from providers and from files. An invalid number never allows anything: an invalid limit allows no usage,
and an invalid usage is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from budget.amounts import Unit
from budget.scope_names import shown_scope
from budget.windows.calendar_days import midnight

Certainty: TypeAlias = Literal["provider", "user", "estimated", "unknown"]
Cause: TypeAlias = Literal["first", "midnight", "fifth", "limit", "authorization", "observation", "reset"]

DAY_S = 86_400.0
#: The length in seconds below which a window's line is redrawn after each fifth instead of at midnight.
SHORT_S = 2 * DAY_S
#: The seconds by which equal reset times may differ: providers round, and their clocks differ.
JITTER_S = 120.0
#: The maximum fall of the usage that counts as rounding, as a share of the limit.
ROUNDING = 0.015
#: The share of the burst for each source of the reset time.
_BURST = {"provider": 1.0, "user": 1.0, "estimated": 0.5, "unknown": 0.0}
#: The delay of a reset beyond its estimate, as a share of the time until then.
_LATER = 0.05
#: The last valid time: the end of the year 9998.
_LAST = 253_370_764_800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LastSeen:
    """The last observation of a window whose usage is no longer known."""

    at: float
    used: float | None
    """The usage; None if the observation is from the window before, and this one has none."""
    tokens_since: float
    """The weighted tokens of all requests through the egress since then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One limit over one period, in its current state."""

    key: str
    """A unique and stable key (budget.windows.window_key)."""
    scope: str
    """The scope that is counted, in the form of budget.limits.scopes: ``account:main``, ``role:coder``,
    ``agent:coder0``, ``host``, ..."""
    unit: Unit
    """Weighted tokens, US dollars, or a share of an account's window."""
    limit: float
    """The limit in `unit`; for shares, 1.0 is the whole window."""
    begins_at: float | None = None
    resets_at: float | None = None
    """The time of the reset; None if it is unknown or there is none."""
    length_s: float | None = None
    certainty: Certainty = "unknown"
    """The source of the reset time."""
    used: float | None = None
    """The usage in `unit`; None if there is no recent observation."""
    used_at: float | None = None
    """The time of that observation."""
    at_least: float | None = None
    """The certain minimum of an unknown usage: the last observation plus the requests since. Work that would not fit
    even then does not begin."""
    last_seen: LastSeen | None = None
    """The last observation, to show to people if the usage is unknown."""
    contradicted_at: float | None = None
    """The time of the last observation that contradicts the counted usage."""
    per_token: float | None = None
    """The learned share of the window that one weighted token takes, for windows in shares; None if unknown."""
    turn: float | None = None
    """The cost of one typical turn in `unit`, which is the smallest burst; None if unknown."""
    hard: bool = True
    """Whether the provider or the egress cuts off work beyond the limit, so that tasks need a margin for a higher cost
    than projected. Otherwise the limit only paces."""

    @property
    def is_quota(self) -> bool:
        """Whether it is a provider's own window, whose limit no authorization can raise."""
        return self.unit == "share" and self.scope.startswith("account:")

    @property
    def known_use(self) -> float | None:
        """The usage, at least 0; None if unknown."""
        return max(0.0, self.used) if self.used is not None and math.isfinite(self.used) else None

    @property
    def least_use(self) -> float:
        """The usage, or the certain minimum of an unknown one."""
        known = self.known_use
        if known is not None:
            return known
        return max(0.0, self.at_least) if self.at_least is not None and math.isfinite(self.at_least) else 0.0

    @property
    def surely(self) -> float | None:
        """The certain minimum of an unknown usage, to show to people; None if that is unknown too."""
        if self.known_use is not None or self.at_least is None:
            return None
        # After an unobserved reset, the requests since the last observation may belong to the window before.
        return None if self.last_seen is None or self.last_seen.used is None else self.least_use

    @property
    def reckoned(self) -> float | None:
        """The usage for dispatch: the known usage or its certain minimum. None if this window was never observed."""
        return self.surely if self.known_use is None else self.known_use

    @property
    def known_limit(self) -> float:
        """The limit; 0 if it is not a valid amount."""
        return self.limit if math.isfinite(self.limit) and self.limit > 0 else 0.0

    @property
    def is_used_up(self) -> bool:
        """Whether the known usage leaves nothing of the limit."""
        used = self.known_use
        return used is not None and used >= self.known_limit

    @property
    def length(self) -> float | None:
        """The length in seconds; None if it is unknown or has no end."""
        if self.length_s is not None and math.isfinite(self.length_s) and self.length_s >= 1:
            return self.length_s
        if self.begins_at is None or self.resets_at is None:
            return None
        length = self.resets_at - self.begins_at
        return length if math.isfinite(length) and length >= 1 else None

    def knows_reset(self, now: float) -> bool:
        """Return whether the reset time is known and in the future."""
        at = self.resets_at
        return at is not None and math.isfinite(at) and now < at <= _LAST and self.certainty != "unknown"

    @property
    def is_short(self) -> bool:
        """Whether its line is redrawn after each fifth instead of at midnight."""
        return self.length is not None and self.length < SHORT_S


@dataclass(frozen=True, kw_only=True, slots=True)
class PacePolicy:
    """The settings of the pace."""

    burst: float = 0.03
    """The amount that may be used beyond the line, as a share of the window at its start. It shrinks to zero."""
    borrow: float = 0.5
    """The share of the next day (in short windows: of the next fifth) that high urgency may borrow."""
    overrun: float | None = 1.0
    """The share of the next day (or fifth) by which running work may be ahead of its line before the egress holds it;
    never less than `borrow`. None allows it up to the limit (budget.windows.overrun_allowance)."""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    """The time zone of midnights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvenSpreadLine:
    """A straight line from the usage to the limit at the reset."""

    window: str
    """The key of the window."""
    drawn_at: float
    drawn_used: float
    limit: float
    resets_at: float | None
    """The assumed reset: later than an estimated one, and a whole length away from an unknown one. None if there is no
    end up to which to spread, so that the whole limit may be used at any time."""
    cause: Cause
    level: float | None = None
    """The start of the line, if it is not at the usage. A line that is redrawn out of turn starts at the level of the
    one before, so that its unused grant is not lost."""
    ahead: float = 0.0
    """How far the usage exceeded the earlier lines since the last midnight (or fifth). It counts against the burst and
    the borrowed amount, so that a line that is redrawn out of turn renews neither."""
    known: bool = True
    """Whether the usage was known when the line was drawn."""


def name_of(window: Window) -> str:
    """Return the name of a window for use in a sentence."""
    rest = window.key.removeprefix(window.scope).strip("/").replace("/", " ")
    return f"The window {rest} of {shown_scope(window.scope)}" if rest else f"The window of {shown_scope(window.scope)}"


def line_at(line: EvenSpreadLine, t: float) -> float:
    """Return the even-pace usage at `t`, in the window's unit; the usage itself if the line began beyond its limit."""
    start = line.drawn_used if line.level is None else line.level
    if line.resets_at is None or start >= line.limit:
        return max(line.limit, start)
    span = line.resets_at - line.drawn_at
    part = min(1.0, max(0.0, (t - line.drawn_at) / span)) if span > 0 else 1.0
    return start + (line.limit - start) * part


def burst_at(window: Window, policy: PacePolicy, t: float) -> float:
    """Return the burst beyond the line at `t`. It shrinks with the remaining time, and if the reset is uncertain."""
    length = window.length
    if length is None or window.resets_at is None:
        return 0.0
    remaining = min(1.0, max(0.0, (window.resets_at - t) / length))
    return policy.burst * window.known_limit * remaining * _BURST[window.certainty]


def least_burst(window: Window) -> float:
    """Return the smallest burst in the window's unit: one typical turn, but at most the whole limit."""
    turn = window.turn
    return min(turn, window.known_limit) if turn is not None and math.isfinite(turn) and turn > 0 else 0.0


def burst_on(line: EvenSpreadLine, window: Window, policy: PacePolicy, t: float) -> float:
    """Return the burst at `t`: at least one typical turn, if half of the line's rest up to the limit covers it.

    So a small budget, or one that is set late in its window, admits its first turn at once, and the rest still lasts.
    """
    if line.resets_at is None:
        return 0.0
    left = max(0.0, line.limit - line_at(line, t))
    return max(burst_at(window, policy, t), min(least_burst(window), left / 2))


def redrawn(
    window: Window, line: EvenSpreadLine | None, now: float, policy: PacePolicy, *, cause: Cause | None = None
) -> EvenSpreadLine | None:
    """Return the new line, or None if the current one remains valid.

    Args:
        window: the current state of the window.
        line: the current line, or None if there is none yet.
        now: seconds since the epoch.
        policy: the pace policy, which has the time zone.
        cause: a cause that the window and the line do not show: an authorization was granted or used up, or an
            observation contradicts the counted usage.
    """
    found = _cause(window, line, now, policy) or cause
    if found is None:
        return None
    used = window.known_use
    start, ahead = window.least_use, 0.0
    if line is not None and line.known and found in ("limit", "authorization", "observation"):
        scale = window.known_limit / line.limit if line.limit > 0 else 0.0
        before = line_at(line, now) * min(1.0, scale)
        # If the usage fell since the line was drawn, the line began too high, and only its rise counts.
        before -= max(0.0, line.drawn_used - window.least_use)
        ahead = line.ahead + max(0.0, start - before)
        start = max(start, min(before, window.known_limit))
    return EvenSpreadLine(
        window=window.key,
        drawn_at=now,
        drawn_used=window.least_use,
        level=start,
        limit=window.known_limit,
        resets_at=_reset(window, now),
        cause=found,
        ahead=ahead,
        known=used is not None,
    )


def next_turn(window: Window, line: EvenSpreadLine, t: float, policy: PacePolicy) -> float | None:
    """Return the next time after `t` at which the clock redraws the line, or None if it never does."""
    if line.resets_at is None:
        return None
    length = window.length
    if length is not None and length < SHORT_S:
        fifth = length / 5
        turn = line.resets_at - fifth * math.floor((line.resets_at - t) / fifth)
        # On the boundary itself, or after a rounding error, use the next one.
        return turn if turn > t else turn + fifth
    return _midnight_after(t, policy.zone)


def turn_before(window: Window, line: EvenSpreadLine, t: float, policy: PacePolicy) -> float | None:
    """Return the last time at or before `t` at which the clock redraws the line, or None if it never does."""
    if line.resets_at is None:
        return None
    if window.length is not None and window.is_short:
        fifth = window.length / 5
        return line.resets_at - fifth * math.ceil((line.resets_at - t) / fifth)
    return midnight(t, policy.zone) if 0 <= t < _LAST else None


def _cause(window: Window, line: EvenSpreadLine | None, now: float, policy: PacePolicy) -> Cause | None:
    """Return why the current line is no longer valid, or None if it is."""
    if line is None or line.window != window.key:
        return "first"
    length = window.length or 0.0
    # Assume the reset as of the time when the line was drawn.
    reset = _reset(window, min(now, line.drawn_at))
    if line.resets_at is not None and now >= line.resets_at:
        return "reset"
    if window.knows_reset(now) and reset is not None:
        if line.resets_at is None or abs(reset - line.resets_at) > JITTER_S:
            later = line.resets_at is not None and reset - line.resets_at > length / 2 > 0
            return "reset" if later and line.known else "observation"
    elif (reset is None) != (line.resets_at is None):
        return "observation"
    if abs(window.known_limit - line.limit) > 1e-9 * max(window.known_limit, line.limit):
        return "limit"
    used = window.known_use
    if used is not None and (not line.known or used < line.drawn_used - ROUNDING * line.limit):
        return "observation"
    contradicted = window.contradicted_at
    if contradicted is not None and line.drawn_at < contradicted <= now:
        return "observation"
    if now < line.drawn_at - JITTER_S:
        # The clock went back, and the line would not rise until the clock catches up.
        return "observation"
    turn = next_turn(window, line, line.drawn_at, policy)
    if turn is not None and turn <= now:
        return "fifth" if window.is_short else "midnight"
    return None


def _reset(window: Window, now: float) -> float | None:
    """Return the assumed reset of the window."""
    length = window.length
    known = window.resets_at
    if known is not None and window.knows_reset(now):
        return known + (_LATER * (known - now) if window.certainty == "estimated" else 0.0)
    return None if length is None else now + length


def _midnight_after(t: float, zone: ZoneInfo) -> float | None:
    if not 0 <= t < _LAST:
        return None
    next_day = midnight(t, zone, days=1)
    return next_day if next_day > t else None
