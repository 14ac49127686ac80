"""Browsers that are logged in to the dashboard."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from database.schema.text_types import String

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("id", String(), nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("code_hash", String(), nullable=False),
        sa.Column("token_hash", String(), nullable=False),
        sa.Column("address", String(), nullable=False),
        sa.Column("browser", String(), nullable=False),
        sa.Column("identity", String()),
        sa.Column("control", sa.Boolean(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("opened_at", sa.Float()),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("ended_by", String()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_web_sessions")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_web_sessions_token_hash")),
    )
    op.create_index("ix_web_sessions_code", "web_sessions", ["code_hash"])
    op.create_index("ix_web_sessions_state", "web_sessions", ["state"])
