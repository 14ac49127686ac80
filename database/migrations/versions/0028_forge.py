"""Issues of a forge that become pull requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from database.schema.table_base import Counter
from database.schema.text_types import PeopleText, String

revision = "0028"
down_revision = "0026"


def upgrade() -> None:
    op.create_table(
        "forge_events",
        sa.Column("seq", Counter, nullable=False, autoincrement=True),
        sa.Column("forge", String(), nullable=False),
        sa.Column("delivery", String(), nullable=False),
        sa.Column("name", String(), nullable=False),
        sa.Column("repository", String(), nullable=False),
        sa.Column("number", sa.BigInteger()),
        sa.Column("sha", String()),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("handled_at", sa.Float()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_forge_events")),
    )
    op.create_index("ix_forge_events_handled", "forge_events", ["handled_at", "seq"])
    op.create_index("uq_forge_events_delivery", "forge_events", ["forge", "delivery"], unique=True)
    op.create_table(
        "forge_cursors",
        sa.Column("forge", String(), nullable=False),
        sa.Column("repository", String(), nullable=False),
        sa.Column("looked_until", sa.Float(), nullable=False),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("forge", "repository", name=op.f("pk_forge_cursors")),
    )
    op.create_table(
        "forge_sights",
        sa.Column("forge", String(), nullable=False),
        sa.Column("repository", String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("run", String(), nullable=False),
        sa.Column("comments_after", sa.BigInteger(), nullable=False),
        sa.Column("comments_since", sa.Float()),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("forge", "repository", "number", name=op.f("pk_forge_sights")),
    )
    op.create_index("ix_forge_sights_run", "forge_sights", ["run"])
    op.create_table(
        "issue_runs",
        sa.Column("id", String(), nullable=False),
        sa.Column("forge", String(), nullable=False),
        sa.Column("repository", String(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("title", PeopleText(), nullable=False),
        sa.Column("body", PeopleText(), nullable=False),
        sa.Column("role", String(), nullable=False),
        sa.Column("sandboxes", sa.JSON(), nullable=False),
        sa.Column("picked_by", String(), nullable=False),
        sa.Column("picked_how", String(), nullable=False),
        sa.Column("base_branch", String()),
        sa.Column("base_sha", String()),
        sa.Column("branch", String()),
        sa.Column("agent", String(), nullable=False),
        sa.Column("connector", String(), nullable=False),
        sa.Column("room", String(), nullable=False),
        sa.Column("thread_key", String(), nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("detail", PeopleText()),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("signal", sa.JSON()),
        sa.Column("findings", sa.JSON()),
        sa.Column("allowed", sa.JSON(), nullable=False),
        sa.Column("pull_request", sa.BigInteger()),
        sa.Column("pull_url", String()),
        sa.Column("pull_state", String()),
        sa.Column("pushed_sha", String()),
        sa.Column("operations", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("active_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issue_runs")),
    )
    op.create_index("ix_issue_runs_pull", "issue_runs", ["repository", "pull_request"])
    op.create_index("ix_issue_runs_state", "issue_runs", ["state", "created_at"])
    op.create_index("uq_issue_runs_agent", "issue_runs", ["agent"], unique=True)
    op.create_index("uq_issue_runs_issue", "issue_runs", ["forge", "repository", "number"], unique=True)
    op.create_table(
        "issue_wakes",
        sa.Column("run", String(), nullable=False),
        sa.Column("cause", String(), nullable=False),
        sa.Column("kind", String(), nullable=False),
        sa.Column("author", String(), nullable=False),
        sa.Column("is_member", sa.Boolean(), nullable=False),
        sa.Column("text", PeopleText(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("round", sa.Integer()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("run", "cause", name=op.f("pk_issue_wakes")),
    )
    op.create_table(
        "forge_orders",
        sa.Column("key", String(), nullable=False),
        sa.Column("run", String(), nullable=False),
        sa.Column("kind", String(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("outcome", sa.JSON()),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("try_at", sa.Float(), nullable=False),
        sa.Column("detail", PeopleText()),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_forge_orders")),
    )
    op.create_index("ix_forge_orders_run", "forge_orders", ["run"])
    op.create_index("ix_forge_orders_state", "forge_orders", ["state", "try_at"])
