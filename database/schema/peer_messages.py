"""What agents say to one another, and were told of one another."""

from sqlalchemy import JSON, Boolean, Column, Float, Index

from database.schema.table_base import table
from database.schema.text_types import PeopleText, String

#: Which message went from which agent to which, for threads and for the pace of pairs; its text is in agent_messages.
peer_messages = table(
    "peer_messages",
    Column("id", String, primary_key=True),  # of the message
    Column("sender", String, nullable=False),
    Column("receiver", String, nullable=False),
    Column("pair", String, nullable=False),  # both names, sorted
    Column("thread", String, nullable=False),
    Column("held", Boolean, nullable=False),  # waits for an operator's word
    Column("line", PeopleText, nullable=False),  # as the room shows it
    Column("sent_at", Float, nullable=False),
)
Index("ix_peer_messages_pair", peer_messages.c.pair, peer_messages.c.sent_at)

#: What an operator said of two agents that write to one another too much.
peer_pairs = table(
    "peer_pairs",
    Column("pair", String, primary_key=True),
    Column("counted_from", Float, nullable=False),  # earlier messages do not count any more
    Column("closed_until", Float, nullable=False),
)

#: What each agent was told last of the others.
introductions = table(
    "introductions",
    Column("agent", String, primary_key=True),
    Column("told", JSON, nullable=False),  # role by name
    Column("told_at", Float, nullable=False),
)
