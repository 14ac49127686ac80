"""Dependencies that all parts of an agent's supervision share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bot.agents.journal.effects import JournalEffects
from bot.agents.ports import Starter
from bot.agents.restart_limiter import RestartLimiter
from database.engine.store import Store
from database.queries.agents.agents import AgentRow
from fleet.approval_rules.rules import ApprovalRule
from fleet.supervision import restart_policy
from fleet.supervision.restart_policy import RestartLimits

#: Number of supervisors that start at the same time when Muster starts; commands run in between.
BEGIN_AT_ONCE = 8


async def _no_rules(row: AgentRow) -> Sequence[ApprovalRule]:
    del row
    return ()


@dataclass(kw_only=True, slots=True)
class AgentContext:
    """The shared dependencies; one instance for all agents of an orchestrator."""

    store: Store
    journal_effects: JournalEffects
    starter: Starter
    clock: Callable[[], float]
    """Seconds since the epoch."""
    wake_delivery: Callable[[], None]
    publish: Callable[[Mapping[str, object]], None]
    show_typing: Callable[[str, str, bool], Awaitable[None]]
    """Shows or hides the typing indicator in a connector's conversation."""
    heard: Callable[[str], None] = lambda _: None
    """Told the name of an agent whose journal has new entries, or whose host reported its state."""
    is_watched: Callable[[], bool] = lambda: True
    """Whether anyone gets the events that are published."""
    is_ours: Callable[[AgentRow], bool] = lambda _: True
    """Whether this installation manages the agent; all others are left alone (bot.leadership.installation_id)."""
    rules_of: Callable[[AgentRow], Awaitable[Sequence[ApprovalRule]]] = _no_rules
    """Returns the approval rules whose scopes hold for an agent, as its host is told them."""
    limits: RestartLimits = field(default_factory=lambda: restart_policy.LIMITS)
    """How often a failed agent is restarted."""
    restart_limiter: RestartLimiter = field(default_factory=RestartLimiter)
    digest_after: int = 10
    """Number of unreported turns above which they are reported as one digest."""
    beginning: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BEGIN_AT_ONCE))
    """Held while a supervisor starts, so that not all agents of a large fleet start at once."""
