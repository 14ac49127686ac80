"""Agents that stopped at a limit, and when they go on."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import agent_messages, continuations, ledger

#: So begins the detail of one that was stopped at its pace, and by no limit.
AHEAD = "ahead of its pace"


@dataclass(frozen=True, kw_only=True, slots=True)
class Continuation(Record):
    """An agent goes on at `resume_at`, under the launch that it had when it stopped."""

    id: str
    agent: str
    launch_id: str
    #: The window or limit that stopped it.
    scope: str
    stopped_at: float
    #: None: it is not known yet when it may.
    resume_at: float | None
    #: waiting, done or dropped
    state: str
    detail: str | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether the pace stopped it, so that leave lets it go on."""
        return (self.detail or "").startswith(AHEAD)


async def add(tx: AsyncConnection, continuation: Continuation) -> bool:
    """Write that an agent is to go on; False, and nothing is changed, when that is known."""
    return await insert_once(tx, continuations, **continuation.columns())


async def get(tx: AsyncConnection, continuation_id: str) -> Continuation | None:
    return await Continuation.one(tx, select(continuations).where(continuations.c.id == continuation_id))


async def waiting(tx: AsyncConnection, *, agent: str | None = None) -> list[Continuation]:
    """Return those that are still to come, the earliest first."""
    statement = select(continuations).where(continuations.c.state == "waiting")
    if agent is not None:
        statement = statement.where(continuations.c.agent == agent)
    found = await Continuation.every(tx, statement)
    return sorted(found, key=lambda each: (each.resume_at is None, each.resume_at or 0.0, each.stopped_at, each.id))


async def met_since(tx: AsyncConnection, agent: str, since: float) -> Continuation | None:
    """Return the last limit that an agent met since then, or None. It does not matter whether the agent goes on."""
    those = (continuations.c.agent == agent, continuations.c.stopped_at >= since)
    query = select(continuations).where(*those).order_by(continuations.c.stopped_at.desc(), continuations.c.id).limit(1)
    return await Continuation.one(tx, query)


async def change(tx: AsyncConnection, continuation_id: str, **values: object) -> bool:
    """Set columns of one that is still to come; False when it is not."""
    where = (continuations.c.id == continuation_id, continuations.c.state == "waiting")
    return (await tx.execute(update(continuations).where(*where).values(**values))).rowcount > 0


async def drop(tx: AsyncConnection, agent: str, why: str) -> int:
    """Let an agent not go on by itself: a person saw to it meanwhile. Says how many there were."""
    where = (continuations.c.agent == agent, continuations.c.state == "waiting")
    return (await tx.execute(update(continuations).where(*where).values(state="dropped", detail=why))).rowcount


async def told_since(tx: AsyncConnection, agent: str, since: float) -> int:
    """Return how often an agent that stopped since then was told to go on."""
    those = (continuations.c.agent == agent, continuations.c.state == "done", continuations.c.stopped_at >= since)
    return int(await tx.scalar(select(func.count()).select_from(continuations).where(*those)) or 0)


async def turn_ended(tx: AsyncConnection, agent: str, since: float) -> str | None:
    """Return the message of the last turn of an agent that ended since then; None: none did."""
    table = agent_messages
    those = (
        table.c.agent == agent,
        table.c.state.in_(("finished", "failed", "uncertain")),
        table.c.updated_at >= since,
    )
    found: str | None = await tx.scalar(select(table.c.id).where(*those).order_by(table.c.updated_at.desc()).limit(1))
    return found


async def went_on(tx: AsyncConnection, agent: str, since: float) -> bool:
    """Return whether a model answered an agent on a request that began after then."""
    # It ended later, too, and that is what the ledger has an index of.
    those = (ledger.c.agent == agent, ledger.c.ended_at > since, ledger.c.started_at > since, ledger.c.status < 400)
    return await tx.scalar(select(ledger.c.id).where(*those).limit(1)) is not None


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete those that are over and stopped before `before`; says how many."""
    where = (continuations.c.state != "waiting", continuations.c.stopped_at < before)
    return await delete_some(tx, continuations, *where)
