"""How far what happened was sent to the collector of traces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from database.schema.text_types import String

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.create_table(
        "trace_positions",
        sa.Column("source", String(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_trace_positions")),
    )
    op.create_table(
        "trace_waiting",
        sa.Column("source", String(), nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("source", "place", name=op.f("pk_trace_waiting")),
    )
    # A request to a model names its turn, and the turn's message is looked up.
    op.create_index("ix_agent_messages_turn", "agent_messages", ["agent", "turn"])
