"""Runs of agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from database.schema.text_types import PeopleText, String

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", String(), nullable=False),
        sa.Column("source", String(), nullable=False),
        sa.Column("reference", String()),
        sa.Column("agent", String(), nullable=False),
        sa.Column("role", String(), nullable=False),
        sa.Column("prompt", PeopleText(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("color", String()),
        sa.Column("resumes", sa.Boolean(), nullable=False),
        sa.Column("asked_by", String(), nullable=False),
        sa.Column("connector", String(), nullable=False),
        sa.Column("room", String(), nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("ending", String()),
        sa.Column("detail", PeopleText()),
        sa.Column("message", String(), nullable=False),
        sa.Column("answer", PeopleText()),
        sa.Column("timeout_s", sa.Float()),
        sa.Column("deadline", sa.Float()),
        sa.Column("look_at", sa.Float()),
        sa.Column("tokens", sa.Float()),
        sa.Column("usd", sa.Float()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float()),
        sa.Column("turn_ended_at", sa.Float()),
        sa.Column("ended_at", sa.Float()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_index("ix_runs_state", "runs", ["state", "created_at"])
    op.create_index("ix_runs_agent", "runs", ["agent"])
    op.create_index("ix_runs_message", "runs", ["message"])
    op.create_index("uq_runs_reference", "runs", ["source", "reference"], unique=True)
