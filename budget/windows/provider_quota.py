"""The state of a provider's window, derived from observations. Pure; times are seconds since the epoch.

Providers report the usage and the reset of a window in the headers of their responses
(egress.upstream.rate_limit_headers). Reports may be rounded to whole percents, minutes late, contradictory between
machines, or missing. So an observation is only evidence:

- A window without a recent observation is unknown: neither empty nor full.
- Between observations, the usage is the observed one plus the requests through the egress since.
- If the reset has passed and no newer observation exists, a new window runs. Only its end is known, if it is as long as
  the window before.
- The usage within a window only grows. If it falls, the window was reset early, or an observation is late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from budget.windows.even_spread_line import JITTER_S, Certainty, LastSeen, Window
from budget.windows.quota_samples import (
    MOST_USED,
    Event,
    EventKind,
    QuotaSample,
    hours,
    is_time,
    late_by,
    length_of,
    ordered,
    percent,
    segments,
    skewed,
)

__all__ = ["Event", "EventKind", "QuotaSample", "WindowReading", "capacity", "late_by", "read", "stale_after"]

#: Seconds for which an observation is valid even if the spending since then has no known share.
FRESH_S = 15 * 60.0
#: The age at which an observation is stale, as a share of the window's length; at least `FRESH_S`.
STALE_AFTER = 0.1
#: The maximum age of a valid observation in seconds.
STALE_AT_MOST_S = 12 * 3_600.0
#: The share of a window beyond the counted usage from which on somebody else must be spending.
_ELSEWHERE = 0.03
#: The minimum step of the usage from which a rate is learned, large compared to rounding and lateness.
_STEP = 0.05
#: The minimum number of observations among which the highest usage counts, since some are late.
_COMPARED = 4
#: The share of a window that may have been used during observation without a report yet.
_UNSEEN = 0.1
#: The number of observations from which the current state is derived.
_READ = 100
#: The number of steps to use.
_STEPS = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowReading:
    """The derived state of a window."""

    used: float | None
    """The used share; None if unknown."""
    used_at: float | None
    """The time of the observation behind `used`."""
    begins_at: float | None
    resets_at: float | None
    length_s: float | None
    certainty: Certainty
    """The source of the reset time."""
    at_least: float | None = None
    """The certain minimum of an unknown usage; None if that is unknown too."""
    last_seen: LastSeen | None = None
    """The last observation, if the usage is unknown; None if there was none."""
    events: tuple[Event, ...] = ()

    def window(
        self,
        *,
        key: str,
        scope: str,
        per_token: float | None,
    ) -> Window:
        """Return the window for pacing."""
        return Window(
            key=key,
            scope=scope,
            unit="share",
            limit=1.0,
            begins_at=self.begins_at,
            resets_at=self.resets_at,
            length_s=self.length_s,
            certainty=self.certainty,
            used=self.used,
            used_at=self.used_at,
            at_least=self.at_least,
            last_seen=self.last_seen,
            contradicted_at=max((event.at for event in self.events if event.kind == "contradiction"), default=None),
            per_token=per_token,
        )


def read(
    history: Sequence[QuotaSample],
    spent_since: float,
    now: float,
    per_token: float | None,
    reset_by_user: float | None = None,
    *,
    length_s: float | None = None,
) -> WindowReading:
    """Derive the state of one window of one account from its observations.

    Args:
        history: the observations of that window, in any order.
        spent_since: the account's weighted tokens through the egress since `counts_from`.
        now: seconds since the epoch.
        per_token: the share of the window that one weighted token takes; None if unknown.
        reset_by_user: the reset time that a person set.
        length_s: the length of the window, if no observation has it.
    """
    # Times before 1970 are invalid.
    past = ordered((row for row in history if 0 <= row.seen_at <= now + JITTER_S), _READ)
    # Select the observations from the future separately, so that they do not displace the others.
    events = [skewed(row) for row in ordered((row for row in history if row.seen_at > now + JITTER_S), _READ)]
    parts, found = segments(past)
    events += found
    current = parts[-1] if parts else []
    length = _last(row.length_s for row in current) or length_of(length_s)
    reset, certainty, is_over = _reset(current, len(parts) > 1, length, reset_by_user, now)
    spent = spent_since if 0 <= spent_since < math.inf else None
    rate = per_token if per_token is not None and 0 <= per_token < math.inf else None
    used, used_at, at_least = None, None, None
    if is_over is not None:
        if spent is not None and rate is not None:
            at_least = min(spent * rate, MOST_USED)
        events.append(
            Event(
                kind="reset",
                at=is_over,
                text="Its time is over, and nothing was observed since: of the new window nothing is known yet.",
            )
        )
    else:
        counted = _counted(current, spent or 0.0, rate or 0.0, length)
        used, used_at, about = _used(current, counted, spent, rate, now, length)
        at_least = counted if used is None else None
        events += about
    return WindowReading(
        used=used,
        used_at=used_at,
        at_least=at_least,
        last_seen=None if used is not None else _last_seen(current, spent, is_over=is_over is not None),
        begins_at=None if reset is None or length is None else reset - length,
        resets_at=reset,
        length_s=length,
        certainty=certainty,
        events=tuple(sorted(events, key=lambda event: event.at)),
    )


def counts_from(
    history: Sequence[QuotaSample], now: float, reset_by_user: float | None = None, *, length_s: float | None = None
) -> float | None:
    """Return the time from which requests count in addition to the observations, or None without observations.

    This is the time of the last observation, or the start of a new window that began since. The arguments are those of
    `read`.
    """
    past = ordered((row for row in history if 0 <= row.seen_at <= now), _READ)
    parts, _ = segments(past)
    if not parts:
        return None
    length = _last(row.length_s for row in parts[-1]) or length_of(length_s)
    reset, _, is_over = _reset(parts[-1], len(parts) > 1, length, reset_by_user, now)
    # Count from the last observation that is not discarded and has a usage.
    last = next((row.seen_at for row in reversed(parts[-1]) if row.used is not None), parts[-1][-1].seen_at)
    if is_over is None:
        return last
    begins = is_over if reset is None or length is None else max(is_over, reset - length)
    return max(last, min(begins, now))


def capacity(history: Sequence[QuotaSample]) -> float | None:
    """Return the share of the window that one weighted token takes, or None if there are too few observations.

    This is the weighted median over the latest steps of the usage, within windows of the current length. Each step is
    large compared to rounding and lateness. Spending by others on the account counts as ours, which is the cautious
    error.
    """
    parts, events = segments(ordered(history))
    changed = max((event.at for event in events if event.kind == "plan_change"), default=-math.inf)
    steps: list[tuple[float, float]] = []
    rest: tuple[float, float] | None = None
    for segment in parts:
        told = [(row.used, row.tokens) for row in segment if row.used is not None and row.tokens is not None]
        if not told or segment[0].seen_at < changed:
            continue
        low_used, low_tokens = told[0]
        for used, tokens in told[1:]:
            if used > 1.0:
                break
            more, spent = used - low_used, tokens - low_tokens
            if spent < 0:
                # Another counter made the later observation, so the two are not comparable.
                low_used, low_tokens = used, tokens
            elif more >= _STEP and spent > 0:
                steps.append((more / spent, more))
                low_used, low_tokens = used, tokens
            elif more > 0 and spent > 0:
                rest = (more / spent, more)
    latest = steps[-_STEPS:] or ([rest] if rest is not None and rest[1] >= _STEP / 3 else [])
    found, most = _weighted_median(latest), _at_most(parts)
    return found if found is None or most is None else min(found, most)


def _at_most(parts: Sequence[Sequence[QuotaSample]]) -> float | None:
    """Return the maximum share of a token: the total rise of the usage during observation, divided by the tokens.

    Late observations cause steps of the usage with hardly any tokens, so a single step may show too much.
    """
    rose = spent = 0.0
    for segment in parts:
        told = [
            (row.seen_at, row.used, row.tokens) for row in segment if row.used is not None and row.tokens is not None
        ]
        near = 2 * late_by(segment[-1].length_s)
        for (seen_at, used, tokens), (next_at, more_used, more) in pairwise(told):
            if more >= tokens and next_at - seen_at <= near:
                rose += max(0.0, more_used - used)
                spent += more - tokens
    return (rose + _UNSEEN) / spent if spent > 0 else None


def _reset(
    rows: Sequence[QuotaSample], follows: bool, length: float | None, by_user: float | None, now: float
) -> tuple[float | None, Certainty, float | None]:
    """Return the reset time, its source, and the end of the observed window if that window is over."""
    known = _last(row.reset_at for row in rows)
    said = by_user if by_user is not None and is_time(by_user, now) else None
    if known is not None and now < known:
        return known, "provider", None
    ended = known
    if known is None and said is not None and rows and rows[-1].seen_at < said <= now:
        ended = said
    if said is not None and now < said:
        return said, "user", ended
    base = max((at for at in (known, said) if at is not None), default=None)
    if base is None and follows and length is not None and rows:
        # The end is unknown, but the start was observed.
        base = rows[0].seen_at + length
        ended = base if base <= now else None
        if ended is None:
            return base, "estimated", None
    if base is None or length is None:
        return None, "unknown", ended
    return base + length * (math.floor((now - base) / length) + 1), "estimated", ended


def _counted(rows: Sequence[QuotaSample], spent: float, rate: float, length: float | None) -> float | None:
    """Return the usage from the observations plus the requests since, or None without observations."""
    told = [row for row in rows if row.used is not None]
    if not told:
        return None
    last = told[-1]
    most = 0.0
    for place, row in enumerate(reversed(told)):
        since = last.seen_at - row.seen_at
        if row.used is None or since > stale_after(length) or (since > late_by(length) and place >= _COMPARED):
            break
        between = 0.0 if row.tokens is None or last.tokens is None else max(0.0, last.tokens - row.tokens)
        most = max(most, row.used + (between + spent) * rate)
    return min(most, MOST_USED)


def _used(
    rows: Sequence[QuotaSample],
    counted: float | None,
    spent: float | None,
    rate: float | None,
    now: float,
    length: float | None,
) -> tuple[float | None, float | None, list[Event]]:
    told = [row for row in rows if row.used is not None]
    if not told or counted is None:
        return None, None, []
    last = told[-1]
    if (last.used or 0.0) >= 1:
        # A used-up window remains so until the reset, even if the observation is old.
        return counted, last.seen_at, []
    age = now - last.seen_at
    good_for = stale_after(length)
    if age > good_for:
        text = f"Nothing was observed of it for {hours(good_for)}: what is used of it counts as unknown."
        return None, None, [Event(kind="stale", at=last.seen_at + good_for, text=text)]
    if spent is None or (spent and rate is None and age > FRESH_S):
        return None, None, []
    return counted, last.seen_at, _elsewhere(told, rate)


def stale_after(length: float | None) -> float:
    """Return the seconds for which an observation of a window of that length is valid."""
    return FRESH_S if length is None else max(FRESH_S, min(STALE_AT_MOST_S, STALE_AFTER * length))


def _elsewhere(told: Sequence[QuotaSample], rate: float | None) -> list[Event]:
    """Return an event if the last step of the usage exceeds the requests through the egress."""
    if len(told) < 2 or rate is None:
        return []
    before, last = told[-2:]
    if before.tokens is None or last.tokens is None or before.used is None or last.used is None:
        return []
    ours = max(0.0, last.tokens - before.tokens) * rate
    more = last.used - before.used - ours
    if more <= max(_ELSEWHERE, ours / 2):
        return []
    text = (
        f"{percent(more)} more of it is used than went through here since the observation before: somebody else "
        "spends on this account, or a token counts for more than it did."
    )
    return [Event(kind="contradiction", at=last.seen_at, text=text)]


def _last_seen(rows: Sequence[QuotaSample], spent: float | None, *, is_over: bool) -> LastSeen | None:
    told = [row for row in rows if row.used is not None]
    if not told or spent is None:
        return None
    return LastSeen(at=told[-1].seen_at, used=None if is_over else told[-1].used, tokens_since=spent)


def _last(values: Iterable[float | None]) -> float | None:
    found = None
    for value in values:
        if value is not None:
            found = value
    return found


def _weighted_median(values: Sequence[tuple[float, float]]) -> float | None:
    ordered = sorted(values)
    half = sum(weight for _, weight in ordered) / 2
    seen = 0.0
    for value, weight in ordered:
        seen += weight
        if seen >= half:
            return value
    return None
