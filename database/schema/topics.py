"""Topics of projects: threads in which an agent works on what somebody asked, and words that wait for one to begin."""

from sqlalchemy import JSON, Column, Float, Index, Integer

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

topics = table(
    "topics",
    Column("id", String, primary_key=True),  # derived from the message that opened it
    Column("project", String, nullable=False),
    Column("number", Integer, nullable=False),  # within the project
    Column("agent", String, nullable=False, unique=True),
    Column("title", PeopleText, nullable=False),  # the beginning of what was asked
    Column("connector", String, nullable=False),
    Column("room", String, nullable=False),
    Column("thread_key", String, nullable=False),  # the outbox key of the message that opens the thread
    Column("asked_by", String, nullable=False),
    Column("state", String, nullable=False),  # database.queries.chat.topics.TopicState
    Column("outcome", String),  # how it ends: merge | keep | discard
    Column("detail", PeopleText),  # why it waits, or could not begin
    Column("queued_at", Float, nullable=False),  # since when it waits, or last waited
    Column("active_at", Float, nullable=False),  # the last time that somebody wrote to it
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
)
Index("ix_topics_state", topics.c.state, topics.c.queued_at)
Index("uq_topics_number", topics.c.project, topics.c.number, unique=True)
Index("ix_topics_thread", topics.c.thread_key)

#: Words for topics that have not begun, in their order. They become messages to the agent when it is launched.
topic_words = table(
    "topic_words",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),  # the id of the message that they become
    Column("topic", String, nullable=False),
    Column("text", PeopleText, nullable=False),
    Column("attachments", JSON, nullable=False),
    Column("sender", String, nullable=False),
    Column("connector", String, nullable=False),
    Column("conversation", String, nullable=False),
    Column("event_id", String, nullable=False),
)
Index("ix_topic_words_topic", topic_words.c.topic, topic_words.c.seq)
