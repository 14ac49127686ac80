"""Approval rules given by command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.queries.record import Record
from database.schema import approval_rules


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleRow(Record):
    """One rule, as fleet.approval_rules.rules knows it, and who added it."""

    id: str
    effect: str
    kind: str
    scope: str
    command: str | None
    match: str
    paths: Sequence[str]
    tool: str | None
    #: The rule's `host`; every row's own `host` is the machine.
    url_host: str | None
    sandbox_only: bool
    #: Unix time at which it ends; None: it does not.
    until: float | None
    added_by: str
    added_at: float


async def every(tx: AsyncConnection, now: float) -> list[RuleRow]:
    """Return the rules that have not ended, in the order in which they were added."""
    holds = or_(approval_rules.c.until.is_(None), approval_rules.c.until > now)
    order = (approval_rules.c.added_at, approval_rules.c.id)
    return await RuleRow.every(tx, select(approval_rules).where(holds).order_by(*order))


async def get(tx: AsyncConnection, rule_id: str) -> RuleRow | None:
    return await RuleRow.one(tx, select(approval_rules).where(approval_rules.c.id == rule_id))


async def add(tx: AsyncConnection, row: RuleRow) -> bool:
    """Add a rule; False, and nothing is changed, if there is one of its id."""
    return await insert_once(tx, approval_rules, **row.columns())


async def remove(tx: AsyncConnection, rule_id: str) -> bool:
    """Remove a rule; False if there is none of this id."""
    return (await tx.execute(delete(approval_rules).where(approval_rules.c.id == rule_id))).rowcount > 0


async def forget(tx: AsyncConnection, before: float) -> int:
    """Remove the rules that ended before `before`; return how many."""
    return (await tx.execute(delete(approval_rules).where(approval_rules.c.until < before))).rowcount
