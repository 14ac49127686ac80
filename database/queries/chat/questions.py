"""What is asked of operators besides permissions, and what they answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import questions


@dataclass(frozen=True, kw_only=True, slots=True)
class Question(Record):
    """One question, in the thread of the agent that it is about, or where a task was asked for."""

    id: str
    #: Who asks, and takes the answer: runaway, task or held.
    kind: str
    #: Empty: it is about no agent.
    agent: str
    task: str | None
    outbox_key: str
    #: ``mark``, ``word`` and ``label`` of each
    choices: Sequence[Mapping[str, str]]
    #: pending, answered or withdrawn
    state: str
    asked_at: float
    #: The word that was chosen.
    answer: str | None = None
    answered_by: str | None = None
    answered_at: float | None = None

    @property
    def subject(self) -> str:
        """The agent that it is about, or the task where it is about no agent."""
        return self.agent or self.task or ""

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(choice["word"] for choice in self.choices)


async def add(tx: AsyncConnection, question: Question) -> bool:
    """Write a question; False, and nothing is changed, when it is known."""
    return await insert_once(tx, questions, **question.columns())


async def get(tx: AsyncConnection, question_id: str) -> Question | None:
    return await Question.one(tx, select(questions).where(questions.c.id == question_id))


async def begins(tx: AsyncConnection, prefix: str) -> list[Question]:
    """Return those whose id begins so; those that wait first."""
    found = select(questions).where(questions.c.id.startswith(prefix, autoescape=True))
    rows = await Question.every(tx, found.order_by(questions.c.asked_at).limit(20))
    return sorted(rows, key=lambda row: row.state != "pending")


async def by_outbox_key(tx: AsyncConnection, key: str) -> Question | None:
    return await Question.one(tx, select(questions).where(questions.c.outbox_key == key))


async def pending(tx: AsyncConnection, *, kind: str | None = None, agent: str | None = None) -> list[Question]:
    """Return those that wait for an answer, the oldest first."""
    statement = select(questions).where(questions.c.state == "pending").order_by(questions.c.asked_at)
    if kind is not None:
        statement = statement.where(questions.c.kind == kind)
    if agent is not None:
        statement = statement.where(questions.c.agent == agent)
    return await Question.every(tx, statement)


async def answered(tx: AsyncConnection, *, kind: str, since: float) -> list[Question]:
    """Return those of a kind that were answered since then, the oldest first."""
    those = (questions.c.state == "answered", questions.c.kind == kind, questions.c.answered_at >= since)
    found = select(questions).where(*those).order_by(questions.c.answered_at)
    return await Question.every(tx, found)


async def close(tx: AsyncConnection, question_id: str, **values: object) -> bool:
    """Set columns of a question that waits; False when it does not."""
    where = (questions.c.id == question_id, questions.c.state == "pending")
    return (await tx.execute(update(questions).where(*where).values(**values))).rowcount > 0


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete questions that are over and were asked before `before`, a batch of them; return how many."""
    where = (questions.c.state != "pending", questions.c.asked_at < before)
    return await delete_some(tx, questions, *where)
