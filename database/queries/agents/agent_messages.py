"""Messages to agents, from the operator's words to the end of the turn that they caused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.id_batches import batches
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import agent_messages, approvals, grants

#: States from which a message goes on by itself.
UNDERWAY = ("pending", "journaled", "accepted")
#: States in which an operator may want to send it again.
STRANDED = ("dead", "failed", "uncertain")
#: So many of the newest messages are looked through for turns that failed lately.
_LOOKED_THROUGH = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentMessage(Record):
    id: str
    agent: str
    #: queue or steer
    mode: str
    text: str
    #: References to pictures: what `connectors.contract.messages.Attachment` holds, with the `path` once fetched.
    attachments: Sequence[Mapping[str, Any]]
    sender: str
    connector: str | None
    conversation: str | None
    event_id: str | None
    answer_in: str | None
    #: pending, journaled, accepted, finished, failed, uncertain, withdrawing, withdrawn, dead or retried
    state: str
    turn: str | None
    detail: str | None
    created_at: float
    updated_at: float
    give_up_at: float
    seq: int = 0


async def add(tx: AsyncConnection, message: AgentMessage) -> bool:
    """Put a message on its way; False when its id is known already, and then nothing is changed."""
    values = {name: getattr(message, name) for name in AgentMessage.__dataclass_fields__ if name != "seq"}
    return await insert_once(tx, agent_messages, **values)


async def get(tx: AsyncConnection, message_id: str) -> AgentMessage | None:
    return await AgentMessage.one(tx, select(agent_messages).where(agent_messages.c.id == message_id))


async def agents_of(tx: AsyncConnection, ids: Iterable[str]) -> dict[str, str]:
    """Return the agent that each of these messages went to; those that there are not are missing."""
    found: dict[str, str] = {}
    query = select(agent_messages.c.id, agent_messages.c.agent)
    for some in batches(ids):
        found |= {row[0]: row[1] for row in await tx.execute(query.where(agent_messages.c.id.in_(some)))}
    return found


async def by_event(tx: AsyncConnection, connector: str, event_id: str) -> list[AgentMessage]:
    """Return the messages to agents that one chat event caused (more than one after a retry)."""
    table = agent_messages
    found = select(table).where(table.c.connector == connector, table.c.event_id == event_id).order_by(table.c.seq)
    return await AgentMessage.every(tx, found)


async def of_turn(tx: AsyncConnection, agent: str, turn: str) -> list[AgentMessage]:
    """Return the messages that a turn of an agent is about, the newest first."""
    table = agent_messages
    found = select(table).where(table.c.agent == agent, table.c.turn == turn).order_by(table.c.seq.desc())
    return await AgentMessage.every(tx, found)


async def in_states(
    tx: AsyncConnection, states: Sequence[str], *, agent: str | None = None, limit: int = 1000
) -> list[AgentMessage]:
    table = agent_messages
    statement = select(table).where(table.c.state.in_(states)).order_by(table.c.seq).limit(limit)
    if agent is not None:
        statement = statement.where(table.c.agent == agent)
    return await AgentMessage.every(tx, statement)


async def stranded(tx: AsyncConnection, *, begins: str = "", limit: int = 200) -> list[AgentMessage]:
    """Messages that an operator may want to send again, newest first; those whose ids begin so."""
    table = agent_messages
    where = (table.c.state.in_(STRANDED), table.c.id.startswith(begins, autoescape=True))
    found = select(table).where(*where).order_by(table.c.seq.desc()).limit(limit)
    return await AgentMessage.every(tx, found)


async def erring(tx: AsyncConnection, *, since: float, begins: str) -> dict[str, tuple[float, str]]:
    """Agents whose last turn since then failed, with when it ended and the reason.

    Args:
        since: seconds since the epoch.
        begins: with this the reasons begin that are meant.
    """
    table = agent_messages
    newest = select(func.max(table.c.seq)).scalar_subquery()
    where = (
        table.c.seq > newest - _LOOKED_THROUGH,
        table.c.state.in_(("finished", "failed")),
        table.c.turn.is_not(None),
        table.c.updated_at >= since,
    )
    columns = (table.c.agent, table.c.state, table.c.updated_at, table.c.detail)
    found = await tx.execute(select(*columns).where(*where).order_by(table.c.updated_at))
    last = {agent: (state, at, detail or "") for agent, state, at, detail in found}
    failed = ((agent, at, detail) for agent, (state, at, detail) in last.items() if state == "failed")
    return {agent: (at, detail.removeprefix(begins)) for agent, at, detail in failed if detail.startswith(begins)}


async def failures(tx: AsyncConnection, agent: str, *, since: float) -> list[str]:
    """Return why turns of this agent failed that ended since then (seconds since the epoch), the newest first."""
    table = agent_messages
    where = (table.c.agent == agent, table.c.state == "failed", table.c.turn.is_not(None), table.c.updated_at >= since)
    found = select(table.c.detail).where(*where).order_by(table.c.seq.desc()).limit(_LOOKED_THROUGH)
    return [detail or "" for detail in await tx.scalars(found)]


async def waited_for(tx: AsyncConnection) -> frozenset[str]:
    """Return the agents to which a message, an answer or a revocation is to be brought."""
    table = agent_messages
    messages = select(table.c.agent).where(table.c.state.in_(("pending", "withdrawing")))
    answers = select(approvals.c.agent).where(approvals.c.state == "answering")
    revocations = select(grants.c.agent).where(grants.c.revoked_at.is_not(None), grants.c.held.is_(False))
    return frozenset(await tx.scalars(union(messages, answers, revocations)))


async def edit(tx: AsyncConnection, message_id: str, text: str, *, only: Sequence[str], now: float) -> bool:
    """Give a message another text, if it is in one of these states. False: it is not."""
    return await change(tx, message_id, now=now, only=only, text=text)


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete messages that go nowhere and of which nothing was heard since `before`, a batch; return how many."""
    table = agent_messages
    going = (*UNDERWAY, "withdrawing")
    where = (table.c.state.not_in(going), table.c.updated_at < before)
    return await delete_some(tx, table, *where)


async def revive(tx: AsyncConnection, message_id: str, *, now: float, give_up_at: float) -> bool:
    """Put a dead letter on its way again, under its own id, until `give_up_at`. False: it is not dead."""
    return await change(tx, message_id, now=now, only=("dead",), state="pending", detail=None, give_up_at=give_up_at)


async def prolong(tx: AsyncConnection, agent: str, *, until: float) -> None:
    """Give what waits for an agent time until then, where it has less."""
    table = agent_messages
    where = (table.c.agent == agent, table.c.state == "pending", table.c.give_up_at < until)
    await tx.execute(update(table).where(*where).values(give_up_at=until))


async def change(
    tx: AsyncConnection,
    message_id: str,
    *,
    now: float,
    unless: Sequence[str] = (),
    only: Sequence[str] = (),
    **values: object,
) -> bool:
    """Set columns of a message, unless it is in one of the states `unless`, and only if it is in one of `only`."""
    table = agent_messages
    statement = update(table).where(table.c.id == message_id)
    if unless:
        statement = statement.where(table.c.state.not_in(unless))
    if only:
        statement = statement.where(table.c.state.in_(only))
    return (await tx.execute(statement.values(updated_at=now, **values))).rowcount > 0
