"""The register as it was at revision 0017, for new databases and for those of any revision before.

All earlier steps only added tables, columns that may be null, and indexes. So what a database lacks is added here,
whichever of them it had. `database.migrations.apply` starts here for every revision up to 0017.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

from database.schema.table_base import Counter, metadata
from database.schema.text_types import PeopleText, String

revision = "0017"
down_revision = None

_METADATA = sa.MetaData(naming_convention=metadata.naming_convention)

#: Types of columns, by the parameter of `_table` that lists their names.
_TYPES: dict[str, Any] = {
    "counter": Counter,
    "text": String(),
    "prose": PeopleText(),
    "real": sa.Float(),
    "whole": sa.Integer(),
    "big": sa.BigInteger(),
    "flag": sa.Boolean(),
    "json": sa.JSON(),
}


def _table(
    name: str,
    *,
    key: str,
    unique: str = "",
    indexes: Mapping[str, str] | None = None,
    unique_indexes: Mapping[str, str] | None = None,
    with_rowid: bool = True,
    **columns: str,
) -> None:
    """Declare a table. Names of columns are separated by blanks.

    Args:
        name: the table's name.
        key: the columns of its primary key.
        unique: the columns of its unique constraint, if it has one.
        indexes: the columns of each index.
        unique_indexes: the columns of each unique index.
        with_rowid: whether SQLite gives it a row id.
        columns: the columns of each type in `_TYPES`; ``TYPE_or_null`` lists those that may be null.
    """
    keys = key.split()
    made: list[sa.Column[Any]] = [
        sa.Column(
            column,
            _TYPES[kind.removesuffix("_or_null")],
            nullable=kind.endswith("_or_null"),
            primary_key=column in keys,
            autoincrement=kind == "counter",
        )
        for kind, names in {**columns, "text": f"{columns.get('text', '')} tenant_id host"}.items()
        for column in names.split()
    ]
    made.sort(key=lambda column: keys.index(column.name) if column.name in keys else len(keys))
    constraints = [sa.UniqueConstraint(*unique.split())] if unique else []
    table = sa.Table(name, _METADATA, *made, *constraints, sqlite_with_rowid=with_rowid)
    for index, names in {**(indexes or {}), **(unique_indexes or {})}.items():
        chosen = [table.columns[column] for column in names.split()]
        sa.Index(index, *chosen, unique=index in (unique_indexes or {}))


_table(
    "account_leases",
    key="agent provider",
    text="agent provider account launch_id",
    prose="reason",
    real="leased_at",
)
_table(
    "agent_messages",
    key="seq",
    counter="seq",
    text="id agent mode sender state",
    text_or_null="connector conversation event_id answer_in turn",
    prose="text",
    prose_or_null="detail",
    real="created_at updated_at give_up_at",
    json="attachments",
    indexes={"ix_agent_messages_agent": "agent state", "ix_agent_messages_event": "connector event_id"},
    unique="id",
)
_table(
    "agents",
    key="name",
    text="name role runtime sandbox workspace wanted state launch_id launched_by connector room thread_key",
    text_or_null="model home",
    prose_or_null="detail",
    real_or_null="started_at stopped_at",
    flag="at_once keep_session",
    json_or_null="revival basis",
)
_table(
    "approvals",
    key="id",
    text="id agent session request digest state outbox_key",
    prose="title detail",
    prose_or_null="outcome",
    real="asked_at expires_at",
    real_or_null="answered_at",
    whole="incarnation",
    json="options",
    json_or_null="answer",
    indexes={"ix_approvals_state": "state"},
)
_table(
    "audit",
    key="seq",
    counter="seq",
    text="key identity door action outcome",
    text_or_null="through connector conversation",
    prose_or_null="detail",
    real="at",
    json="arguments",
    indexes={"ix_audit_at": "at"},
    unique="key",
)
_table(
    "authorizations",
    key="id",
    text="id scope unit granted_by",
    text_or_null="ended",
    real="amount drawn granted_at until",
    real_or_null="ended_at",
    indexes={"ix_authorizations_ended": "ended_at"},
)
_table(
    "budgets",
    key="scope unit window",
    text="scope unit window policy set_by",
    text_or_null="of",
    real="amount set_at",
    real_or_null="reset_at",
)
_table(
    "command_runs",
    key="id",
    text="id name identity permission door state",
    text_or_null="through connector conversation parent event_id",
    real="started_at",
    real_or_null="confirm_until ended_at",
    json="arguments",
    json_or_null="reply",
    indexes={"ix_command_runs_state": "state"},
)
_table(
    "command_steps",
    key="command_id step",
    text="command_id step",
    real="at",
    json_or_null="result",
)
_table(
    "continuations",
    key="id",
    text="id agent launch_id scope state",
    prose_or_null="detail",
    real="stopped_at",
    real_or_null="resume_at",
    indexes={"ix_continuations_state": "state"},
)
_table(
    "cursors",
    key="connector",
    text="connector",
    prose_or_null="cursor",
    real="updated_at",
)
_table(
    "findings",
    key="key",
    text="key kind event",
    text_or_null="agent",
    prose="cause",
    real="found_at told_at",
    whole="tells",
)
_table(
    "grants",
    key="id",
    text="id agent digest granted_by",
    text_or_null="revoked_by",
    prose="title detail",
    real="granted_at",
    real_or_null="revoked_at",
    flag="held",
)
_table(
    "inbox",
    key="seq",
    counter="seq",
    text="connector event_id conversation sender state",
    text_or_null="parent",
    prose_or_null="detail",
    real="sent_at received_at",
    real_or_null="handled_at",
    json_or_null="body",
    indexes={"ix_inbox_state": "state seq"},
    unique_indexes={"uq_inbox_event": "connector event_id"},
)
_table(
    "introductions",
    key="agent",
    text="agent",
    real="told_at",
    json="told",
)
_table(
    "journal_positions",
    key="agent",
    text="agent",
    real="read_at",
    whole="incarnation seq view_incarnation view_seq",
)
_table(
    "leases",
    key="name",
    text="name owner",
    real="acquired_at until",
    big="token",
)
_table(
    "ledger",
    key="id",
    text="id ledger agent launch_id role profile account provider api ended",
    text_or_null="session turn task model_asked model",
    prose_or_null="detail",
    real="started_at ended_at total_s",
    real_or_null="first_byte_s usd",
    whole="attempt day",
    whole_or_null="status",
    big="seq input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens",
    flag="reported",
    json_or_null="raw",
    indexes={"ix_ledger_ended": "ended_at", "ix_ledger_task": "task"},
    unique_indexes={"uq_ledger_place": "ledger seq"},
)
_table(
    "ledger_positions",
    key="ledger",
    text="ledger",
    real="read_at",
    big="entries observations actions",
)
_table(
    "operators",
    key="identity",
    text="identity permission set_by",
    real="set_at",
)
_table(
    "outbox",
    key="seq",
    counter="seq",
    text="key connector lane state",
    text_or_null="conversation thread_of target attempt_scope event_id made_conversation",
    prose_or_null="detail",
    real="created_at not_before",
    real_or_null="first_attempt_at sent_at",
    whole="priority attempts",
    json="content",
    indexes={"ix_outbox_event": "connector event_id", "ix_outbox_state": "state connector seq"},
    unique="key",
)
_table(
    "pace_lines",
    key="window",
    text="window",
    real="drawn_at",
    json="line",
)
_table(
    "pace_log",
    key="seq",
    counter="seq",
    text="window kind",
    real="at",
    json="detail",
    indexes={"ix_pace_log_window": "window at"},
)
_table(
    "peer_messages",
    key="id",
    text="id sender receiver pair thread",
    prose="line",
    real="sent_at",
    flag="held",
    indexes={"ix_peer_messages_pair": "pair sent_at"},
)
_table(
    "peer_pairs",
    key="pair",
    text="pair",
    real="counted_from closed_until",
)
_table(
    "questions",
    key="id",
    text="id kind agent outbox_key state",
    text_or_null="task answer answered_by",
    real="asked_at",
    real_or_null="answered_at",
    json="choices",
    indexes={"ix_questions_state": "state"},
)
_table(
    "quota",
    key="account window",
    text="account window provider",
    text_or_null="status",
    real="seen_at",
    real_or_null="used amount remaining reset_at window_s",
)
_table(
    "quota_history",
    key="seq",
    counter="seq",
    text="account window",
    text_or_null="status",
    real="seen_at tokens",
    real_or_null="used reset_at window_s",
    indexes={"ix_quota_history_place": "account window seq", "ix_quota_history_window": "account window seen_at"},
)
_table(
    "reports",
    key="key",
    text="key kind",
    real="due_at posted_at",
    indexes={"ix_reports_kind": "kind due_at"},
)
_table(
    "restores",
    key="id",
    text="id",
    real="restored_at backup_at",
)
_table(
    "results",
    key="agent",
    text="agent kind",
    real="at",
)
_table(
    "schedules",
    key="kind",
    text="kind cron zone set_by",
    real="set_at",
)
_table(
    "spending",
    key="hour agent role profile account provider model task ledger",
    text="agent role profile account provider model task ledger",
    real="usd",
    whole="hour",
    big="requests input_tokens output_tokens cache_read_tokens cache_write_tokens reasoning_tokens unpriced estimated",
    indexes={"ix_spending_agent": "agent hour", "ix_spending_task": "task"},
    with_rowid=False,
)
_table(
    "strangers",
    key="identity",
    text="identity",
    prose_or_null="last_text",
    real="first_seen_at last_seen_at",
    real_or_null="told_at",
    whole="attempts",
)
_table(
    "task_events",
    key="seq",
    counter="seq",
    text="task state",
    prose_or_null="reason",
    real="at",
    json_or_null="decision",
    indexes={"ix_task_events_task": "task"},
)
_table(
    "tasks",
    key="seq",
    counter="seq",
    text="id kind urgency lane operator state",
    text_or_null=(
        "role agent charged_to parent connector conversation event_id answer_in thread_key why assigned "
        "runtime model account message"
    ),
    prose="text",
    prose_or_null="reason summary",
    real="created_at updated_at",
    real_or_null=(
        "deadline estimate look_at projected_tokens projected_usd actual_tokens actual_usd dispatched_at "
        "started_at ended_at"
    ),
    whole="attempt retries",
    json="attachments",
    indexes={
        "ix_tasks_agent": "agent state",
        "ix_tasks_assigned": "assigned state",
        "ix_tasks_ended": "ended_at",
        "ix_tasks_lane": "state lane seq",
        "ix_tasks_learned": "role ended_at",
        "ix_tasks_message": "message",
    },
    unique="id",
)
_table(
    "thread_owners",
    key="thread",
    text="thread kind owner",
)
_table(
    "titles",
    key="thread",
    text="thread",
    prose="title",
    whole="changes",
    flag="archived",
)
_table(
    "tool_calls",
    key="id",
    text="id agent call tool state",
    text_or_null="turn",
    real="asked_at updated_at",
    flag="queued",
    json="arguments",
    json_or_null="reply",
    indexes={"ix_tool_calls_state": "state"},
)
# Replaced by 0019.
_table("fair_shares", key="flow", text="flow", real="deficit updated_at")


#: Indexes of revision 0008 that the sums by the hour replaced. Each cost a write with every request.
_OBSOLETE = ("ix_ledger_day", "ix_ledger_agent", "ix_ledger_account", "ix_ledger_model")

#: The sums of the rows that are in the ledger, as `database.queries.spending` continues them.
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
#: A time is after 1970. PostgreSQL's cast rounds, and not every SQLite has FLOOR.
_HOUR = {"postgresql": "CAST(FLOOR(ended_at / 3600) AS INTEGER)", "sqlite": "CAST(ended_at / 3600 AS INTEGER)"}


def upgrade() -> None:
    connection = op.get_bind()
    there = sa.inspect(connection)
    before = set(there.get_table_names())
    for table in _METADATA.tables.values():
        if table.name not in before:
            table.create(connection)
            continue
        columns = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in columns:
                op.add_column(table.name, sa.Column(column.name, column.type))
        indexes = {index["name"] for index in there.get_indexes(table.name)}
        for index in table.indexes:
            if index.name not in indexes:
                index.create(connection)
        for name in indexes.intersection(_OBSOLETE):
            op.drop_index(str(name), table.name)
    if "spending" not in before:
        op.execute(_SUM_UP.format(hour=_HOUR[connection.dialect.name], used=_USED))
