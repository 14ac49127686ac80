"""Saving for a large task: one that needs more than its line grants in a day. Pure; times are seconds since the epoch.

Each midnight spreads what was not used over the rest of a window. So a line never rises far enough for a large task
while others use what it grants. The oldest large task of at most half a window therefore saves: a share of what the
line grants is kept for it, at an even rate, so that it begins by three quarters of the time that remains. It takes at
most .6 of the grant; .9 once a reset put it off. It saves nothing in a window in which it cannot get there.

What is saved is a function of when the saving began and of the window. Nothing is stored besides that moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from budget.windows.even_spread_line import DAY_S, burst_on, line_at, turn_before

if TYPE_CHECKING:
    from budget.windows.even_spread_line import PacePolicy, Window
    from budget.windows.window_state import WindowState

#: The most that is kept of what a line grants,
SHARE = 0.6
#: and the most where a reset put the task off.
SHARE_PUT_OFF = 0.9
#: The task begins by this part of the time that remains when it starts to save.
BEGINS_BY = 0.75
#: Only a task of at most this share of a window saves for it.
LARGEST = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Saving:
    """What is kept of one window for one task."""

    task: str
    window: str
    wanted: float
    """What the task needs, in the window's unit."""
    since: float
    until: float
    """By then all of it is kept."""

    def saved(self, t: float) -> float:
        """Return what is kept at `t`, in the window's unit."""
        part = (t - self.since) / (self.until - self.since)
        return self.wanted * min(1.0, max(0.0, part))


def turn_s(window: Window) -> float:
    """Return how long a line stays as it is, in seconds: a day, or a fifth of a short window."""
    return window.length / 5 if window.length is not None and window.is_short else DAY_S


def grant(standing: WindowState) -> float | None:
    """Return what the line grants until it is drawn again, or None if all of it may be used at any time."""
    line = standing.line
    if line.resets_at is None or line.resets_at <= line.drawn_at:
        return None
    start = line_at(line, line.drawn_at)
    return max(0.0, line.limit - start) * turn_s(standing.window) / (line.resets_at - line.drawn_at)


def is_large(standing: WindowState, wanted: float) -> bool:
    """Return whether a task needs more than its line grants in a day, or than a day's even share of the window.

    The share stays as it is while what is kept for a task raises the grant. So a task that saves goes on saving.
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
        standing: of the window.
        task: its id.
        wanted: what it needs, in the window's unit.
        spare: what it must leave of the limit beyond that.
        since: when it began to save; None: now.
        asked_at: when it was asked for.
        now: seconds since the epoch.
        policy: whose midnights.
    """
    window, line = standing.window, standing.line
    reset, length = line.resets_at, window.length
    if reset is None or length is None or window.reckoned is None or not window.knows_reset(now) or now >= reset:
        return None
    if wanted > LARGEST * window.known_limit or not is_large(standing, wanted):
        return None
    left = window.known_limit - window.least_use
    if wanted + spare > left or wanted > SHARE_PUT_OFF * left:
        # It cannot begin in this window any more, or would leave others nothing.
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
    """Return the window as the saving task sees it: what is kept for it is not spread over the rest."""
    level, slope = _line(standing, saving, now, policy)
    return _drawn(standing, level, slope, now)


def for_others(standing: WindowState, saving: Saving, now: float, policy: PacePolicy) -> WindowState:
    """Return the window as all others see it: less what is kept, and without a burst."""
    level, slope = _line(standing, saving, now, policy)
    rises = saving.since <= now < saving.until
    rate = saving.wanted / (saving.until - saving.since) if rises else 0.0
    seen = _drawn(standing, level - saving.saved(now), slope - rate, now)
    # The burst that each midnight gives again would use up what is kept.
    burst = burst_on(seen.line, standing.window, policy, now)
    return replace(seen, line=replace(seen.line, ahead=max(seen.line.ahead, burst)), kept=rate)


def _line(standing: WindowState, saving: Saving, now: float, policy: PacePolicy) -> tuple[float, float]:
    """Return where the line with all that is kept is now, and how fast it rises."""
    line = standing.line
    assert line.resets_at is not None
    turn = _turn(standing, now, policy)
    rest = max(1.0, line.resets_at - turn)
    # The last midnight spread what was kept by then over the rest of the window. That is taken back.
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
    """Return when the line was last drawn from what was used."""
    line = standing.line
    if line.cause in ("first", "midnight", "fifth", "reset"):
        return min(now, line.drawn_at)
    turn = turn_before(standing.window, line, now, policy)
    begins = None if standing.window.length is None else line.resets_at - standing.window.length  # type: ignore[operator]
    return min(now, max(each for each in (turn, begins, 0.0) if each is not None))
