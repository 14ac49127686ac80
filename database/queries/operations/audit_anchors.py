"""What was signed of the audit log, and its lines with their digests.

Whoever can write in the register can write the chain again from any line on. An anchor is signed with a key outside of
the register, so up to it they cannot.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import BATCH
from database.queries.record import Record
from database.schema import audit, audit_anchors
from database.schema.audit_chain import BEGIN, digest

CHECKPOINT: Final = "checkpoint"
RETENTION: Final = "retention"

#: Lines of a page.
_PAGE: Final = 1000

#: Past SQLAlchemy's expressions, because every line that is written asks it. Lines without a digest come from an
#: earlier version that still ran.
_HEAD: Final = (
    "SELECT COALESCE((SELECT chain FROM audit WHERE chain IS NOT NULL ORDER BY seq DESC LIMIT 1),"
    " (SELECT chain FROM audit_anchors ORDER BY id DESC LIMIT 1))"
)


class Signer(Protocol):
    """The installation's key (`core.signing.signing_key`)."""

    @property
    def public(self) -> str: ...

    def sign(self, content: bytes) -> str: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditAnchor(Record):
    """A signed digest."""

    id: int
    kind: str
    at: float
    seq: int
    """The number of the line whose digest it is."""
    chain: str
    key: str
    """The public key that signed it."""
    signature: str

    @property
    def signed(self) -> bytes:
        """The bytes that the signature is of."""
        return _signed(self.kind, self.at, self.seq, self.chain)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainedLine:
    """A line of the audit with its digest."""

    seq: int
    chain: str | None
    """None: an earlier version of Muster wrote it, or somebody else."""
    columns: Mapping[str, Any]


async def head(tx: AsyncConnection) -> str:
    """Return the digest that the next line follows."""
    found: str | None = (await tx.exec_driver_sql(_HEAD)).scalar_one()
    return found or BEGIN


async def head_at(tx: AsyncConnection, at: float) -> str | None:
    """Return the digest of the newest line that was written at this time or before; None: there is none."""
    newest = select(audit.c.chain).where(audit.c.at <= at, audit.c.chain.is_not(None))
    found: str | None = await tx.scalar(newest.order_by(audit.c.seq.desc()).limit(1))
    return found


async def every(tx: AsyncConnection) -> list[AuditAnchor]:
    """Return all anchors, oldest first."""
    return await AuditAnchor.every(tx, select(audit_anchors).order_by(audit_anchors.c.id))


async def lines(tx: AsyncConnection, *, after: int = -1) -> AsyncIterator[ChainedLine]:
    """Yield all lines of the audit behind a number, oldest first."""
    while True:
        page = (await tx.execute(select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(_PAGE))).all()
        for row in page:
            after = row.seq
            yield ChainedLine(seq=row.seq, chain=row.chain, columns=dict(row._mapping))
        if len(page) < _PAGE:
            return


async def adopt(tx: AsyncConnection) -> None:
    """Chain the lines that an earlier version wrote after the migration, if nothing was signed yet.

    While Muster is updated, the earlier version goes on writing for a moment. Later such lines stay, and are reported.
    """
    first = select(audit.c.seq).where(audit.c.chain.is_(None)).order_by(audit.c.seq).limit(1)
    begin = await tx.scalar(first)
    if begin is None or await tx.scalar(select(audit_anchors.c.id).limit(1)) is not None:
        return
    last = select(audit.c.chain).where(audit.c.seq < begin).order_by(audit.c.seq.desc()).limit(1)
    before = await tx.scalar(last) or BEGIN
    chained = update(audit).where(audit.c.seq == bindparam("line")).values(chain=bindparam("digest"))
    async for line in lines(tx, after=begin - 1):
        before = digest(before, line.columns)
        await tx.execute(chained, {"line": line.seq, "digest": before})


async def checkpoint(tx: AsyncConnection, signer: Signer, at: float) -> None:
    """Sign the newest line, unless that was done."""
    newest = (
        await tx.execute(
            select(audit.c.seq, audit.c.chain).where(audit.c.chain.is_not(None)).order_by(audit.c.seq.desc()).limit(1)
        )
    ).one_or_none()
    last = await tx.scalar(select(audit_anchors.c.seq).order_by(audit_anchors.c.id.desc()).limit(1))
    if newest is not None and newest.seq != last:
        await _add(tx, signer, CHECKPOINT, at, newest.seq, newest.chain)


async def forget(tx: AsyncConnection, before: float, *, signer: Signer, now: float) -> int:
    """Delete the first lines as long as they are older than `before`, a batch of them; return how many.

    A signed anchor takes their place. A line behind a newer one stays as long as that one, so that the chain has no
    gaps.
    """
    first_kept = select(audit.c.seq).where(audit.c.at >= before).order_by(audit.c.seq).limit(1).scalar_subquery()
    kept = await tx.scalar(select(first_kept))
    old = select(audit.c.seq, audit.c.chain).order_by(audit.c.seq).limit(BATCH)
    rows = (await tx.execute(old if kept is None else old.where(audit.c.seq < kept))).all()
    if not rows:
        return 0
    last = rows[-1].seq
    chain = next((row.chain for row in reversed(rows) if row.chain is not None), None)
    if chain is not None:
        await tx.execute(delete(audit_anchors).where(audit_anchors.c.seq <= last))
        await _add(tx, signer, RETENTION, now, last, chain)
    await tx.execute(delete(audit).where(audit.c.seq <= last))
    return len(rows)


async def _add(tx: AsyncConnection, signer: Signer, kind: str, at: float, seq: int, chain: str) -> None:
    values = {"kind": kind, "at": at, "seq": seq, "chain": chain, "key": signer.public}
    await tx.execute(insert(audit_anchors).values(**values, signature=signer.sign(_signed(kind, at, seq, chain))))


def _signed(kind: str, at: float, seq: int, chain: str) -> bytes:
    return json.dumps(["muster audit anchor 1", kind, repr(float(at)), seq, chain], separators=(",", ":")).encode()
