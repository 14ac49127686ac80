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
    from bot.pacing.window_series import WindowFacts


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
