"""What every look at the pace asks for is found at once: the newest of each quota, and what an agent waits for."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_index("ix_quota_history_place", "quota_history", ["account", "window", "seq"])
    op.create_index("ix_authorizations_ended", "authorizations", ["ended_at"])
    op.create_index("ix_tasks_agent", "tasks", ["agent", "state"])
