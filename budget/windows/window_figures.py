"""The figures of one window at one moment, for every view. Pure; times are seconds since the epoch.

`budget`, `pace`, reports, alerts, `tasks` and the dispatcher read the same window state. Only this module computes what
is used, left and allowed, and `budget.amounts` formats it. An unknown amount is None and never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from budget.amounts import Unit
from budget.windows.even_spread_line import Certainty, LastSeen, PacePolicy, line_at
from budget.windows.window_state import WindowState, admissible, worth

State: TypeAlias = Literal["open", "used up"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """The current figures of a window in its unit: tokens, US dollars, or shares (1.0 is the whole window)."""

    key: str
    scope: str
    unit: Unit
    limit: float
    used: float | None
    """The usage; None if unknown."""
    at_least: float | None
    """The certain minimum of an unknown usage; None if that is unknown too, or if `used` is known."""
    last_seen: LastSeen | None
    """The last observation, if the usage is unknown."""
    reserved: float | None
    """The remaining usage of running tasks; None if it is in tokens and the share per token is unknown."""
    line: float | None
    """The usage that the pace allows by now; None if the whole limit may be used at any time."""
    ahead: float | None
    """How far the usage is ahead of the line; negative if behind. None without a line or a known usage."""
    may_use_now: float | None
    """The projected cost with which work of normal urgency may begin now. None while the usage is unknown, so that one
    task runs at a time."""
    authorized: float
    """The rest of the authorizations."""
    begins_at: float | None
    resets_at: float | None
    certainty: Certainty
    """The source of the reset time."""
    drawn_at: float
    """When the line was drawn."""

    @property
    def remaining(self) -> float | None:
        """The amount that is neither used nor reserved; None if unknown."""
        if self.used is None or self.reserved is None:
            return None
        return max(0.0, self.limit - self.used - self.reserved)

    @property
    def share(self) -> float | None:
        """The used share of the limit, above 1 beyond it; None if unknown."""
        return None if self.used is None or self.limit <= 0 else self.used / self.limit

    @property
    def state(self) -> State | None:
        """Whether anything is left of the limit; None if unknown."""
        return None if self.used is None else "used up" if self.used >= self.limit else "open"

    @property
    def least(self) -> float:
        """The usage or its certain minimum; 0 if unknown. It only orders windows and is never shown."""
        return self.used if self.used is not None else self.at_least or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedLimit:
    """The egress's current count of a limit, in the limit's unit."""

    used: float
    """The usage; at least what the register knows, if everything was copied."""
    reserved: float
    """The reservations of open requests."""


def figures(standing: WindowState, now: float, policy: PacePolicy, gate: CountedLimit | None = None) -> Figures:
    """Return the figures of a window.

    Args:
        standing: the state of the window, with its current line.
        now: seconds since the epoch.
        policy: the pace policy.
        gate: the egress's count; None if the egress does not hold this window or was not asked.
    """
    if gate is not None and standing.window.known_use is not None:
        # Most open requests belong to running tasks, so the two reservations must not be added.
        used, held = max(standing.window.known_use, gate.used), max(standing.held, gate.reserved)
        standing = replace(standing, window=replace(standing.window, used=used), reserved=held)
    window, line = standing.window, standing.line
    used_now = window.known_use
    paced = line.resets_at is not None and (line.level or 0.0) < line.limit
    even = line_at(line, now) if paced else None
    begins_at = window.begins_at
    if begins_at is None and window.resets_at is not None and window.length is not None:
        begins_at = window.resets_at - window.length
    unpriced = standing.under_way > 0 and window.unit == "share" and window.per_token is None
    return Figures(
        key=window.key,
        scope=window.scope,
        unit=window.unit,
        limit=window.known_limit,
        used=used_now,
        at_least=window.surely,
        last_seen=window.last_seen,
        reserved=None if unpriced else standing.held,
        line=even,
        ahead=None if used_now is None or even is None else used_now - even,
        may_use_now=None if used_now is None else admissible(standing, "normal", now, policy),
        authorized=sum(worth(each, window, each.left(now)) for each in standing.authorizations),
        begins_at=begins_at,
        resets_at=window.resets_at,
        certainty=window.certainty,
        drawn_at=line.drawn_at,
    )
