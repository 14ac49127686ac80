"""Browsers that are, were or want to be logged in to the dashboard."""

from sqlalchemy import JSON, Boolean, Column, Float, Index

from database.schema.table_base import table
from database.schema.text_types import String

#: One row for each code that a browser showed. Codes and cookies are kept as hashes only.
web_sessions = table(
    "web_sessions",
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False),  # asked | confirmed | open | ended
    Column("code_hash", String, nullable=False),
    Column("token_hash", String, nullable=False, unique=True),  # of the browser's cookie
    Column("address", String, nullable=False),
    Column("browser", String, nullable=False),
    Column("identity", String),  # null until a person confirmed it
    Column("control", Boolean, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("opened_at", Float),
    Column("seen_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),  # of the code, then of the session
    Column("ended_at", Float),
    Column("ended_by", String),
    # Comments on lines that were not sent: [{id, agent, file, where, quoted, words, at}].
    Column("comments", JSON(none_as_null=True)),
    # Where its push service takes what waits: {endpoint, p256dh, auth, at}.
    Column("push", JSON(none_as_null=True)),
)
Index("ix_web_sessions_code", web_sessions.c.code_hash)
Index("ix_web_sessions_state", web_sessions.c.state)
