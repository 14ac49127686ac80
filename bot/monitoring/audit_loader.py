"""Gathers pages of the audit log."""

from __future__ import annotations

import re
from typing import Final

from bot.agents.services import AgentServices
from bot.monitoring.audit_view import arguments
from bot.read_models.audit import AuditEntry, AuditModel
from bot.text.errors import UserError
from database.queries.operations import audit_log
from database.queries.operations.audit_log import AuditRow

#: Rows of a page.
_PAGE: Final = 100


async def load(services: AgentServices, before: str | None = None) -> AuditModel:
    """Return the newest page, or the one before a place.

    Raises:
        UserError: there is no such place.
        RegisterError: the register cannot be used.
    """
    if before is not None and not re.fullmatch(r"[0-9]{1,18}", before):
        raise UserError("The audit log has no such place. Take `before` from a page of it.", code="document.place")
    async with services.store.read(snapshot=False) as tx:
        rows = await audit_log.before(tx, None if before is None else int(before), limit=_PAGE + 1)
    return AuditModel(
        entries=tuple(_entry(row) for row in rows[:_PAGE]),
        before=str(rows[_PAGE - 1].seq) if len(rows) > _PAGE else None,
    )


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        seq=row.seq,
        at=row.at,
        identity=row.identity,
        through=row.through,
        door=row.door,
        connector=row.connector,
        action=row.action,
        arguments=arguments(row),
        outcome=row.outcome,
        detail=row.detail,
    )
