"""The dispatch queue, with runs beside it.

Tokens are weighted tokens, money is US dollars, times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """One task, or one run."""

    id: str
    kind: str
    """issue (the run of an issue), run (any other run), task, turn (an operator's words to an agent, held back for a
    while), or a word of the operator's."""
    text: str
    role: str | None = None
    agent: str | None = None
    """The only agent that may do it."""
    assigned: str | None = None
    """The agent that has it."""
    urgency: str = "normal"
    operator: str
    parent: str | None = None
    state: str
    """queued, dispatched, running, waiting, done, failed or cancelled."""
    why: str | None = None
    """Why it does not begin, as a word: of tasks as in bot.tasks.wait_reasons, of runs place, pace or held."""
    reason: str | None = None
    """The same as a sentence."""
    look_at: float | None = None
    """When it is looked at again."""
    deadline: float | None = None
    attempt: int = 0
    retries: int = 0
    """How often more it may be tried."""
    estimate: float | None = None
    """What its requester expects, in tokens."""
    runtime: str | None = None
    model: str | None = None
    account: str | None = None
    projected_tokens: float | None = None
    projected_usd: float | None = None
    used_tokens: float | None = None
    """What it used so far, while an agent has it; None: nothing, or it is not known."""
    used_usd: float | None = None
    actual_tokens: float | None = None
    """What it used, once it ended."""
    actual_usd: float | None = None
    summary: str | None = None
    created_at: float
    dispatched_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksModel:
    """The tasks and runs that have not ended, and the last that did."""

    open: tuple[TaskLine, ...] = ()
    """Tasks by lane and age, then runs of issues, then other runs; each as they will begin."""
    ended: tuple[TaskLine, ...] = ()
    """The last that ended, newest first."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Number of tasks and runs in each state that is not an end."""
    more: bool = False
    """Whether there are more open ones than `open` has."""
