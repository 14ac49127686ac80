"""Turns are taken by weighted fair queueing: what operators owed before they go on owing, at normal urgency."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from database.schema.text_types import String

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "fair_queues",
        sa.Column("queue", String(), nullable=False),
        sa.Column("ahead", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_fair_queues")),
    )
    op.add_column("tasks", sa.Column("weight", sa.Float()))
    op.add_column("tasks", sa.Column("saves_from", sa.Float()))
    # Flows of an operator's roles have a space in their names; those of an operator have none.
    # Charges of normal urgency are divided by 4.
    op.execute(
        "INSERT INTO fair_queues (queue, ahead, updated_at, tenant_id, host) "
        "SELECT 'normal ' || flow, -deficit / 4.0, updated_at, tenant_id, host FROM fair_shares "
        "WHERE deficit < 0 AND flow NOT LIKE '% %'"
    )
    op.drop_table("fair_shares")
