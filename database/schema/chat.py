"""What came in from chat, what goes out to it, and strangers who wrote."""

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

cursors = table(
    "cursors",
    Column("connector", String, primary_key=True),
    Column("cursor", PeopleText),
    Column("updated_at", Float, nullable=False),
)

#: What came in, once per (connector, event_id). Handled rows lose their body after a while, but keep their key.
inbox = table(
    "inbox",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("connector", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("conversation", String, nullable=False),
    Column("parent", String),
    Column("sender", String, nullable=False),
    Column("sent_at", Float, nullable=False),
    Column("body", JSON),  # connectors.contract.messages.InboundBody with its `type`
    Column("received_at", Float, nullable=False),
    Column("state", String, nullable=False),  # new | done | failed
    Column("detail", PeopleText),
    Column("handled_at", Float),
)
Index("uq_inbox_event", inbox.c.connector, inbox.c.event_id, unique=True)
Index("ix_inbox_state", inbox.c.state, inbox.c.seq)

#: What goes out, once per key.
outbox = table(
    "outbox",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False, unique=True),  # also the transaction id on the wire
    Column("connector", String, nullable=False),
    Column("conversation", String),
    Column("thread_of", String),  # the key of the OpenThread row that makes the conversation
    Column("target", String),  # the outbox key that a Replace or own React is about
    Column("lane", String, nullable=False),  # rows of one lane go out in order
    Column("priority", Integer, nullable=False),
    Column("content", JSON, nullable=False),  # connectors.contract.messages.OutboundContent with its `type`
    Column("state", String, nullable=False),  # pending | sent | dead | superseded
    Column("created_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("first_attempt_at", Float),
    Column("attempt_scope", String),  # the connector's scope when it was first tried
    Column("sent_at", Float),
    Column("event_id", String),
    Column("made_conversation", String),  # for OpenThread: the thread's conversation
    Column("detail", PeopleText),  # why it is dead
)
Index("ix_outbox_state", outbox.c.state, outbox.c.connector, outbox.c.seq)
Index("ix_outbox_event", outbox.c.connector, outbox.c.event_id)

#: What the threads are called that we name, by the outbox key of the message that opens each.
titles = table(
    "titles",
    Column("thread", String, primary_key=True),
    Column("title", PeopleText, nullable=False),
    Column("archived", Boolean, nullable=False),
    Column("changes", Integer, nullable=False),  # how often it was renamed
)

#: Whose the threads are that we open, by the outbox key of the message that opens each.
thread_owners = table(
    "thread_owners",
    Column("thread", String, primary_key=True),
    Column("kind", String, nullable=False),  # agent | task
    Column("owner", String, nullable=False),  # the agent's name, the task's id
)

#: People who are no operators and have written: one row each, bounded in number, so that strangers cannot fill a disk.
strangers = table(
    "strangers",
    Column("identity", String, primary_key=True),
    Column("first_seen_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("told_at", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_text", PeopleText),  # the beginning of what they last tried
)
