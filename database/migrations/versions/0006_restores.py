"""When a register came out of a backup."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "restores",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("restored_at", sa.Float(), nullable=False),
        sa.Column("backup_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restores")),
    )
