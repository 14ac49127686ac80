"""Facts of a report as plain values, loaded by `bot.reports.loader`.

Use counts all tokens, and windows count weighted tokens. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from bot.config.reports import Kind
from bot.read_models.limits import UsageRow, WindowPace
from budget.amounts import Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskFacts:
    """A task in a report. Its texts come from an operator or an agent."""

    id: str
    text: str
    whose: str
    """The agent that has it or will have it, or the role."""
    state: str
    reason: str | None = None
    """Why it waits, as text."""
    look_at: float | None = None
    created_at: float
    ended_at: float | None = None
    projected_tokens: float | None = None
    actual_tokens: float | None = None
    actual_usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Down:
    """An agent that should have run but was down."""

    agent: str
    kind: str
    """How it showed (`fleet.supervision.health_findings.Kind`)."""
    since: float
    until: float | None
    """None: it is still down."""
    cause: str = ""
    """The cause as known at the beginning; empty if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFacts:
    """The current state of an agent, and its use and tasks."""

    name: str
    role: str
    state: str
    evidence: str
    evidence_at: float | None
    """Seconds since the epoch; None: there is no evidence."""
    tasks_done: int
    tokens: int | None
    """Use since midnight in the operator's time zone; None: incomplete."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetLeft:
    """What is left of one limit of a project, in its unit: tokens, USD, or a share."""

    unit: Unit
    window: str | None
    """None: it never resets."""
    limit: float
    used: float | None
    """None: currently unknown."""
    left: float | None
    """Without what open requests reserve; None: currently unknown."""
    resets_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectFacts:
    """The use and the topics of one project in the report's period."""

    name: str
    spent: UsageRow
    opened: int
    ended: Mapping[str, int]
    """Number of topics that ended: by `merge`, `keep`, `discard`, or `closed` before they began."""
    waiting: int
    """Number of topics that wait now."""
    budget: Sequence[BudgetLeft] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportFacts:
    """All facts for a report of one kind; what the kind does not include is empty."""

    kind: Kind
    now: float
    zone: ZoneInfo
    begin: float
    """Start of the report's period; `end` is exclusive."""
    end: float
    total: UsageRow | None = None
    agents: Sequence[UsageRow] = ()
    tasks: Sequence[UsageRow] = ()
    projects: Sequence[ProjectFacts] = ()
    days: Sequence[UsageRow] = ()
    behind: str | None = None
    """Why the use is incomplete, as a sentence."""
    windows: Sequence[WindowPace] = ()
    waiting: Sequence[TaskFacts] = ()
    """The oldest of all waiting tasks, then waiting runs as they will begin."""
    waiting_count: int = 0
    """Number of waiting tasks."""
    waiting_runs: int = 0
    """Number of waiting runs."""
    ended: Sequence[TaskFacts] = ()
    """The latest of all tasks that ended in the period."""
    ended_counts: Sequence[tuple[str, int]] = ()
    """Number of ended tasks by state."""
    downs: Sequence[Down] = ()
    fleet: Sequence[AgentFacts] = ()
    fleet_count: int = 0
    fleet_states: Sequence[tuple[str, int]] = ()
    """Number of agents by state."""
    names: Sequence[tuple[str, str]] = ()
    """The beginning of a task's text by the task's id."""
