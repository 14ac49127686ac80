"""Permission requests of runtimes, their answers, and what was allowed for always."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import approvals, grants


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval(Record):
    """One request. It is bound to the incarnation of the agent host, the session, the request's id and its digest."""

    id: str
    agent: str
    incarnation: int
    session: str
    request: str
    digest: str
    title: str
    detail: str
    #: As the runtime offers them: ``id``, ``name``, ``kind``.
    options: Sequence[Mapping[str, str]]
    #: pending, answering, answered, expired or withdrawn
    state: str
    outbox_key: str
    asked_at: float
    expires_at: float
    #: ``option`` (null: deny), ``always``, ``by``, ``source``
    answer: Mapping[str, Any] | None = None
    answered_at: float | None = None
    outcome: str | None = None
    #: What approval rules see of it (fleet.approval_rules.requests), and ``sandboxed``, whether its agent runs in a
    #: sandbox; None: they can tell nothing.
    facts: Mapping[str, Any] | None = None
    #: Ids of the requests of the agent that its message lists as well.
    together: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant(Record):
    id: str
    agent: str
    digest: str
    title: str
    detail: str
    granted_by: str
    granted_at: float
    revoked_by: str | None = None
    revoked_at: float | None = None
    #: Whether the agent host knows of the latest change.
    held: bool = False


async def add(tx: AsyncConnection, approval: Approval) -> bool:
    return await insert_once(tx, approvals, **approval.columns())


async def get(tx: AsyncConnection, approval_id: str) -> Approval | None:
    return await Approval.one(tx, select(approvals).where(approvals.c.id == approval_id))


async def by_outbox_key(tx: AsyncConnection, key: str) -> Approval | None:
    return await Approval.one(tx, select(approvals).where(approvals.c.outbox_key == key))


async def by_request(tx: AsyncConnection, agent: str, incarnation: int, request: str) -> Approval | None:
    where = (approvals.c.agent == agent, approvals.c.incarnation == incarnation, approvals.c.request == request)
    return await Approval.one(tx, select(approvals).where(*where))


async def always_answered(tx: AsyncConnection, agent: str, digest: str) -> Approval | None:
    """Return the newest request of an agent with this digest that an operator allowed for always."""
    where = (approvals.c.agent == agent, approvals.c.digest == digest, approvals.c.answer.is_not(None))
    for approval in await Approval.every(tx, select(approvals).where(*where).order_by(approvals.c.asked_at.desc())):
        if approval.answer and approval.answer.get("always"):
            return approval
    return None


async def in_states(tx: AsyncConnection, states: Sequence[str], *, agent: str | None = None) -> list[Approval]:
    statement = select(approvals).where(approvals.c.state.in_(states)).order_by(approvals.c.asked_at)
    if agent is not None:
        statement = statement.where(approvals.c.agent == agent)
    return await Approval.every(tx, statement)


async def asked_since(tx: AsyncConnection, since: float, limit: int) -> list[Approval]:
    """Return the requests of runtimes that operators were asked since `since`, the newest first, at most `limit`."""
    # What Muster itself asks belongs to no incarnation.
    where = (approvals.c.asked_at >= since, approvals.c.incarnation > 0)
    statement = select(approvals).where(*where).order_by(approvals.c.asked_at.desc())
    return await Approval.every(tx, statement.limit(limit))


async def change(tx: AsyncConnection, approval_id: str, *, only: Sequence[str], **values: object) -> bool:
    """Set columns of a request that is in one of the states `only`; False when it is in none of them."""
    where = (approvals.c.id == approval_id, approvals.c.state.in_(only))
    return (await tx.execute(update(approvals).where(*where).values(**values))).rowcount > 0


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete requests that are over and were asked before `before`, a batch of them; return how many."""
    where = (approvals.c.state.not_in(["pending", "answering"]), approvals.c.asked_at < before)
    return await delete_some(tx, approvals, *where)


async def add_grant(tx: AsyncConnection, grant: Grant) -> bool:
    return await insert_once(tx, grants, **grant.columns())


async def list_grants(tx: AsyncConnection, *, agent: str | None = None, standing: bool = True) -> list[Grant]:
    statement = select(grants).order_by(grants.c.granted_at)
    if agent is not None:
        statement = statement.where(grants.c.agent == agent)
    if standing:
        statement = statement.where(grants.c.revoked_at.is_(None))
    return await Grant.every(tx, statement)


async def get_grant(tx: AsyncConnection, grant_id: str) -> Grant | None:
    return await Grant.one(tx, select(grants).where(grants.c.id == grant_id))


async def change_grant(tx: AsyncConnection, grant_id: str, **values: object) -> None:
    await tx.execute(update(grants).where(grants.c.id == grant_id).values(**values))
