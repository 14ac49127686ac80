"""Agents, messages to them, and what they ask of operators; what the watchdog found of them."""

from sqlalchemy import JSON, Boolean, Column, Float, Index, Integer

from database.schema.table_base import Counter, stamp, table
from database.schema.text_types import PeopleText, String

agents = table(
    "agents",
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("runtime", String, nullable=False),
    Column("model", String),
    Column("sandbox", String, nullable=False),
    Column("workspace", String, nullable=False),
    Column("wanted", String, nullable=False),  # running | stopped | frozen
    Column("at_once", Boolean, nullable=False, default=False),  # a stop or restart does not wait for the turn's end
    Column("keep_session", Boolean, nullable=False, default=True),  # the next start goes on with the session
    Column("state", String, nullable=False),  # the last state that was seen: fleet.supervision.liveness.State
    Column("detail", PeopleText),
    Column("launch_id", String, nullable=False),  # the command that launched it
    Column(
        "revival", JSON
    ),  # how often it fell, and when it is tried again: fleet.supervision.restart_policy; null: it never fell
    Column("basis", JSON),  # what that launch is on: fleet.roster.launch_overrides; null: not known
    Column("launched_by", String, nullable=False),
    Column("connector", String, nullable=False),  # where its thread is
    Column("room", String, nullable=False),
    Column("thread_key", String, nullable=False),  # the outbox key of the thread's opener
    Column("started_at", Float),
    Column("stopped_at", Float),
    Column("home", String, default=stamp("home")),  # the installation that runs it; null: any of its host
    Column("model_answering", String),  # the model that answered its last turn in place of `model`; null: none did
    # Earlier versions read this column while a register is migrated, so it keeps its name.
    Column("topic", PeopleText, key="purpose"),  # what it was launched for; null: it is an agent of the roster
)

#: How far the orchestrator has read each agent's journal; moved in the transaction that writes what it read.
journal_positions = table(
    "journal_positions",
    Column("agent", String, primary_key=True),
    Column("incarnation", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("view_incarnation", Integer, nullable=False),  # where the turn begins that is being shown
    Column("view_seq", Integer, nullable=False),
    Column("read_at", Float, nullable=False),
)

#: Messages to agents, from the operator's words to the end of the turn that they caused.
agent_messages = table(
    "agent_messages",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("agent", String, nullable=False),
    Column("mode", String, nullable=False),  # queue | steer
    Column("text", PeopleText, nullable=False),
    Column("attachments", JSON, nullable=False),
    Column("sender", String, nullable=False),
    Column("connector", String),
    Column("conversation", String),
    Column("event_id", String),  # the operator's message, on which the receipts are shown
    Column("answer_in", String),  # the conversation that the answer goes to; null: the agent's thread
    Column("state", String, nullable=False),
    # pending | journaled | accepted | finished | failed | uncertain | withdrawing | withdrawn | dead | retried
    Column("turn", String),
    Column("detail", PeopleText),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
)
Index("ix_agent_messages_agent", agent_messages.c.agent, agent_messages.c.state)
Index("ix_agent_messages_turn", agent_messages.c.agent, agent_messages.c.turn)
Index("ix_agent_messages_event", agent_messages.c.connector, agent_messages.c.event_id)

#: Permission requests of runtimes. Bound to the incarnation of the agent host, the session, the request and its digest.
approvals = table(
    "approvals",
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("session", String, nullable=False),
    Column("request", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("title", PeopleText, nullable=False),
    Column("detail", PeopleText, nullable=False),  # the whole command, as the runtime gave it
    Column("options", JSON, nullable=False),  # [{id, name, kind}]
    Column("state", String, nullable=False),  # pending | answering | answered | expired | withdrawn
    Column("outbox_key", String, nullable=False),  # the message that asks
    Column("asked_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("answer", JSON),  # {option, always, by, command}
    Column("answered_at", Float),
    Column("outcome", PeopleText),
    Column("together", JSON),  # ids of the requests of the agent that its message lists as well; null: none
    Column("facts", JSON),  # what approval rules see of it: fleet.approval_rules.requests; null: they can tell nothing
)
Index("ix_approvals_state", approvals.c.state)

#: Rules given by command, which answer permission requests. Those of muster.yaml are not here.
approval_rules = table(
    "approval_rules",
    Column("id", String, primary_key=True),
    Column("effect", String, nullable=False),  # allow | ask | deny
    Column("kind", String, nullable=False),  # read | edit | execute | fetch | mcp | any
    Column("scope", String, nullable=False),  # fleet | role:NAME | agent:NAME | workspace:PATH
    Column("command", PeopleText),
    Column("match", String, nullable=False),  # exact | prefix
    Column("paths", JSON, nullable=False),  # globs
    Column("tool", String),
    Column("url_host", String),
    Column("sandbox_only", Boolean, nullable=False),
    Column("until", Float),  # when it ends; null: it does not
    Column("added_by", String, nullable=False),
    Column("added_at", Float, nullable=False),
)

#: What was allowed for always, agent by agent, until it is taken back.
grants = table(
    "grants",
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("title", PeopleText, nullable=False),
    Column("detail", PeopleText, nullable=False),
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("revoked_by", String),
    Column("revoked_at", Float),
    Column("held", Boolean, nullable=False, default=False),  # the agent host has been told
)

#: What is asked of operators besides permissions: whether an agent may go on, whether its task is done.
questions = table(
    "questions",
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),  # runaway | task
    Column("agent", String, nullable=False),
    Column("task", String),
    Column("outbox_key", String, nullable=False),
    Column("choices", JSON, nullable=False),  # [{mark, word, label}]
    Column("state", String, nullable=False),  # pending | answered | withdrawn
    Column("asked_at", Float, nullable=False),
    Column("answer", String),
    Column("answered_by", String),
    Column("answered_at", Float),
)
Index("ix_questions_state", questions.c.state)

#: Calls of Muster's own tools by agents, from the journal's entry to the answer that was brought.
tool_calls = table(
    "tool_calls",
    Column("id", String, primary_key=True),  # of the agent and the call: also the id of its command's run
    Column("agent", String, nullable=False),
    Column("call", String, nullable=False),  # as the agent's journal names it
    Column("tool", String, nullable=False),
    Column("arguments", JSON, nullable=False),  # empty once it is over
    Column("queued", Boolean, nullable=False),  # to be done even if no one waits for it
    Column("state", String, nullable=False),  # pending | done (the answer is on its way) | over
    Column("reply", JSON),  # {"text": ..., "ok": ...}
    Column("asked_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("turn", String),  # in which it was called
)
Index("ix_tool_calls_state", tool_calls.c.state)

#: When each agent last had something to show: a commit, a closed task, a report, an operator's answer.
results = table(
    "results",
    Column("agent", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),  # commit | task | report | answer | launch
)

#: What the watchdog found, was told, and still holds. A row goes when it is over.
findings = table(
    "findings",
    Column("key", String, primary_key=True),  # kind/agent, or kind/subject
    Column("kind", String, nullable=False),  # fleet.supervision.health_findings.Kind
    Column("agent", String),
    Column("cause", PeopleText, nullable=False),  # what findings of many agents have in common; empty: nothing is known
    Column("event", String, nullable=False),  # the outbox key of the message that told it, alone or with others
    Column("found_at", Float, nullable=False),
    Column("told_at", Float, nullable=False),  # the last time
    Column("tells", Integer, nullable=False),
)
