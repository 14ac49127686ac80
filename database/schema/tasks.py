"""Tasks, what happened to them, and the turns of those who ask for them."""

from sqlalchemy import JSON, Column, Float, Index, Integer

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

#: The dispatch queue, and what happened to what was in it.
tasks = table(
    "tasks",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),  # eight hexadecimal digits, from the id of what asked for it
    Column("kind", String, nullable=False),  # task | turn | ...
    Column("text", PeopleText, nullable=False),
    Column("role", String),  # whose task it is to be, where no agent is named
    Column("agent", String),  # the one agent that is to have it
    Column("urgency", String, nullable=False),  # low | normal | high | critical
    Column("lane", String, nullable=False),  # operator, target, urgency, kind, size: one lane goes in its order
    Column("operator", String, nullable=False),  # who asked for it
    Column("charged_to", String),  # the operator whose queue it is in; null: who asked
    Column("deadline", Float),
    Column("estimate", Float),  # weighted tokens, as a person said
    Column("parent", String),
    Column("attachments", JSON, nullable=False),
    Column("connector", String),  # where it was asked for
    Column("conversation", String),
    Column("event_id", String),
    Column("answer_in", String),
    Column("thread_key", String),  # the outbox key of the message that opens its thread; null: it has none
    Column("state", String, nullable=False),
    # queued | dispatched | running | waiting | done | failed | cancelled
    Column("why", String),  # of a queued one: pace | limit | unknown | price | fairness | concurrency | no one | ...
    Column("reason", PeopleText),  # the same in words, as told
    Column("look_at", Float),  # when it is looked at again, if nothing happens before
    Column("attempt", Integer, nullable=False, default=0),
    Column("retries", Integer, nullable=False, default=0),  # how often more it may be tried
    Column("assigned", String),  # the agent that has it, or had it last
    Column("runtime", String),
    Column("model", String),
    Column("account", String),
    Column("message", String),  # the message that carries it
    Column("projected_tokens", Float),
    Column("projected_usd", Float),
    Column("weight", Float),  # of its queue when it was charged; null: nothing was charged
    Column("saves_from", Float),  # since when it saves (budget.windows.large_task_accrual)
    Column("actual_tokens", Float),  # weighted; of an ended one
    Column("actual_usd", Float),
    Column("summary", PeopleText),  # the agent's words at its end, or why it failed
    Column("created_at", Float, nullable=False),
    Column("dispatched_at", Float),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("updated_at", Float, nullable=False),
)
Index("ix_tasks_lane", tasks.c.state, tasks.c.lane, tasks.c.seq)
Index("ix_tasks_assigned", tasks.c.assigned, tasks.c.state)
Index("ix_tasks_message", tasks.c.message)
Index("ix_tasks_learned", tasks.c.role, tasks.c.ended_at)
Index("ix_tasks_ended", tasks.c.ended_at)
Index("ix_tasks_agent", tasks.c.agent, tasks.c.state)

#: Each step of a task, with what it was decided on.
task_events = table(
    "task_events",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("task", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", PeopleText),
    Column("decision", JSON),
)
Index("ix_task_events_task", task_events.c.task)

#: How far each queue (an urgency and an operator) is ahead of the lowest busy one (budget.dispatch.fair_queueing).
fair_queues = table(
    "fair_queues",
    Column("queue", String, primary_key=True),
    Column("ahead", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)
