"""Counts of agents for status displays. Agents are counted after events, and only while a display is open."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog

from bot.agents.services import AgentServices
from bot.messaging.event_hub import Subscription, TooSlow
from bot.messaging.fleet_port import AgentView
from connectors.contract.agent_count_feed import AgentCounts
from core.errors import RegisterError
from database.queries.chat import questions
from database.queries.chat.questions import Question

log = structlog.get_logger(__name__)

#: Minimum seconds between two counts, regardless of the number of events.
_AT_MOST_EVERY: Final = 1.0
#: Maximum seconds between two counts: an agent that falls silent causes no event.
_AT_LEAST_EVERY: Final = 15.0
#: Frequent kinds of journal entries that never change an agent's state.
_CHATTER: Final = frozenset({"text", "thought", "tool", "plan", "usage"})


def counted(views: Iterable[AgentView], asked: Iterable[Question] = ()) -> AgentCounts:
    """Return the number of agents per state, without those of other installations.

    Questions without an answer wait, too, unless their agent is counted as waiting anyway.
    """
    ours = [view for view in views if not view.elsewhere]
    states = Counter(view.liveness.state for view in ours)
    asking = {view.row.name for view in ours if view.liveness.state == "waiting"}
    return AgentCounts(
        working=states["working"] + states["starting"],
        waiting=states["waiting"] + sum(question.agent not in asking for question in asked),
        failed=states["failed"],
        unknown=states["unknown"],
    )


async def run(services: AgentServices) -> None:
    """Keep `services.headcount` up to date, until cancelled."""
    headcount = services.headcount
    while True:
        await headcount.wanted.wait()
        changes = Changes()
        with services.events.subscribed() as events:
            while headcount.wanted.is_set():
                try:
                    async with services.store.read() as tx:
                        asked = await questions.pending(tx)
                    headcount.tell(counted(await services.agents.view(), asked))
                except RegisterError as error:
                    log.info("headcount.not_counted", reason=str(error))
                await asyncio.sleep(_AT_MOST_EVERY)
                try:
                    await _something(events, changes)
                except TooSlow:
                    break


class Changes:
    """A filter for events that can change a state: of an agent's heartbeats, only those with a new state."""

    def __init__(self) -> None:
        self._states: dict[object, object] = {}

    def has(self, event: Mapping[str, Any]) -> bool:
        """Return whether this event can change a state. Call it for every event, in order."""
        if event.get("type") == "status":
            agent, state = event.get("agent"), event.get("state")
            same = self._states.get(agent) == state
            self._states[agent] = state
            return not same
        entry = event.get("entry")
        return not (isinstance(entry, dict) and entry.get("kind") in _CHATTER)


async def _something(events: Subscription, changes: Changes) -> None:
    """Return after an event that can change a state, or after `_AT_LEAST_EVERY` seconds without one."""
    try:
        async with asyncio.timeout(_AT_LEAST_EVERY):
            async for event in events:
                if changes.has(event):
                    return
    except TimeoutError:
        pass
