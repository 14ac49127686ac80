"""The figures of one window at one moment, as every view shows them. Pure; times are seconds since the epoch.

`budget`, `pace`, reports, alarms, `tasks` and the dispatcher read the same standing. What is used of it, left of it and
allowed by it is computed here and nowhere else, and written by `budget.amounts`. What no one knows is None and never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from budget.windows.even_spread_line import line_at
from budget.windows.window_state import admissible, worth

if TYPE_CHECKING:
    from budget.windows.even_spread_line import Certainty, LastSeen, PacePolicy, Unit
    from budget.windows.window_state import WindowState

State: TypeAlias = Literal["open", "used up"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What is known of a window now, in its unit: tokens, US dollars, or shares (1.0 is the whole window)."""

    key: str
    scope: str
    unit: Unit
    limit: float
    used: float | None
    """None: not known."""
    at_least: float | None
    """Where `used` is not known: what it surely has come to. None: that is not known either, or `used` is."""
    last_seen: LastSeen | None
    """Where `used` is not known: what was observed last."""
    reserved: float | None
    """What tasks under way may still use. None: they use tokens, and what a token is of the window is not known."""
    line: float | None
    """What the pace comes to by now. None: all of the limit may be used at any time."""
    ahead: float | None
    """How far the use is ahead of the line; negative: behind. None: there is no line, or the use is not known."""
    may_use_now: float | None
    """What work of normal urgency may begin with now. None: one task runs at a time, until the use is known."""
    authorized: float
    """What is left of authorizations."""
    begins_at: float | None
    resets_at: float | None
    certainty: Certainty
    """How the reset is known."""
    drawn_at: float
    """When the line was drawn."""

    @property
    def remaining(self) -> float | None:
        """What neither was used nor is reserved. None: not known."""
        if self.used is None or self.reserved is None:
            return None
        return max(0.0, self.limit - self.used - self.reserved)

    @property
    def share(self) -> float | None:
        """Of the limit, what is used; more than 1 beyond it. None: not known."""
        return None if self.used is None or self.limit <= 0 else self.used / self.limit

    @property
    def state(self) -> State | None:
        """Whether anything is left of the limit. None: not known."""
        return None if self.used is None else "used up" if self.used >= self.limit else "open"

    @property
    def least(self) -> float:
        """What is used, or at least; 0 where nothing is known. It orders windows and is shown nowhere."""
        return self.used if self.used is not None else self.at_least or 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedLimit:
    """What the egress counts of a limit at this moment, in the limit's unit."""

    used: float
    """At least what the register knows, where all of it was copied."""
    reserved: float
    """For requests under way."""


def figures(standing: WindowState, now: float, policy: PacePolicy, gate: CountedLimit | None = None) -> Figures:
    """Return the figures of a window.

    Args:
        standing: of the window, with the line that stands.
        now: seconds since the epoch.
        policy: how strictly the pace is kept.
        gate: what the egress counts; None: it does not hold this window, or was not asked.
    """
    if gate is not None and standing.window.known_use is not None:
        # Requests under way belong to tasks mostly, so that the two are not added up.
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
