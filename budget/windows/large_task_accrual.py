"""Savings for a large task, which needs more than its line grants in a day. Pure; times are seconds since the epoch.

Each midnight spreads the unused amount over the rest of a window. So a line never rises far enough for a large task
while other tasks use what it grants. The oldest large task of at most half a window therefore saves. A share of the
line's grant is kept for it at an even rate, so that it begins by three quarters of the remaining time. It takes at most
0.6 of the grant, or 0.9 after a reset postponed it. It saves nothing in a window in which it cannot reach its need.

The savings depend only on the window and on when they began. Only that time is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from budget.windows.even_spread_line import DAY_S, PacePolicy, Window, burst_on, line_at, turn_before
from budget.windows.window_state import WindowState

#: The maximum share of a line's grant that is kept.
SHARE = 0.6
#: The maximum share if a reset postponed the task.
SHARE_PUT_OFF = 0.9
#: The part of the remaining time within which the task begins, from the start of its savings.
BEGINS_BY = 0.75
#: The largest share of a window that a task may need and still save.
LARGEST = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """The savings in one window for one task."""

    task: str
    window: str
    wanted: float
    """The need of the task, in the window's unit."""
    since: float
    until: float
    """When the whole need is saved."""

    def saved(self, t: float) -> float:
        """Return the savings at `t`, in the window's unit."""
        part = (t - self.since) / (self.until - self.since)
        return self.wanted * min(1.0, max(0.0, part))


def turn_s(window: Window) -> float:
    """Return the lifetime of a line in seconds: a day, or a fifth of a short window."""
    return window.length / 5 if window.length is not None and window.is_short else DAY_S


def grant(standing: WindowState) -> float | None:
    """Return what the line grants until it is redrawn, or None if the whole limit may be used at any time."""
    line = standing.line
    if line.resets_at is None or line.resets_at <= line.drawn_at:
        return None
    start = line_at(line, line.drawn_at)
    return max(0.0, line.limit - start) * turn_s(standing.window) / (line.resets_at - line.drawn_at)


def is_large(standing: WindowState, wanted: float) -> bool:
    """Return whether a task needs more than its line grants in a day, or than a day's even share of the window.

    The even share does not change when savings raise the grant. So a task that saves continues to save.
    """
    found, window = grant(standing), standing.window
    if found is None:
        return False
    share = found if window.length is None else window.known_limit * turn_s(window) / window.length
    return wanted > min(found, share)


def is_too_large(standing: WindowState, wanted: float) -> bool:
    """Return whether a task is so large that nothing is saved for it."""
    return wanted > LARGEST * standing.window.known_limit and is_large(standing, wanted)


def plan(
    standing: WindowState,
    task: str,
    wanted: float,
    *,
    spare: float = 0.0,
    since: float | None,
    asked_at: float,
    now: float,
    policy: PacePolicy,
) -> Saving | None:
    """Return how a task saves in this window, or None if it does not.

    Args:
        standing: the state of the window.
        task: the ID of the task.
        wanted: its need, in the window's unit.
        spare: the amount of the limit that it must leave in addition.
        since: when it began to save; None for now.
        asked_at: when the task was requested.
        now: seconds since the epoch.
        policy: the pace policy, which has the time zone.
    """
    window, line = standing.window, standing.line
    reset, length = line.resets_at, window.length
    if reset is None or length is None or window.reckoned is None or not window.knows_reset(now) or now >= reset:
        return None
    if wanted > LARGEST * window.known_limit or not is_large(standing, wanted):
        return None
    left = window.known_limit - window.least_use
    if wanted + spare > left or wanted > SHARE_PUT_OFF * left:
        # The task can no longer begin in this window, or would leave nothing for other tasks.
        return None
    begins = (window.resets_at or reset) - length
    begun = since is not None
    since = max(begins, min(now, now if since is None else since))
    saving = Saving(task=task, window=window.key, wanted=wanted, since=since, until=since + BEGINS_BY * (reset - since))
    if begun:
        return saving
    _, granted = _line(standing, saving, now, policy)
    most = SHARE_PUT_OFF if asked_at < begins else SHARE
    rate = wanted / (saving.until - saving.since)
    return saving if rate <= most * granted else None


def for_saver(standing: WindowState, saving: Saving, now: float, policy: PacePolicy) -> WindowState:
    """Return the window for the saving task: its savings are not spread over the rest."""
    level, slope = _line(standing, saving, now, policy)
    return _drawn(standing, level, slope, now)


def for_others(standing: WindowState, saving: Saving, now: float, policy: PacePolicy) -> WindowState:
    """Return the window for all other tasks: without the savings and without a burst."""
    level, slope = _line(standing, saving, now, policy)
    rises = saving.since <= now < saving.until
    rate = saving.wanted / (saving.until - saving.since) if rises else 0.0
    seen = _drawn(standing, level - saving.saved(now), slope - rate, now)
    # Each midnight renews the burst, which would use up the savings.
    burst = burst_on(seen.line, standing.window, policy, now)
    return replace(seen, line=replace(seen.line, ahead=max(seen.line.ahead, burst)), kept=rate)


def _line(standing: WindowState, saving: Saving, now: float, policy: PacePolicy) -> tuple[float, float]:
    """Return the current level of the line with all savings, and its slope."""
    line = standing.line
    assert line.resets_at is not None
    turn = _turn(standing, now, policy)
    rest = max(1.0, line.resets_at - turn)
    # The last midnight spread the savings up to then over the rest of the window. Undo that.
    kept = saving.saved(turn)
    level = line_at(line, now) + kept * max(0.0, line.resets_at - now) / rest
    start = line_at(line, line.drawn_at)
    slope = max(0.0, line.limit - start) / max(1.0, line.resets_at - line.drawn_at) - kept / rest
    return level, slope


def _drawn(standing: WindowState, level: float, slope: float, now: float) -> WindowState:
    line = standing.line
    assert line.resets_at is not None
    rest = max(0.0, line.resets_at - now)
    return replace(standing, line=replace(line, drawn_at=now, level=level, limit=level + max(0.0, slope) * rest))


def _turn(standing: WindowState, now: float, policy: PacePolicy) -> float:
    """Return when the line was last drawn from the usage."""
    line = standing.line
    if line.cause in ("first", "midnight", "fifth", "reset"):
        return min(now, line.drawn_at)
    turn = turn_before(standing.window, line, now, policy)
    begins = None if standing.window.length is None else line.resets_at - standing.window.length  # type: ignore[operator]
    return min(now, max(each for each in (turn, begins, 0.0) if each is not None))
