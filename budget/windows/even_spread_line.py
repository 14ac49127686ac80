"""The even-spread line of a window: how much of it may be used by when. Pure; times are seconds since the epoch.

A window is one limit over one stretch of time: what a provider grants in seven days, or a budget of a month. Its line
is straight, from what is used when it is drawn to the limit at the reset. It is redrawn each midnight of the
operator's zone (for windows under two days: each fifth of the window), so that what was not used is spread over the
rest; and whenever something changes: the limit, the reset, an authorization, an observation that contradicts it.

Numbers come from providers and from files. One that is no number, or makes no sense, is never taken for room: a limit
that is none allows nothing, a use that is none is unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from datetime import date

Unit: TypeAlias = Literal["tokens", "usd", "share"]
Certainty: TypeAlias = Literal["provider", "user", "estimated", "unknown"]
Cause: TypeAlias = Literal["first", "midnight", "fifth", "limit", "authorization", "observation", "reset"]

DAY_S = 86_400.0
#: Windows shorter than this have their line redrawn each fifth, not each midnight.
SHORT_S = 2 * DAY_S
#: Times of a reset that differ by no more than this are the same: providers round, and their clocks differ.
JITTER_S = 120.0
#: A use that falls by no more than this share of the limit is rounding.
ROUNDING = 0.015
#: Of the burst, by how well the window is known.
_BURST = {"provider": 1.0, "user": 1.0, "estimated": 0.5, "unknown": 0.0}
#: So much later than estimated a reset is taken to be, as a share of the time until then.
_LATER = 0.05
#: The last moment that calendars here go to: the end of the year 9998.
_LAST = 253_370_764_800.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LastSeen:
    """What was observed last of a window whose use is not known any more."""

    at: float
    used: float | None
    """None: that was of the window before, and of this one nothing was observed."""
    tokens_since: float
    """Weighted, that went through here since."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """One limit over one stretch of time, as it is known now."""

    key: str
    """Unique and stable: ``account:main/7d`` (a provider's quota), ``host/tokens/day``, ``agent:coder0/usd/month``,
    ``role:coder/share/account:main/7d``."""
    scope: str
    """What is counted, as budget.limits.scopes writes it: ``account:main``, ``role:coder``, ``agent:coder0``, ``host``,
    ..."""
    unit: Unit
    """Weighted tokens, US dollars, or a share of an account's window."""
    limit: float
    """In `unit`; of shares 1.0 is the whole window."""
    begins_at: float | None = None
    resets_at: float | None = None
    """None: not known, or there is none."""
    length_s: float | None = None
    certainty: Certainty = "unknown"
    """How the time of the reset is known."""
    used: float | None = None
    """In `unit`. None: not known, as nothing was observed, or too long ago."""
    used_at: float | None = None
    """When that was observed."""
    at_least: float | None = None
    """Where the use is not known: what it surely has come to, as what was observed last and what went through here
    since. Work that would not fit even then does not begin."""
    last_seen: LastSeen | None = None
    """Where the use is not known: what is known all the same, for people."""
    contradicted_at: float | None = None
    """When it was observed last that something else was used than was counted."""
    per_token: float | None = None
    """Of a window in shares: what one weighted token is of it, as learned. None: not known yet."""
    turn: float | None = None
    """What one typical turn comes to, in `unit`: no burst is smaller. None: not known."""
    hard: bool = True
    """Work that passes the limit is cut off, by the provider or by the egress, so that a margin is kept for tasks that
    cost more than projected. False: the limit only paces."""

    @property
    def is_quota(self) -> bool:
        """Whether it is a provider's own, so that no one here can allow more than all of it."""
        return self.unit == "share" and self.scope.startswith("account:")

    @property
    def known_use(self) -> float | None:
        """What is used, at least 0; None: not known."""
        return max(0.0, self.used) if self.used is not None and math.isfinite(self.used) else None

    @property
    def least_use(self) -> float:
        """What is used, or where that is not known, at least."""
        known = self.known_use
        if known is not None:
            return known
        return max(0.0, self.at_least) if self.at_least is not None and math.isfinite(self.at_least) else 0.0

    @property
    def surely(self) -> float | None:
        """What people are told where the use is not known: that it is at least this. None: that is not known either."""
        if self.known_use is not None or self.at_least is None:
            return None
        # Of a window that started again unseen, what went through since it was seen may belong to the one before.
        return None if self.last_seen is None or self.last_seen.used is None else self.least_use

    @property
    def reckoned(self) -> float | None:
        """What dispatch goes by: what is used, or what it surely has come to since it was observed. None: nothing of
        this window was observed."""
        return self.surely if self.known_use is None else self.known_use

    @property
    def known_limit(self) -> float:
        """The limit; 0 where it is no amount."""
        return self.limit if math.isfinite(self.limit) and self.limit > 0 else 0.0

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left of it, as far as is known."""
        used = self.known_use
        return used is not None and used >= self.known_limit

    @property
    def length(self) -> float | None:
        """Seconds; None: not known, or without an end."""
        if self.length_s is not None and math.isfinite(self.length_s) and self.length_s >= 1:
            return self.length_s
        if self.begins_at is None or self.resets_at is None:
            return None
        length = self.resets_at - self.begins_at
        return length if math.isfinite(length) and length >= 1 else None

    def knows_reset(self, now: float) -> bool:
        """Return whether it is known when it resets, and that is yet to come."""
        at = self.resets_at
        return at is not None and math.isfinite(at) and now < at <= _LAST and self.certainty != "unknown"

    @property
    def is_short(self) -> bool:
        """Whether its line is redrawn each fifth, not each midnight."""
        return self.length is not None and self.length < SHORT_S


@dataclass(frozen=True, kw_only=True, slots=True)
class PacePolicy:
    """How strictly the pace is kept."""

    burst: float = 0.03
    """What may be used beyond the line, as a share of the window at its beginning; it shrinks to nothing."""
    borrow: float = 0.5
    """What high urgency may take of the next day, as a share of it; of short windows, of the next fifth."""
    overrun: float | None = 1.0
    """How much of the next day (or fifth) work under way may be ahead of its line, before the egress holds it; never
    less than what may be borrowed. None: as far as the limit (budget.windows.overrun_allowance)."""
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    """In which midnights count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvenSpreadLine:
    """Straight from what was used to the limit at the reset."""

    window: str
    """The key."""
    drawn_at: float
    drawn_used: float
    limit: float
    resets_at: float | None
    """As it was taken to be: later than a reset that is only estimated, a whole length away where none is known. None:
    there is no end to spread up to, so that all of the limit may be used at any time."""
    cause: Cause
    level: float | None = None
    """Where it starts, if not at what was used: drawn out of turn, it starts where the one before it had come to, so
    that what it gave and was not used yet is not lost."""
    ahead: float = 0.0
    """How far the use was beyond the lines before this one since the last midnight (or fifth): it counts against the
    burst and against what is borrowed, so that drawing a line out of turn gives neither of them anew."""
    known: bool = True
    """Whether the use was known when it was drawn."""


def name_of(window: Window) -> str:
    """Return what a sentence calls a window."""
    rest = window.key.removeprefix(window.scope).strip("/").replace("/", " ")
    return f"The window {rest} of {window.scope}" if rest else f"The window of {window.scope}"


def line_at(line: EvenSpreadLine, t: float) -> float:
    """Return what may be used by `t` at an even pace, in the window's unit. Of what began beyond its limit: what was
    used."""
    start = line.drawn_used if line.level is None else line.level
    if line.resets_at is None or start >= line.limit:
        return max(line.limit, start)
    span = line.resets_at - line.drawn_at
    part = min(1.0, max(0.0, (t - line.drawn_at) / span)) if span > 0 else 1.0
    return start + (line.limit - start) * part


def burst_at(window: Window, policy: PacePolicy, t: float) -> float:
    """Return what may be used beyond the line at `t`: less the less time remains, and the less certain the
    window is."""
    length = window.length
    if length is None or window.resets_at is None:
        return 0.0
    remaining = min(1.0, max(0.0, (window.resets_at - t) / length))
    return policy.burst * window.known_limit * remaining * _BURST[window.certainty]


def least_burst(window: Window) -> float:
    """Return the smallest burst: one typical turn, and never more than the whole limit. In the window's unit."""
    turn = window.turn
    return min(turn, window.known_limit) if turn is not None and math.isfinite(turn) and turn > 0 else 0.0


def burst_on(line: EvenSpreadLine, window: Window, policy: PacePolicy, t: float) -> float:
    """Return the burst at `t`: one typical turn at least, as far as half of what the line still leaves to the limit
    covers it.

    So a small budget, or one that is set late in its window, admits its first turn at once; and what is left lasts.
    """
    if line.resets_at is None:
        return 0.0
    left = max(0.0, line.limit - line_at(line, t))
    return max(burst_at(window, policy, t), min(least_burst(window), left / 2))


def redrawn(
    window: Window, line: EvenSpreadLine | None, now: float, policy: PacePolicy, *, cause: Cause | None = None
) -> EvenSpreadLine | None:
    """Return the line that is to stand from now on; None: the one that stands holds.

    Args:
        window: as it is known now.
        line: that stands; None: there is none yet.
        now: seconds since the epoch.
        policy: whose midnights.
        cause: something happened that the window and the line do not show: an authorization was given or used up, or
            an observation contradicts what was counted.
    """
    found = _cause(window, line, now, policy) or cause
    if found is None:
        return None
    used = window.known_use
    start, ahead = window.least_use, 0.0
    if line is not None and line.known and found in ("limit", "authorization", "observation"):
        scale = window.known_limit / line.limit if line.limit > 0 else 0.0
        before = line_at(line, now) * min(1.0, scale)
        # Where less is used than when it was drawn, it began too high: of it only counts by how much it rose.
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
    """Return when after `t` the line is redrawn by the clock; None: never."""
    if line.resets_at is None:
        return None
    length = window.length
    if length is not None and length < SHORT_S:
        fifth = length / 5
        turn = line.resets_at - fifth * math.floor((line.resets_at - t) / fifth)
        # On the boundary itself, or where the sum is not exact, it is the next one.
        return turn if turn > t else turn + fifth
    return _midnight_after(t, policy.zone)


def turn_before(window: Window, line: EvenSpreadLine, t: float, policy: PacePolicy) -> float | None:
    """Return the last time, at or before `t`, at which the clock draws the line again, or None if it never does."""
    if line.resets_at is None:
        return None
    if window.length is not None and window.is_short:
        fifth = window.length / 5
        return line.resets_at - fifth * math.ceil((line.resets_at - t) / fifth)
    return _midnight(datetime.fromtimestamp(t, policy.zone).date(), policy.zone) if 0 <= t < _LAST else None


def _cause(window: Window, line: EvenSpreadLine | None, now: float, policy: PacePolicy) -> Cause | None:
    """Return why the line that stands does not hold any more; None: it does."""
    if line is None or line.window != window.key:
        return "first"
    length = window.length or 0.0
    # As it would have been taken when the line was drawn.
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
        # The clock went back: the line would stand still until it is where it was.
        return "observation"
    turn = next_turn(window, line, line.drawn_at, policy)
    if turn is not None and turn <= now:
        return "fifth" if window.is_short else "midnight"
    return None


def _reset(window: Window, now: float) -> float | None:
    """Return when the window is taken to reset."""
    length = window.length
    known = window.resets_at
    if known is not None and window.knows_reset(now):
        return known + (_LATER * (known - now) if window.certainty == "estimated" else 0.0)
    return None if length is None else now + length


def _midnight_after(t: float, zone: ZoneInfo) -> float | None:
    if not 0 <= t < _LAST:
        return None
    midnight = _midnight(datetime.fromtimestamp(t, zone).date() + timedelta(days=1), zone)
    return midnight if midnight > t else None


def _midnight(day: date, zone: ZoneInfo) -> float:
    """Return when a day begins; where clocks leave out midnight, when they do so."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC).timestamp()
