"""Who did what, from where, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.store import insert_once
from database.queries.operations import audit_anchors
from database.queries.record import Record
from database.schema import audit
from database.schema.audit_chain import digest


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRow(Record):
    seq: int
    at: float
    identity: str
    #: the group by which they were allowed to, such as ``discord:role:123``; null where they themselves were
    through: str | None
    door: str
    connector: str | None
    conversation: str | None
    action: str
    arguments: Mapping[str, Any]
    #: done, refused, failed, lapsed, answered or expired
    outcome: str
    detail: str | None


async def add(
    tx: AsyncConnection,
    *,
    key: str,
    at: float,
    identity: str,
    door: str,
    action: str,
    outcome: str,
    through: str | None = None,
    connector: str | None = None,
    conversation: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    detail: str | None = None,
) -> bool:
    """Write one line; False, and nothing is changed, when `key` was written before. Redaction is the caller's."""
    stamps = tx.sync_connection.get_execution_options() if tx.sync_connection is not None else {}
    line: dict[str, Any] = {
        "key": key,
        "at": at,
        "identity": identity,
        "through": through,
        "door": door,
        "connector": connector,
        "conversation": conversation,
        "action": action,
        # As it is read back: keys are text, for example.
        "arguments": json.loads(json.dumps(dict(arguments or {}))),
        "outcome": outcome,
        "detail": detail,
        "tenant_id": stamps["tenant_id"],
        "host": stamps["host"],
    }
    # Nobody else writes until this transaction ends, so the newest line stays the newest.
    before = await audit_anchors.head(tx)
    return await insert_once(tx, audit, **line, chain=digest(before, line))


async def since(tx: AsyncConnection, at: float, *, limit: int) -> list[AuditRow]:
    """Return the newest `limit` lines written at or after `at`, oldest first."""
    newest = select(audit).where(audit.c.at >= at).order_by(audit.c.seq.desc()).limit(limit)
    return (await AuditRow.every(tx, newest))[::-1]


async def before(tx: AsyncConnection, seq: int | None, *, limit: int) -> list[AuditRow]:
    """Return the newest `limit` lines before a number, or of all, newest first."""
    older = select(audit) if seq is None else select(audit).where(audit.c.seq < seq)
    return await AuditRow.every(tx, older.order_by(audit.c.seq.desc()).limit(limit))


async def of_action(tx: AsyncConnection, action: str, at: float, *, limit: int) -> list[AuditRow]:
    """Return the newest `limit` lines about this action that were written at or after `at`, newest first."""
    newest = select(audit).where(audit.c.at >= at, audit.c.action == action).order_by(audit.c.seq.desc()).limit(limit)
    return await AuditRow.every(tx, newest)


async def of_actions(tx: AsyncConnection, actions: Sequence[str], at: float, *, limit: int) -> list[AuditRow]:
    """Return the newest `limit` lines about these actions that were written at or after `at`, newest first."""
    where = (audit.c.at >= at, audit.c.action.in_(actions))
    # In the order of time, because by number all of the audit would be read where such actions are rare.
    newest = select(audit).where(*where).order_by(audit.c.at.desc(), audit.c.seq.desc()).limit(limit)
    return await AuditRow.every(tx, newest)
