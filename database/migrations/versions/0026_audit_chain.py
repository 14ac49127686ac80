"""Each line of the audit has a digest of itself and of the line before, and anchors are signed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from database.schema.audit_chain import BEGIN, COVERED, digest
from database.schema.table_base import Counter
from database.schema.text_types import String

revision = "0026"
down_revision = "0024"

_PAGE = 1000


def upgrade() -> None:
    op.add_column("audit", sa.Column("chain", String))
    op.create_table(
        "audit_anchors",
        sa.Column("id", Counter, primary_key=True, autoincrement=True),
        sa.Column("kind", String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("chain", String, nullable=False),
        sa.Column("key", String, nullable=False),
        sa.Column("signature", String, nullable=False),
        sa.Column("tenant_id", String, nullable=False),
        sa.Column("host", String, nullable=False),
    )
    types: dict[str, sa.types.TypeEngine[Any]] = {"at": sa.Float(), "arguments": sa.JSON()}
    columns: list[sa.ColumnClause[Any]] = [sa.column(name, types.get(name, sa.String())) for name in COVERED]
    audit = sa.table("audit", sa.column("seq", sa.BigInteger()), sa.column("chain", sa.String()), *columns)
    connection = op.get_bind()
    after, before = -1, BEGIN
    chained = audit.update().where(audit.c.seq == sa.bindparam("line")).values(chain=sa.bindparam("digest"))
    while True:
        page = connection.execute(
            sa.select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(_PAGE)
        ).all()  # fmt: skip
        digests = []
        for row in page:
            before = digest(before, dict(row._mapping))
            digests.append({"line": row.seq, "digest": before})
            after = row.seq
        if digests:
            connection.execute(chained, digests)
        if len(page) < _PAGE:
            return
