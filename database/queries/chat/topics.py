"""Topics of projects, and the words that wait for a topic to begin."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import topic_words, topics

TopicState = Literal["waiting", "open", "idle", "waking", "ending", "ended", "forgetting", "forgotten"]
#: States in which a topic waits for others to make room.
WAITING: Final = ("waiting", "waking")
#: States of a topic that is over.
OVER: Final = ("ended", "forgetting", "forgotten")


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic(Record):
    """One topic of a project.

    It is *waiting* until its agent is launched, *open* while the agent runs, *idle* while the agent is frozen, *waking*
    from a reply until the agent comes back, and *ending* from the decision about its work until that is done. Long
    after it *ended*, it is *forgetting* until its agent's folder is deleted, and then *forgotten*.
    """

    id: str
    project: str
    number: int
    agent: str
    title: str
    connector: str
    room: str
    thread_key: str
    """The outbox key of the message that opens its thread."""
    asked_by: str
    state: TopicState
    outcome: str | None = None
    detail: str | None = None
    queued_at: float
    active_at: float
    created_at: float
    ended_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicWords(Record):
    """Words for a topic that has not begun."""

    id: str
    topic: str
    text: str
    attachments: Sequence[Mapping[str, Any]]
    sender: str
    connector: str
    conversation: str
    event_id: str


async def add(tx: AsyncConnection, topic: Topic) -> bool:
    """Add a topic; False, and nothing is changed, if there is one of this id."""
    return await insert_once(tx, topics, **topic.columns())


async def get(tx: AsyncConnection, topic_id: str) -> Topic | None:
    """Return the topic with this id."""
    return await Topic.one(tx, select(topics).where(topics.c.id == topic_id))


async def of_agent(tx: AsyncConnection, agent: str) -> Topic | None:
    """Return the topic that this agent works on."""
    return await Topic.one(tx, select(topics).where(topics.c.agent == agent))


async def of_thread(tx: AsyncConnection, thread_key: str) -> Topic | None:
    """Return the topic whose thread the message with this outbox key opens."""
    return await Topic.one(tx, select(topics).where(topics.c.thread_key == thread_key).limit(1))


async def in_states(
    tx: AsyncConnection, states: Collection[TopicState], *, project: str | None = None
) -> Sequence[Topic]:
    """Return the topics in these states, those that have waited longest first."""
    query = select(topics).where(topics.c.state.in_(states))
    if project is not None:
        query = query.where(topics.c.project == project)
    return await Topic.every(tx, query.order_by(topics.c.queued_at, topics.c.created_at, topics.c.id))


async def ended(tx: AsyncConnection, *, project: str | None = None, limit: int) -> Sequence[Topic]:
    """Return the topics that ended last, newest first."""
    query = select(topics).where(topics.c.state == "ended")
    if project is not None:
        query = query.where(topics.c.project == project)
    return await Topic.every(tx, query.order_by(topics.c.ended_at.desc(), topics.c.id).limit(limit))


async def ended_as(tx: AsyncConnection, detail: str, *, project: str | None = None) -> Sequence[Topic]:
    """Return the topics that ended and whose `detail` begins so, oldest first."""
    query = select(topics).where(topics.c.state == "ended", topics.c.detail.startswith(detail, autoescape=True))
    if project is not None:
        query = query.where(topics.c.project == project)
    return await Topic.every(tx, query.order_by(topics.c.ended_at, topics.c.id))


async def ended_before(tx: AsyncConnection, before: float) -> Sequence[Topic]:
    """Return the topics that ended before a time and were not forgotten, oldest first."""
    query = select(topics).where(topics.c.state == "ended", topics.c.ended_at < before)
    return await Topic.every(tx, query.order_by(topics.c.ended_at, topics.c.id))


async def forget(tx: AsyncConnection, topic_id: str) -> bool:
    """Begin to forget a topic that ended: what was said in it goes. Its name, thread, outcome and times stay.

    Returns:
        False if it has not ended, or this was done before.
    """
    return await change(tx, topic_id, only=["ended"], state="forgetting", title="", asked_by="", detail=None)


async def last_number(tx: AsyncConnection, project: str) -> int:
    """Return the highest number of a topic of this project; 0 if there is none."""
    found: int | None = await tx.scalar(select(func.max(topics.c.number)).where(topics.c.project == project))
    return found or 0


async def change(tx: AsyncConnection, topic_id: str, *, only: Collection[TopicState], **values: object) -> bool:
    """Set columns of a topic if it is in one of the states `only`. Return whether it was."""
    statement = update(topics).where(topics.c.id == topic_id, topics.c.state.in_(only))
    return (await tx.execute(statement.values(**values))).rowcount > 0


async def add_words(tx: AsyncConnection, words: TopicWords) -> bool:
    """Keep words for a topic that has not begun; once per id."""
    return await insert_once(tx, topic_words, **words.columns())


async def has_words(tx: AsyncConnection, topic_id: str) -> bool:
    """Return whether any words wait for a topic."""
    return await tx.scalar(select(topic_words.c.id).where(topic_words.c.topic == topic_id).limit(1)) is not None


async def take_words(tx: AsyncConnection, topic_id: str) -> Sequence[TopicWords]:
    """Return the words that wait for a topic, in their order, and forget them."""
    query = select(topic_words).where(topic_words.c.topic == topic_id).order_by(topic_words.c.seq)
    found = await TopicWords.every(tx, query)
    await tx.execute(delete(topic_words).where(topic_words.c.topic == topic_id))
    return found


async def withdraw_words(tx: AsyncConnection, connector: str, event_id: str) -> int:
    """Forget words that still wait, because their message was deleted. Return how many there were."""
    mine = (topic_words.c.connector == connector, topic_words.c.event_id == event_id)
    return (await tx.execute(delete(topic_words).where(*mine))).rowcount
