"""What is known of a provider's window, from what was observed of it. Pure; times are seconds since the epoch.

Providers tell how much of a window is used, and when it resets, in the headers of their responses
(egress.upstream.rate_limit_headers):
rounded to whole percents by some, minutes late, from several machines that disagree, or not at all. So an observation
is evidence, and never more than that:

- What was seen too long ago, or not at all, is unknown: neither empty nor full.
- Between observations the use is what was observed and what went through here since.
- When its reset has passed and nothing newer was seen, a new window runs of which nothing is known but when it would
  end, if it is as long as the one before.
- Within a window the use only grows. When it falls, that is a reset before its time, or an observation that is late.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from budget.windows.even_spread_line import JITTER_S, LastSeen, Window
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from budget.windows.even_spread_line import Certainty

__all__ = ["Event", "EventKind", "QuotaSample", "WindowReading", "capacity", "late_by", "read", "stale_after"]

#: What was seen within this time holds, even where what was spent since cannot be told as a share.
FRESH_S = 15 * 60.0
#: An observation is stale when it is older than this share of the window's length,
STALE_AFTER = 0.1
#: but not before `FRESH_S`, and not after this.
STALE_AT_MOST_S = 12 * 3_600.0
#: More than this share of a window beyond what went through here is someone else's spending.
_ELSEWHERE = 0.03
#: A step of the use from which a rate is learned: small against it are rounding to whole percents, and lateness.
_STEP = 0.05
#: Of so many observations at least the one counts that comes to the most: some are late.
_COMPARED = 4
#: So much of a window may have been used while it was watched, and not be told yet.
_UNSEEN = 0.1
#: So many observations tell how a window stands now.
_READ = 100
#: So many steps are remembered.
_STEPS = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowReading:
    """What is known of a window now."""

    used: float | None
    """A share; None: unknown."""
    used_at: float | None
    """When the observation was made on which `used` rests."""
    begins_at: float | None
    resets_at: float | None
    length_s: float | None
    certainty: Certainty
    """How the reset is known."""
    at_least: float | None = None
    """Where `used` is unknown: what it surely has come to; None: not known either."""
    last_seen: LastSeen | None = None
    """Where `used` is unknown: what was observed last; None: nothing was."""
    events: tuple[Event, ...] = ()

    def window(
        self,
        *,
        key: str,
        scope: str,
        per_token: float | None,
        limit: float = 1.0,
    ) -> Window:
        """For the pacing law."""
        return Window(
            key=key,
            scope=scope,
            unit="share",
            limit=limit,
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
    """Return what the observations of one window of one account come to.

    Args:
        history: of that window, in any order.
        spent_since: weighted tokens of the account that went through here since `counts_from`.
        now: seconds since the epoch.
        per_token: what one weighted token is of the window, as a share; None: not known.
        reset_by_user: when it resets, as a person said.
        length_s: of the window, where no observation says it.
    """
    # Times before 1970 are none that a clock here told.
    past = ordered((row for row in history if 0 <= row.seen_at <= now + JITTER_S), _READ)
    # However many were made in what is the future now, they do not take the place of the others.
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
    """Return since when what goes through here counts beside the observations, or None if nothing was observed.

    That is since the last observation. Once the window is over that it was made of, it is since the new one began.
    The arguments are those of `read`.
    """
    past = ordered((row for row in history if 0 <= row.seen_at <= now), _READ)
    parts, _ = segments(past)
    if not parts:
        return None
    length = _last(row.length_s for row in parts[-1]) or length_of(length_s)
    reset, _, is_over = _reset(parts[-1], len(parts) > 1, length, reset_by_user, now)
    # What is left out, and what says nothing of the use, is not what the rest is counted from.
    last = next((row.seen_at for row in reversed(parts[-1]) if row.used is not None), parts[-1][-1].seen_at)
    if is_over is None:
        return last
    begins = is_over if reset is None or length is None else max(is_over, reset - length)
    return max(last, min(begins, now))


def capacity(history: Sequence[QuotaSample]) -> float | None:
    """Return what one weighted token is of the window, as a share; None: too little was seen to tell.

    The weighted median over the latest steps of the use, each large against rounding and lateness, within windows of
    the present length. What others spend on the account counts as ours: that errs towards the careful side.
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
                # Counted by another: nothing joins the two.
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
    """Return what a token is at most, as a share: by all that the use rose while it was watched, and by what went
    through.

    Observations that are late make steps of the use in which hardly any tokens went through.
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
    """Return when it resets, how that is known, and if all that was observed is of a window that is over: when it
    ended."""
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
        # No one says when it ends, but it was seen to begin.
        base = rows[0].seen_at + length
        ended = base if base <= now else None
        if ended is None:
            return base, "estimated", None
    if base is None or length is None:
        return None, "unknown", ended
    return base + length * (math.floor((now - base) / length) + 1), "estimated", ended


def _counted(rows: Sequence[QuotaSample], spent: float, rate: float, length: float | None) -> float | None:
    """Return what the observations come to with what went through here since; None: nothing was observed."""
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
        # What is used up stays so until the reset, however long ago that was seen.
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
    """Return how long an observation of a window of that length holds, seconds."""
    return FRESH_S if length is None else max(FRESH_S, min(STALE_AT_MOST_S, STALE_AFTER * length))


def _elsewhere(told: Sequence[QuotaSample], rate: float | None) -> list[Event]:
    """Return whether the last step of the use is more than what went through here."""
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
