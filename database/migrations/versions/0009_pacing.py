"""Windows and their pace, tasks and how they are dispatched, reports; the ledger's sums by the hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: The rows that are there, summed up as `database.queries.spending` goes on to.
_USED = "input_tokens + output_tokens + cache_read_tokens + cache_write_tokens + reasoning_tokens"
_SUM_UP = """
INSERT INTO spending
    (hour, agent, role, profile, account, provider, model, task, ledger, requests, input_tokens, output_tokens,
     cache_read_tokens, cache_write_tokens, reasoning_tokens, usd, unpriced, estimated, tenant_id, host)
SELECT {hour}, agent, role, profile, account, provider, COALESCE(model, ''),
    COALESCE(task, ''), ledger, COUNT(*), SUM(input_tokens), SUM(output_tokens), SUM(cache_read_tokens),
    SUM(cache_write_tokens), SUM(reasoning_tokens), COALESCE(SUM(usd), 0.0),
    SUM(CASE WHEN usd IS NULL AND {used} > 0 THEN 1 ELSE 0 END),
    SUM(CASE WHEN NOT reported AND {used} > 0 THEN 1 ELSE 0 END), MIN(tenant_id), MIN(host)
FROM ledger
GROUP BY {hour}, agent, role, profile, account, provider, COALESCE(model, ''),
    COALESCE(task, ''), ledger
"""
#: A time is after 1970. A cast of PostgreSQL's rounds, and not every SQLite has FLOOR.
_HOUR = {"postgresql": "CAST(FLOOR(ended_at / 3600) AS INTEGER)", "sqlite": "CAST(ended_at / 3600 AS INTEGER)"}


def upgrade() -> None:
    op.create_table(
        "spending",
        sa.Column("hour", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("ledger", sa.String(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("usd", sa.Float(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hour",
            "agent",
            "role",
            "profile",
            "account",
            "provider",
            "model",
            "task",
            "ledger",
            name=op.f("pk_spending"),
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_spending_agent", "spending", ["agent", "hour"])
    op.create_index("ix_spending_task", "spending", ["task"])
    op.create_index("ix_ledger_ended", "ledger", ["ended_at"])
    # What they were for is read from `spending` now; each cost a write with every request.
    for index in ("day", "agent", "account", "model"):
        op.drop_index(f"ix_ledger_{index}", "ledger")
    op.create_table(
        "quota_history",
        sa.Column("seq", _COUNTER, nullable=False, autoincrement=True),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("window", sa.String(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("used", sa.Float(), nullable=True),
        sa.Column("reset_at", sa.Float(), nullable=True),
        sa.Column("window_s", sa.Float(), nullable=True),
        sa.Column("status", sa.String(), nullable=True),
        sa.Column("tokens", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_quota_history")),
    )
    op.create_index("ix_quota_history_window", "quota_history", ["account", "window", "seen_at"])
    op.create_table(
        "pace_lines",
        sa.Column("window", sa.String(), nullable=False),
        sa.Column("line", sa.JSON(), nullable=False),
        sa.Column("drawn_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("window", name=op.f("pk_pace_lines")),
    )
    op.create_table(
        "pace_log",
        sa.Column("seq", _COUNTER, nullable=False, autoincrement=True),
        sa.Column("window", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pace_log")),
    )
    op.create_index("ix_pace_log_window", "pace_log", ["window", "at"])
    op.create_table(
        "authorizations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.Column("drawn", sa.Float(), nullable=False),
        sa.Column("granted_by", sa.String(), nullable=False),
        sa.Column("granted_at", sa.Float(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("ended", sa.String(), nullable=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_authorizations")),
    )
    op.create_table(
        "account_leases",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("launch_id", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("leased_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "provider", name=op.f("pk_account_leases")),
    )
    op.create_table(
        "continuations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("launch_id", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("stopped_at", sa.Float(), nullable=False),
        sa.Column("resume_at", sa.Float(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_continuations")),
    )
    op.create_index("ix_continuations_state", "continuations", ["state"])
    op.create_table(
        "results",
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("agent", name=op.f("pk_results")),
    )
    op.create_table(
        "questions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("agent", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("outbox_key", sa.String(), nullable=False),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("answer", sa.String(), nullable=True),
        sa.Column("answered_by", sa.String(), nullable=True),
        sa.Column("answered_at", sa.Float(), nullable=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
    )
    op.create_index("ix_questions_state", "questions", ["state"])
    op.create_table(
        "tasks",
        sa.Column("seq", _COUNTER, nullable=False, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("role", sa.String(), nullable=True),
        sa.Column("agent", sa.String(), nullable=True),
        sa.Column("urgency", sa.String(), nullable=False),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("operator", sa.String(), nullable=False),
        sa.Column("deadline", sa.Float(), nullable=True),
        sa.Column("estimate", sa.Float(), nullable=True),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("attachments", sa.JSON(), nullable=False),
        sa.Column("connector", sa.String(), nullable=True),
        sa.Column("conversation", sa.String(), nullable=True),
        sa.Column("event_id", sa.String(), nullable=True),
        sa.Column("answer_in", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("why", sa.String(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("look_at", sa.Float(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("assigned", sa.String(), nullable=True),
        sa.Column("runtime", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("projected_tokens", sa.Float(), nullable=True),
        sa.Column("projected_usd", sa.Float(), nullable=True),
        sa.Column("actual_tokens", sa.Float(), nullable=True),
        sa.Column("actual_usd", sa.Float(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("dispatched_at", sa.Float(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_tasks")),
        sa.UniqueConstraint("id", name=op.f("uq_tasks_id")),
    )
    op.create_index("ix_tasks_assigned", "tasks", ["assigned", "state"])
    op.create_index("ix_tasks_lane", "tasks", ["state", "lane", "seq"])
    op.create_index("ix_tasks_learned", "tasks", ["role", "ended_at"])
    op.create_index("ix_tasks_message", "tasks", ["message"])
    op.create_table(
        "task_events",
        sa.Column("seq", _COUNTER, nullable=False, autoincrement=True),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("decision", sa.JSON(), nullable=True),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_task_events")),
    )
    op.create_index("ix_task_events_task", "task_events", ["task"])
    op.create_table(
        "fair_shares",
        sa.Column("flow", sa.String(), nullable=False),
        sa.Column("deficit", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("flow", name=op.f("pk_fair_shares")),
    )
    op.create_table(
        "schedules",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("cron", sa.String(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("set_by", sa.String(), nullable=False),
        sa.Column("set_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("pk_schedules")),
    )
    op.create_table(
        "reports",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("posted_at", sa.Float(), nullable=False),
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_reports")),
    )
    op.create_index("ix_reports_kind", "reports", ["kind", "due_at"])
    op.add_column("budgets", sa.Column("reset_at", sa.Float(), nullable=True))
    op.add_column("budgets", sa.Column("of", sa.String(), nullable=True))
    op.execute(_SUM_UP.format(hour=_HOUR[op.get_context().dialect.name], used=_USED))
