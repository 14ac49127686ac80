"""The running part of topics: it launches, wakes, freezes and ends their agents, within the bounds of muster.yaml."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal.projection import frozen_as
from bot.commands import sections
from bot.commands.syntax import from_shell
from bot.messaging.composer import MessagePlace
from bot.messaging.fleet_port import AgentView
from bot.projects import capacity, ending, opening
from bot.projects import text as topic_text
from bot.projects.opening import ALIVE, limits_of
from bot.projects.services import ProjectServices
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import MusterError, RegisterError, is_away
from database.queries import tasks
from database.queries.agents import agents, auto_resume
from database.queries.chat import topics
from database.queries.chat.topics import Topic
from fleet.roster.drift import ENDED
from fleet.supervision.restart_policy import RestartRecord

log = structlog.get_logger(__name__)

IDLE = declare("topics.idle")
NOTE = declare("topics.note")
FOLLOW = declare("topics.follow")

#: Seconds between two looks at all topics, if nothing wakes them before.
LOOK_EVERY: Final = 5.0
#: The minimum time between two looks, so that many events in a row cause one look; seconds.
LEAST_S: Final = 0.1
#: Seconds after which a topic that could not begin is tried again.
TRY_AGAIN: Final = 60.0
#: Seconds that a look waits for topics that end, before it goes on to the others.
PATIENCE_S: Final = 1.0
#: What `Topic.detail` says of an idle topic whose agent a person stopped or froze.
BY_HAND: Final = "by hand"


@dataclass(slots=True)
class Topics:
    services: ProjectServices
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _not_before: dict[str, float] = field(default_factory=dict)
    """By the id of a topic that could not begin: when it is tried again."""
    _agents_matter: bool = True
    """Whether news of an agent may let a topic begin or end."""
    _endings: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """By the id of a topic that ends. A merge with tests takes its time, and holds up no other topic."""

    def wake(self) -> None:
        """Look for topics that can begin now."""
        self._due.set()

    def heard(self) -> None:
        """Look soon after news of an agent, if a topic waits for an agent to end."""
        if self._agents_matter:
            self._due.set()

    async def run(self) -> None:
        """Keep all topics going, until cancelled."""
        try:
            await self._keep_going()
        finally:
            for task in self._endings.values():
                task.cancel()
            await asyncio.gather(*self._endings.values(), return_exceptions=True)
            self._endings.clear()

    async def _keep_going(self) -> None:
        while True:
            self._due.clear()
            try:
                await self.look(patience_s=PATIENCE_S)
            except RegisterError as error:
                log.info("topics.not_looked_at", reason=str(error))
                await self.services.store.rest(1.0)
            except Exception as error:
                if not is_away(error):
                    log.exception("topics.failed")
            await asyncio.sleep(LEAST_S)
            await set_within(self._due, LOOK_EVERY)

    async def look(self, *, patience_s: float | None = None) -> None:
        """Begin, wake, freeze and end the topics that are due.

        Args:
            patience_s: seconds to wait for topics that end; None: as long as it takes.
        """
        self._agents_matter = True  # what is heard while this looks may be news
        alive = await self._alive()
        if await self._follow(alive):
            alive = await self._alive()
        if over := [each for each in alive if each.state == "ending"]:
            await self._end(over, patience_s)
            alive = await self._alive()
        now = self.services.clock()
        not_now = {each for each, at in self._not_before.items() if at > now}
        begin = capacity.can_begin(alive, limits_of(self.services), not_now=not_now)
        for topic in begin:
            await self._tried(topic, self._begin)
        if alive:
            await self._freeze_idle(alive)
        self._agents_matter = capacity.wait_for_agents(alive, begin)

    async def _alive(self) -> Sequence[Topic]:
        async with self.services.store.read() as tx:
            return await topics.in_states(tx, ALIVE)

    async def _end(self, over: Sequence[Topic], patience_s: float | None) -> None:
        """End topics at the same time, and wait a while for it."""
        for topic in over:
            if topic.id not in self._endings:
                act = self._tried(topic, partial(ending.go_on, self.services))
                self._endings[topic.id] = asyncio.create_task(act, name=f"end of {topic.agent}")
        done, still = await asyncio.wait(self._endings.values(), timeout=patience_s)
        for task in still:
            # Another topic can begin then.
            task.add_done_callback(lambda _: self.wake())
        self._endings = {each: task for each, task in self._endings.items() if task not in done}
        for task in done:
            task.result()

    # --- beginning ----------------------------------------------------------------------------------------------

    async def _begin(self, topic: Topic) -> None:
        if topic.state == "waking":
            await opening.bring_back(self.services, topic)
            return
        project = self.services.settings.projects.get(topic.project)
        if project is None:
            await ending.close(self.services, topic, f"the project {topic.project} was removed")
            return
        async with self.services.store.read() as tx:
            words = await topics.has_words(tx, topic.id)
        if not words:
            await ending.close(self.services, topic, "what it was asked was deleted")
            return
        planned = await opening.planned(self.services, topic, project)
        if await opening.launch(self.services, planned):
            log.info("topic.begun", topic=topic.id, agent=topic.agent, project=topic.project)

    async def _tried(self, topic: Topic, act: Callable[[Topic], Awaitable[object]]) -> None:
        """Act on a topic. A failure is reported in its thread, once per reason, and tried again later."""
        if self._not_before.get(topic.id, 0.0) > self.services.clock():
            return
        try:
            await act(topic)
            self._not_before.pop(topic.id, None)
        except RegisterError:
            raise
        except (MusterError, OSError) as error:
            self._not_before[topic.id] = self.services.clock() + TRY_AGAIN
            log.warning("topic.not_begun", topic=topic.id, agent=topic.agent, reason=str(error))
            await self._say_once(topic, str(error))

    async def _say_once(self, topic: Topic, reason: str) -> None:
        words = from_shell(reason, sections.load())
        digest = hashlib.sha256(reason.encode()).hexdigest()[:12]
        said = topic_text.not_ended(topic, words) if topic.state == "ending" else topic_text.not_begun(topic, words)
        async with self.services.store.write(NOTE) as tx:
            await topics.change(tx, topic.id, only=["waiting", "waking", "ending"], detail=reason[:500])
            place = MessagePlace(topic.connector, thread_of=topic.thread_key)
            await self.services.agents.journal_effects.speak(tx, f"topic/{topic.id}/{digest}", said, place)
        self.services.delivery.wake()

    # --- idle ones ----------------------------------------------------------------------------------------------

    async def _freeze_idle(self, alive: Sequence[Topic]) -> None:
        now = self.services.clock()
        if not any(each.state == "open" for each in alive):
            return
        views = {view.row.name: view for view in await self.services.agents.view()}
        async with self.services.store.read() as tx:
            held = await tasks.held_back(tx)

        def idle_since(topic: Topic) -> float | None:
            view = views.get(topic.agent)
            return None if view is None or topic.agent in held else _idle_since(view, topic)

        for topic in capacity.idle_ones(alive, limits_of(self.services), idle_since, now):
            await self._freeze(topic, now - (idle_since(topic) or now))

    async def _freeze(self, topic: Topic, idle_for: float) -> None:
        services = self.services
        async with services.store.write(IDLE) as tx:
            row = await agents.get(tx, topic.agent)
            current = await topics.get(tx, topic.id)
            # Somebody may have written in the meantime.
            if row is None or current is None or current.active_at > topic.active_at or row.wanted != "running":
                return
            if not await topics.change(tx, topic.id, only=["open"], state="idle", detail=None):
                return
            await services.agents.desired_states.freeze(tx, row, now=False)
            # Under the event's own name, it is the note about the event, whichever process reads that in the journal.
            told = frozen_as(row.name, row.launch_id)
            await services.agents.journal_effects.note(tx, row, told, topic_text.went_idle(topic, idle_for))
        services.agents.look_again(topic.agent)
        services.delivery.wake()
        self.wake()

    async def woken(self, tx: AsyncConnection, topic: Topic) -> bool:
        """Let an idle topic wait for its agent to come back, in the transaction that queues words for the agent.

        An agent that a limit froze, or a person stopped, does not come back because of words.

        Returns:
            Whether the agent comes back.
        """
        now = self.services.clock()
        if topic.state in ("waking", "open"):
            await topics.change(tx, topic.id, only=["open", "waking"], active_at=now)
            return topic.state == "waking"
        if topic.state != "idle" or topic.detail == BY_HAND or await auto_resume.waiting(tx, agent=topic.agent):
            return False
        return await topics.change(tx, topic.id, only=["idle"], state="waking", queued_at=now, active_at=now)

    # --- what happens to agents otherwise ---------------------------------------------------------------------------

    async def _follow(self, alive: Sequence[Topic]) -> bool:
        """Take up what people and limits did with the topics' agents. Return whether anything changed.

        A topic whose agent was stopped or frozen gives its place to others; one whose agent was resumed has one.
        """
        some = [each for each in alive if each.state in ("open", "idle", "waking")]
        async with self.services.store.read() as tx:
            rows = {row.name: row for row in await agents.every(tx)} if some else {}
        changed = False
        for topic in some:
            row = rows.get(topic.agent)
            if row is None:
                continue
            # One that fell and is not tried again holds its place no longer.
            fell = row.state in ENDED and RestartRecord.from_json(row.revival).try_at is None
            runs = row.wanted == "running" and not fell
            if topic.state == "open" and not runs:
                values: dict[str, object] = {"state": "idle", "detail": BY_HAND}
            elif topic.state in ("idle", "waking") and runs:
                values = {"state": "open", "detail": None}
            else:
                continue
            async with self.services.store.write(FOLLOW) as tx:
                changed |= await topics.change(tx, topic.id, only=[topic.state], **values)
        return changed


def _idle_since(view: AgentView, topic: Topic) -> float | None:
    """Return since when an agent has had nothing to do, or None if it has, or this is not known."""
    status = view.status
    if view.liveness.state != "idle" or view.queued or status is None or status.turn is not None:
        return None
    return max(topic.active_at, view.row.started_at or 0.0, status.event_at or 0.0)
