"""Pushing of an agent's approval rules to its host: when it connects, and whenever they change.

The rules are read from the register and muster.yaml each time. An agent host that is down gets them at its start.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Final

import structlog

from bot.agents.context import AgentContext
from core.crash_points import around, declare
from database.queries.agents import agents
from fleet.control.agent_host_client import AgentLink
from fleet.control.rules_in_force import digest_of
from fleet.errors import AgentRefused, AgentUnreachable

log = structlog.get_logger(__name__)

PUSH = declare("rules.push")

#: Seconds until rules are pushed again that the agent host could not keep for its next start.
PUSH_AGAIN = 30.0
#: The code of an agent host that has not answered yet.
SILENT: Final = "silent"


@dataclass(slots=True)
class RulePush:
    """The pushing of one agent's rules."""

    name: str
    context: AgentContext
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _wanted: int = 0
    """How often the rules changed."""
    _settled: int = 0
    """The change after which the agent host last took the rules, or refused them."""
    _refused: AgentRefused | None = None
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def changed(self) -> None:
        """Note that the rules changed."""
        self._wanted += 1
        self._changed.set()

    async def outcome(self) -> AgentRefused | None:
        """Wait until the agent host took the rules as they are now, or refused them; return the refusal."""
        wanted = self._wanted
        async with self._news:
            await self._news.wait_for(lambda: self._settled >= wanted)
        return self._refused

    async def run(self, link: AgentLink) -> None:
        """Push the rules over this link until it is lost."""
        held = link.hello.rules
        while True:
            self._changed.clear()
            wanted_now = self._wanted
            async with self.context.store.read() as tx:
                row = await agents.get(tx, self.name)
            if row is None:
                return
            rules = await self.context.rules_of(row)
            again: float | None = None
            refused: AgentRefused | None = None
            if (wanted := digest_of(rules)) != held and (held or rules):
                try:
                    with around(PUSH):
                        await link.set_rules([rule.to_json() for rule in rules])
                except AgentUnreachable:
                    return
                except AgentRefused as refusal:
                    refused = refusal
                    # An agent host that is older than rules asks everything; the others try again.
                    again = None if refusal.refusal == "unknown_method" else PUSH_AGAIN
                    log.warning("agent.rules_refused", agent=self.name, code=refusal.refusal, reason=str(refusal))
                else:
                    held = wanted
            async with self._news:
                self._settled, self._refused = wanted_now, refused
                self._news.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(again):
                    await self._changed.wait()
