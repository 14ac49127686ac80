"""How work that is more than a day of its window gives comes to its turn. Pure; times are seconds since the epoch.

Each midnight spreads what was not used over the rest of a window, so that on no day but the last ones a line rises far
enough for a task that is larger than a day's share, and work that came later would always find its room first. So once
such a task has waited for long (`budget.dispatch.Policy.aging_s`), it saves:

- it is measured by what the window gave since it *began*, spread evenly: days on which less was used count for it;
- what was asked for later has part of the pace until then, at most half, and less where even that would not leave
  enough before the reset. A task that an agent asked for takes no more than half of the pace from anybody, and neither
  does one that was asked for so late in a window that little would be left to others: it saves in the next one.

So each task of a person that its window can hold begins before the end of the window after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from budget.lines import DAY_S, burst_at, line_at
from budget.standings import worth

if TYPE_CHECKING:
    from budget.lines import Policy, Window
    from budget.standings import Standing

#: What others have of the pace at most, while a task saves.
BESIDE = 0.5
#: Less than this share of what others would have, had it saved since the window began, is not left to them for it.
_LATE = 0.5


def turn_s(window: Window) -> float:
    """For how long a line stands: a day, of short windows a fifth; seconds."""
    return window.length / 5 if window.length is not None and window.is_short else DAY_S


def is_large(standing: Standing, wanted: float) -> bool:
    """Whether a task needs more than its line rises before it is drawn anew; not where the line is the last one."""
    line = standing.line
    if line.resets_at is None or line.resets_at <= line.drawn_at:
        return False
    start = line_at(line, line.drawn_at)
    return wanted > (line.limit - start) * turn_s(standing.window) / (line.resets_at - line.drawn_at)


def saved_up(standing: Standing, wanted: float, now: float, policy: Policy) -> float:
    """What may be used and reserved at `now` with a task of this size that saves, in the window's unit; 0 where it is
    not that large, or nobody knows when the window began and ends."""
    window, line = standing.window, standing.line
    length = window.length
    if length is None or line.resets_at is None or window.resets_at is None or not window.knows_reset(now):
        return 0.0
    if window.known_use is None or not is_large(standing, wanted):
        return 0.0
    given = min(window.known_limit, window.known_limit * _elapsed(standing, now) + burst_at(window, policy, now))
    return given + _authorized(standing, now)


def beside(standing: Standing, kept: float, now: float, *, whole: bool) -> float:
    """What may be used and reserved by others while a task saves, in the window's unit.

    Args:
        standing: of the window.
        kept: what the task needs of it, with its margin.
        now: seconds since the epoch.
        whole: all of that is kept for it, however little others have; else they have half of the pace at least.
    """
    line = standing.line
    given = line.drawn_used + part(standing, kept, whole=whole) * max(0.0, line_at(line, now) - line.drawn_used)
    # What others left over on a day is not lost to them, or what is more than a day gives of it would never begin.
    return max(given, _elapsed(standing, now) * _evenly(standing, kept)) + _authorized(standing, now)


def beside_at(standing: Standing, kept: float, wanted: float, *, whole: bool) -> float | None:
    """When others may use and reserve `wanted` by the line that stands; None: not by this one."""
    line = standing.line
    share = part(standing, kept, whole=whole)
    start = line_at(line, line.drawn_at)
    if share <= 0 or line.resets_at is None or line.limit <= start:
        return None
    rise = (wanted - line.drawn_used) / share - (start - line.drawn_used)
    at = line.drawn_at + rise / (line.limit - start) * (line.resets_at - line.drawn_at)
    begins, evenly = _begins(standing), _evenly(standing, kept)
    if begins is not None and evenly > 0:
        at = min(at, begins + wanted / evenly * (line.resets_at - begins))
    return at if at <= line.resets_at else None


def part(standing: Standing, kept: float, *, whole: bool) -> float:
    """Of what the line rises, the share that others may use."""
    window, line = standing.window, standing.line
    rest = line.limit - line.drawn_used
    if not whole or rest <= 0 or line.resets_at is None or window.length is None:
        return BESIDE
    # Asked for too late in a window, it would stop all others there: then it has half, and saves in the next one.
    remains = min(1.0, max(0.0, (line.resets_at - line.drawn_at) / window.length))
    if rest - kept < _LATE * remains * (line.limit - kept):
        return BESIDE
    return max(0.0, min(BESIDE, 1 - kept / rest))


def _evenly(standing: Standing, kept: float) -> float:
    """What others have of a whole window while one saves up in it: half, and not what is kept."""
    limit = standing.line.limit
    return max(0.0, min(BESIDE * limit, limit - kept))


def _begins(standing: Standing) -> float | None:
    """When the window began; None: nobody knows."""
    window, length = standing.window, standing.window.length
    return None if length is None or window.resets_at is None else window.resets_at - length


def _elapsed(standing: Standing, now: float) -> float:
    """How much of the window's time is over, as a share; 0 where nobody knows."""
    begins, ends = _begins(standing), standing.line.resets_at
    if begins is None or ends is None or ends <= begins:
        return 0.0
    # By the line's own end, which is later than the reset where that is only estimated.
    return min(1.0, max(0.0, (now - begins) / (ends - begins)))


def _authorized(standing: Standing, now: float) -> float:
    """What may be spent beyond the pace, whoever spends it."""
    return sum(worth(one, standing.window, one.left(now)) for one in standing.authorizations)
