"""Tasks that ended lately are found however many ended before."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_index("ix_tasks_ended", "tasks", ["ended_at"])
