"""What a report says, before anybody puts it into words: plain values, gathered by `bot.reports.loader`.

Tokens are all tokens where they are spent, and weighted ones in windows. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from bot.config.reports import Kind
    from budget.windows.even_spread_line import LastSeen, Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedUsage:
    """What one agent, one task or one day came to."""

    key: str
    requests: int
    tokens: int
    usd: float | None
    """None: of some of it no price is known."""
    estimated: int = 0
    """Requests of which the provider did not report what they used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    """A task as a report shows it. Its words are an operator's or an agent's."""

    id: str
    text: str
    whose: str
    """The agent that has it or is to have it, or the role."""
    state: str
    reason: str | None = None
    """Why it waits, in words."""
    look_at: float | None = None
    created_at: float
    ended_at: float | None = None
    projected_tokens: float | None = None
    actual_tokens: float | None = None
    actual_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Down:
    """An agent that should have been there and was not."""

    agent: str
    kind: str
    """`fleet.supervision.health_findings.Kind`: how it showed."""
    since: float
    until: float | None
    """None: it still is."""
    cause: str = ""
    """Why, as far as that was known when it began; empty: it was not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFacts:
    """An agent as it is known now, and what it came to."""

    name: str
    role: str
    state: str
    evidence: str
    evidence_age_s: float | None
    detail: str | None
    activity: str | None
    tasks_done: int
    tokens: int | None
    """Since midnight, in the operator's zone; None: nobody knows all of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowFacts:
    """One window as it stands, in its own unit: tokens, USD, or shares of it (1.0 is all)."""

    key: str
    scope: str
    unit: Unit
    limit: float
    used: float | None
    """None: not known now."""
    reserved: float | None
    """None: not known."""
    line: float | None
    """What the pace comes to by now, as `pace` shows it; None: all of it may be used at any time."""
    begins_at: float | None
    resets_at: float | None
    certainty: str
    """How the reset is known: provider, user, estimated, unknown."""
    at_least: float | None = None
    """Where `used` is not known: what it surely has come to; None: that is not known either."""
    last_seen: LastSeen | None = None
    """Where `used` is not known: what was observed last."""
    authorized: float = 0.0
    """What may be used beyond the pace."""
    expected: float | None = None
    """What will be used at the reset, as it goes; `low` and `high` are the band around it."""
    low: float | None = None
    high: float | None = None
    by_role: Sequence[tuple[str, float]] = ()
    """What each role will likely still use until the reset, the most first; of the window that matters most, in a
    weekly report."""
    points: Sequence[tuple[float, float]] = ()
    """What was used by when, ascending, as far as it is known."""
    spread: Sequence[tuple[float, float]] = ()
    """The line that stands: where it was drawn and where it ends."""

    @property
    def least(self) -> float | None:
        """What is used, or at least; None: nothing was observed of it that can still count."""
        if self.used is not None or self.last_seen is None:
            return self.used
        return self.at_least or 0.0

    @property
    def share(self) -> float | None:
        """Of the limit, what is used."""
        return None if self.used is None or self.limit <= 0 else self.used / self.limit


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFacts:
    """Everything that a report of one kind is made of; what does not belong to the kind is empty."""

    kind: Kind
    now: float
    zone: ZoneInfo
    begin: float
    """The report is about what was from `begin` until before `end`."""
    end: float
    total: ReportedUsage | None = None
    agents: Sequence[ReportedUsage] = ()
    tasks: Sequence[ReportedUsage] = ()
    """The key is the task's id."""
    days: Sequence[ReportedUsage] = ()
    """The key is the day, like 2026-11-20."""
    behind: str | None = None
    """Why not all of what was spent is known, in a sentence."""
    windows: Sequence[WindowFacts] = ()
    waiting: Sequence[TaskFacts] = ()
    """Those that were asked for first, of all that wait."""
    waiting_count: int = 0
    ended: Sequence[TaskFacts] = ()
    """Those that ended last, of all that ended in this time."""
    ended_counts: Sequence[tuple[str, int]] = ()
    """How many ended how."""
    downs: Sequence[Down] = ()
    fleet: Sequence[AgentFacts] = ()
    fleet_count: int = 0
    fleet_states: Sequence[tuple[str, int]] = ()
    """How many are in which state."""
    names: Sequence[tuple[str, str]] = ()
    """By a task's id, the beginning of its text."""
