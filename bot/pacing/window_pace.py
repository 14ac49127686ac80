"""A window's state as all views show it (`bot.read_models.limits.WindowPace`). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.pacing.window_status import PaceSnapshot
from bot.read_models.limits import MOST_POINTS, Authorization, Curve, WindowPace
from budget.windows.even_spread_line import EvenSpreadLine, line_at
from budget.windows.pace_admission import WindowState
from budget.windows.window_key import WindowKey
from budget.windows.window_state import Figures


def pace_of(standing: WindowState, found: Figures) -> WindowPace:
    """Return a window without its history, and without what the pace holds."""
    window, seen = standing.window, found.last_seen
    tokens = None
    if WindowKey.parse(found.key).is_share and window.per_token and window.begins_at is not None:
        tokens = window.known_limit / window.per_token
    return WindowPace(
        key=found.key,
        scope=found.scope,
        unit=found.unit,
        limit=found.limit,
        used=found.used,
        reserved=found.reserved,
        remaining=found.remaining,
        at_least=found.at_least,
        seen_at=window.used_at if window.last_seen is None else window.last_seen.at,
        outdated_at=None if seen is None else seen.at,
        outdated_used=None if seen is None else seen.used,
        outdated_tokens=0.0 if seen is None else seen.tokens_since,
        state=found.state,
        begins_at=found.begins_at,
        resets_at=found.resets_at,
        certainty=found.certainty,
        line=found.line,
        drawn_at=found.drawn_at,
        has_end=standing.line.resets_at is not None,
        ahead=found.ahead,
        may_use_now=found.may_use_now,
        authorized=found.authorized,
        tokens=tokens,
        even=_even(standing.line, found),
    )


def paces_of(snapshot: PaceSnapshot) -> list[WindowPace]:
    """Return every window, the most used first."""
    return [pace_of(snapshot.standings[each.key], each) for each in snapshot.every()]


def authorizations_of(snapshot: PaceSnapshot) -> tuple[Authorization, ...]:
    """Return the current authorizations, in the order of the windows that they lift."""
    found = {
        each.id: Authorization(
            id=each.id,
            scope=each.scope,
            unit=each.unit,
            amount=each.amount,
            left=each.left(snapshot.now),
            granted_at=each.granted_at,
            until=each.until,
        )
        for standing in snapshot.standings.values()
        for each in standing.authorizations
    }
    return tuple(found.values())


def thinned(points: Sequence[tuple[float, float]]) -> Curve:
    """Return a curve of at most `MOST_POINTS` points, with its first and its last one."""
    step = -(-max(0, len(points) - 1) // (MOST_POINTS - 1)) or 1
    return (*points[:-1:step], points[-1])


def _even(line: EvenSpreadLine, found: Figures) -> Curve:
    """Return the ends of the current line: when it was drawn, and the reset."""
    if found.line is None or line.resets_at is None:
        return ()
    return (line.drawn_at, line_at(line, line.drawn_at)), (line.resets_at, line_at(line, line.resets_at))
