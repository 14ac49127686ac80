"""What everybody who looks after an agent shares."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.agents import restart_executor
from bot.agents.restart_executor import Turnstile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bot.agents.journal.effects import Teller
    from bot.agents.restart_executor import Starter
    from database.engine.store import Store
    from database.queries.agents.agents import AgentRow
    from fleet.supervision.restart_policy import RestartLimits

#: So many agents are taken up at one time when Muster starts; commands go in between.
BEGIN_AT_ONCE = 8


@dataclass(kw_only=True, slots=True)
class AgentContext:
    """One for all agents of an orchestrator."""

    store: Store
    teller: Teller
    starter: Starter
    clock: Callable[[], float]
    """Seconds since the epoch."""
    wake_delivery: Callable[[], None]
    publish: Callable[[Mapping[str, object]], None]
    show_typing: Callable[[str, str, bool], Awaitable[None]]
    """Show or stop showing, in a connector's conversation, that somebody is at work."""
    is_ours: Callable[[AgentRow], bool] = lambda _: True
    """Whether an agent is this installation's to see to; all others are left alone (bot.leadership.installation_id)."""
    limits: RestartLimits = field(default_factory=lambda: restart_executor.LIMITS)
    """How often an agent that falls is tried again."""
    turnstile: Turnstile = field(default_factory=Turnstile)
    digest_after: int = 10
    """After an absence, more turns than this are told as one digest."""
    beginning: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BEGIN_AT_ONCE))
    """Held while an agent is taken up, so that not all of a large fleet begin at once."""
