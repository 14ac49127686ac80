"""Approval rules given by command, and what rules see of a permission request."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, Boolean, Column, Float

from database.schema.text_types import PeopleText, String

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.add_column("approvals", Column("facts", JSON))
    op.add_column("approvals", Column("together", JSON))
    op.create_table(
        "approval_rules",
        Column("id", String, primary_key=True),
        Column("effect", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("scope", String, nullable=False),
        Column("command", PeopleText),
        Column("match", String, nullable=False),
        Column("paths", JSON, nullable=False),
        Column("tool", String),
        Column("url_host", String),
        Column("sandbox_only", Boolean, nullable=False),
        Column("until", Float),
        Column("added_by", String, nullable=False),
        Column("added_at", Float, nullable=False),
        Column("tenant_id", String, nullable=False),
        Column("host", String, nullable=False),
    )
