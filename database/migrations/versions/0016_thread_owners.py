"""Whose the threads are that Muster opens; tasks have threads, too."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, PrimaryKeyConstraint

from database.schema.text_types import String

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "thread_owners",
        Column("thread", String, nullable=False),
        Column("kind", String, nullable=False),
        Column("owner", String, nullable=False),
        Column("tenant_id", String, nullable=False),
        Column("host", String, nullable=False),
        PrimaryKeyConstraint("thread", name=op.f("pk_thread_owners")),
    )
    op.add_column("tasks", Column("thread_key", String))
