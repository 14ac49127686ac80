"""Counts of agents for status displays. Agents are counted after events, and only while a display is open."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import structlog

from bot.agents.services import AgentServices
from bot.messaging.event_hub import Subscription, TooSlow
from bot.messaging.fleet_port import AgentView
from bot.messaging.thread_lifecycle import OFFERS
from connectors.contract.agent_count_feed import AgentCounts
from core.async_waits import first_of
from core.errors import RegisterError
from database.queries.chat import approvals, questions

log = structlog.get_logger(__name__)

#: Minimum seconds between two counts, regardless of the number of events.
AT_MOST_EVERY: Final = 1.0
#: Minimum seconds between two looks at what is asked, regardless of the number of messages.
_LOOK_AT_MOST_EVERY: Final = 0.2
#: Maximum seconds between two counts: an agent that falls silent causes no event.
AT_LEAST_EVERY: Final = 15.0
#: Frequent kinds of journal entries that never change an agent's state.
_CHATTER: Final = frozenset({"text", "thought", "tool", "plan", "usage"})

#: States of agents that a question holds up. The others say more than that something is asked.
_UP: Final = ("working", "starting", "idle", "waiting")


def counted(views: Iterable[AgentView], asked: Collection[str] = ()) -> AgentCounts:
    """Return the number of agents per state, without those of other installations.

    Args:
        views: the agents.
        asked: for each request or question that waits for a person, the agent that it is about, or empty. An agent with
            one waits, and so does each question about no agent.
    """
    names = {name for name in asked if name}
    ours = [view for view in views if not view.elsewhere]
    states = Counter(
        "waiting" if names and view.row.name in names and view.liveness.state in _UP else view.liveness.state
        for view in ours
    )
    states["waiting"] += sum(1 for name in asked if not name)
    return AgentCounts(
        working=states["working"] + states["starting"],
        waiting=states["waiting"],
        failed=states["failed"],
        unknown=states["unknown"],
    )


async def run(services: AgentServices) -> None:
    """Keep `services.headcount` up to date, until cancelled."""
    headcount = services.headcount
    while True:
        await headcount.wanted.wait()
        changes, committed = Changes(), asyncio.Event()
        with services.events.subscribed() as events, services.delivery.heard(committed.set):
            while headcount.wanted.is_set():
                asked: Mapping[str, str] = {}
                try:
                    asked = await _asked(services)
                    headcount.tell(counted(await services.agents.view(), asked.values()))
                except RegisterError as error:
                    log.info("headcount.not_counted", reason=str(error))
                await asyncio.sleep(AT_MOST_EVERY)
                try:
                    async with asyncio.timeout(AT_LEAST_EVERY):
                        await first_of(_changed(events, changes), _asked_anew(services, committed, asked))
                except TimeoutError:
                    pass
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


async def _changed(events: Subscription, changes: Changes) -> None:
    """Return after an event that can change a state."""
    async for event in events:
        if changes.has(event):
            return


async def _asked_anew(services: AgentServices, committed: asyncio.Event, asked: Mapping[str, str]) -> None:
    """Return once other requests and questions wait than those that were `asked`.

    The event of a journal entry is too early for that: the request is not in the register yet.
    """
    while True:
        await committed.wait()
        committed.clear()
        try:
            if await _asked(services) != asked:
                return
        except RegisterError:
            return
        await asyncio.sleep(_LOOK_AT_MOST_EVERY)


async def _asked(services: AgentServices) -> Mapping[str, str]:
    """Return the agent of each request and question that waits for a person, or an empty name, by its id.

    Raises:
        RegisterError: the register cannot be read.
    """
    async with services.store.read() as tx:
        requests = {f"approval {each.id}": each.agent for each in await approvals.in_states(tx, ["pending"])}
        asked = {f"question {each.id}": each.agent for each in await questions.pending(tx) if each.kind not in OFFERS}
    return requests | asked
