"""Topics of projects, the words that wait for them, and which agents belong to one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from database.schema.table_base import Counter
from database.schema.text_types import PeopleText, String

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.add_column("agents", sa.Column("topic", PeopleText()))
    op.create_table(
        "topics",
        sa.Column("id", String(), nullable=False),
        sa.Column("project", String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("agent", String(), nullable=False),
        sa.Column("title", PeopleText(), nullable=False),
        sa.Column("connector", String(), nullable=False),
        sa.Column("room", String(), nullable=False),
        sa.Column("thread_key", String(), nullable=False),
        sa.Column("asked_by", String(), nullable=False),
        sa.Column("state", String(), nullable=False),
        sa.Column("outcome", String()),
        sa.Column("detail", PeopleText()),
        sa.Column("queued_at", sa.Float(), nullable=False),
        sa.Column("active_at", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float()),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_topics")),
        sa.UniqueConstraint("agent", name=op.f("uq_topics_agent")),
    )
    op.create_index("ix_topics_state", "topics", ["state", "queued_at"])
    op.create_index("uq_topics_number", "topics", ["project", "number"], unique=True)
    op.create_index("ix_topics_thread", "topics", ["thread_key"])
    op.create_table(
        "topic_words",
        sa.Column("seq", Counter, autoincrement=True, nullable=False),
        sa.Column("id", String(), nullable=False),
        sa.Column("topic", String(), nullable=False),
        sa.Column("text", PeopleText(), nullable=False),
        sa.Column("attachments", sa.JSON(), nullable=False),
        sa.Column("sender", String(), nullable=False),
        sa.Column("connector", String(), nullable=False),
        sa.Column("conversation", String(), nullable=False),
        sa.Column("event_id", String(), nullable=False),
        sa.Column("tenant_id", String(), nullable=False),
        sa.Column("host", String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_topic_words")),
        sa.UniqueConstraint("id", name=op.f("uq_topic_words_id")),
    )
    op.create_index("ix_topic_words_topic", "topic_words", ["topic", "seq"])
