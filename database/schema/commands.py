"""Runs of commands, what they did, and who may give which."""

from sqlalchemy import JSON, BigInteger, Column, Float, Index

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

#: One run of one command, through any door. Its id comes from what asked for it (the chat event, the CLI's key).
command_runs = table(
    "command_runs",
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("identity", String, nullable=False),
    Column("permission", String, nullable=False),
    Column("through", String),  # the group by which they had it
    Column("door", String, nullable=False),  # chat | cli | gateway | ...
    Column("connector", String),
    Column("conversation", String),
    Column("parent", String),
    Column("event_id", String),
    Column("state", String, nullable=False),  # running | confirming | done | refused | failed | lapsed
    Column("confirm_until", Float),
    Column("reply", JSON),  # {"text": ..., "data": ...}
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
)
Index("ix_command_runs_state", command_runs.c.state)

#: What a command run has already done and must not do again: the recorded result of each of its steps.
command_steps = table(
    "command_steps",
    Column("command_id", String, primary_key=True),
    Column("step", String, primary_key=True),
    Column("result", JSON),
    Column("at", Float, nullable=False),
)

audit = table(
    "audit",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False, unique=True),
    Column("at", Float, nullable=False),
    Column("identity", String, nullable=False),
    Column("through", String),  # the group by which they were allowed to
    Column("door", String, nullable=False),
    Column("connector", String),
    Column("conversation", String),
    Column("action", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("outcome", String, nullable=False),  # done | refused | failed | lapsed | answered | expired
    Column("detail", PeopleText),
    Column("chain", String),  # the digest of this line and the one before (database.schema.audit_chain)
)
Index("ix_audit_at", audit.c.at)

#: What this installation signed of the audit: the digest of a line, with which all lines before it are fixed.
audit_anchors = table(
    "audit_anchors",
    Column("id", Counter, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),  # checkpoint | retention: up to this line, all were deleted
    Column("at", Float, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("chain", String, nullable=False),
    Column("key", String, nullable=False),
    Column("signature", String, nullable=False),
)

#: Permissions given by command; they go before those in muster.yaml. `none` takes a permission away.
operators = table(
    "operators",
    Column("identity", String, primary_key=True),
    Column("permission", String, nullable=False),  # none | viewer | operator | admin
    Column("set_by", String, nullable=False),
    Column("set_at", Float, nullable=False),
)
