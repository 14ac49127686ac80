"""Gathers pages of the audit log, and checks it."""

from __future__ import annotations

import re
from typing import Final

from bot.agents.services import AgentServices
from bot.monitoring.audit_view import arguments
from bot.read_models.audit import AuditEntry, AuditModel, AuditProblem, AuditVerification
from bot.text.errors import UserError
from core.signing.signing_key import SigningKey, is_public_key
from database.queries.operations import audit_anchors, audit_log
from database.queries.operations.audit_log import AuditRow
from database.queries.operations.audit_verification import AuditCheck

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


async def verify(services: AgentServices, key: str | None = None) -> AuditVerification:
    """Read the whole audit log, and return what is wrong with it.

    Args:
        services: the register, and the place of this installation's key.
        key: other public keys that may have signed it, with commas between them.

    Raises:
        UserError: one of them is no public key.
        SigningKeyUnusable: this installation's key cannot be read.
        RegisterError: the register cannot be used.
    """
    others = [] if key is None else [each.strip() for each in key.split(",")]
    for each in others:
        if not is_public_key(each):
            raise UserError(
                f"{each[:80]!r} is no public key. It begins with ed25519:, and `audit verify` shows it there.",
                code="signing_key.invalid",
            )
    ours = SigningKey.at(services.paths.signing_key)
    async with services.store.read() as tx:
        anchors = await audit_anchors.every(tx)
        check = AuditCheck(anchors, {ours.public, *others})
        async for line in audit_anchors.lines(tx):
            check.line(line)
    check.end()
    return AuditVerification(
        lines=check.lines,
        signatures=len(anchors),
        signed_at=anchors[-1].at if anchors else None,
        begins_at=check.begins_at,
        head=check.head,
        key=ours.public,
        faults=tuple(AuditProblem(code=each.code, seq=each.seq, at=each.at, key=each.key) for each in check.faults),
        more_faults=check.more_faults,
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
