"""Runs of agents: one prompt each, from its request to its outcome."""

from sqlalchemy import JSON, Boolean, Column, Float, Index

from database.schema.table_base import table
from database.schema.text_types import PeopleText, String

runs = table(
    "runs",
    Column("id", String, primary_key=True),  # eight hexadecimal digits, from the id of what asked for it
    Column("source", String, nullable=False),  # cli | chat | gateway | ..., or the forge that it came from
    Column("reference", String),  # what it is about there, such as owner/repo#17; null: nothing
    Column("agent", String, nullable=False),
    Column("role", String, nullable=False),
    Column("prompt", PeopleText, nullable=False),
    Column("settings", JSON, nullable=False),  # what its agent is launched with: bot.runs.model.RunSettings
    Column("color", String),  # one of the 16 colors of terminals
    Column("resumes", Boolean, nullable=False),  # whether it goes on with a frozen agent
    Column("asked_by", String, nullable=False),
    Column("connector", String, nullable=False),  # where its agent's thread is
    Column("room", String, nullable=False),
    Column("state", String, nullable=False),  # queued | running | done | failed | stopped | timed_out | limit
    Column("ending", String),  # how it ends, while its agent finishes and its use is counted
    Column("detail", PeopleText),  # why it waits, or how it ended
    Column("message", String, nullable=False),  # the message that carries the prompt
    Column("answer", PeopleText),  # the beginning of what the agent said
    Column("timeout_s", Float),
    Column("deadline", Float),
    Column("look_at", Float),  # when a queued one is tried again
    Column("tokens", Float),  # weighted; of an ended one
    Column("usd", Float),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("turn_ended_at", Float),
    Column("ended_at", Float),
)
Index("ix_runs_state", runs.c.state, runs.c.created_at)
Index("ix_runs_agent", runs.c.agent)
Index("ix_runs_message", runs.c.message)
Index("uq_runs_reference", runs.c.source, runs.c.reference, unique=True)
