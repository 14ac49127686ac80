"""Every table, in one place. Times are seconds since the epoch (UTC) as floats; JSON columns hold objects or lists.

Every row carries `tenant_id` and `host`; `register.store` stamps both on insert. Rows that an operator's message caused
carry an id derived from that message, so that doing the work again after a crash writes the same rows once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table

from register.text import String, Text

if TYPE_CHECKING:
    from sqlalchemy.engine.default import DefaultExecutionContext

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

#: An integer key that counts up; SQLite counts only plain INTEGER keys.
_Counter = BigInteger().with_variant(Integer, "sqlite")


def _stamp(option: str) -> Any:
    def default(context: DefaultExecutionContext) -> str | None:
        value: str | None = context.execution_options[option]
        return value

    return default


def _table(name: str, *items: Any, **options: Any) -> Table:
    return Table(
        name,
        metadata,
        *items,
        Column("tenant_id", String, nullable=False, default=_stamp("tenant_id")),
        Column("host", String, nullable=False, default=_stamp("host")),
        **options,
    )


# --- chat --------------------------------------------------------------------------------------------------------

cursors = _table(
    "cursors",
    Column("connector", String, primary_key=True),
    Column("cursor", Text),
    Column("updated_at", Float, nullable=False),
)

#: What came in, once per (connector, event_id). Handled rows lose their body after a while, but keep their key.
inbox = _table(
    "inbox",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("connector", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("conversation", String, nullable=False),
    Column("parent", String),
    Column("sender", String, nullable=False),
    Column("sent_at", Float, nullable=False),
    Column("body", JSON),  # connectors.messages.InboundBody with its `type`
    Column("received_at", Float, nullable=False),
    Column("state", String, nullable=False),  # new | done | failed
    Column("detail", Text),
    Column("handled_at", Float),
)
Index("uq_inbox_event", inbox.c.connector, inbox.c.event_id, unique=True)
Index("ix_inbox_state", inbox.c.state, inbox.c.seq)

#: What goes out, once per key.
outbox = _table(
    "outbox",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False, unique=True),  # also the transaction id on the wire
    Column("connector", String, nullable=False),
    Column("conversation", String),
    Column("thread_of", String),  # the key of the OpenThread row that makes the conversation
    Column("target", String),  # the outbox key that a Replace or own React is about
    Column("lane", String, nullable=False),  # rows of one lane go out in order
    Column("priority", Integer, nullable=False),
    Column("content", JSON, nullable=False),  # connectors.messages.OutboundContent with its `type`
    Column("state", String, nullable=False),  # pending | sent | dead | superseded
    Column("created_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("first_attempt_at", Float),
    Column("attempt_scope", String),  # the connector's scope when it was first tried
    Column("sent_at", Float),
    Column("event_id", String),
    Column("made_conversation", String),  # for OpenThread: the thread's conversation
    Column("detail", Text),  # why it is dead
)
Index("ix_outbox_state", outbox.c.state, outbox.c.connector, outbox.c.seq)
Index("ix_outbox_event", outbox.c.connector, outbox.c.event_id)

#: People who are no operators and have written: one row each, bounded in number, so that strangers cannot fill a disk.
strangers = _table(
    "strangers",
    Column("identity", String, primary_key=True),
    Column("first_seen_at", Float, nullable=False),
    Column("last_seen_at", Float, nullable=False),
    Column("told_at", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_text", Text),  # the beginning of what they last tried
)

# --- commands ----------------------------------------------------------------------------------------------------

#: One run of one command, through any door. Its id comes from what asked for it (the chat event, the CLI's key).
command_runs = _table(
    "command_runs",
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("identity", String, nullable=False),
    Column("permission", String, nullable=False),
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
command_steps = _table(
    "command_steps",
    Column("command_id", String, primary_key=True),
    Column("step", String, primary_key=True),
    Column("result", JSON),
    Column("at", Float, nullable=False),
)

audit = _table(
    "audit",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False, unique=True),
    Column("at", Float, nullable=False),
    Column("identity", String, nullable=False),
    Column("door", String, nullable=False),
    Column("connector", String),
    Column("conversation", String),
    Column("action", String, nullable=False),
    Column("arguments", JSON, nullable=False),
    Column("outcome", String, nullable=False),  # done | refused | failed | lapsed | answered | expired
    Column("detail", Text),
)
Index("ix_audit_at", audit.c.at)

#: Permissions given by command; they go before those in muster.yaml. `none` takes a permission away.
operators = _table(
    "operators",
    Column("identity", String, primary_key=True),
    Column("permission", String, nullable=False),  # none | viewer | operator | admin
    Column("set_by", String, nullable=False),
    Column("set_at", Float, nullable=False),
)

# --- agents ------------------------------------------------------------------------------------------------------

agents = _table(
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
    Column("state", String, nullable=False),  # the last state that was seen: fleet.liveness.State
    Column("detail", Text),
    Column("launch_id", String, nullable=False),  # the command that launched it
    Column("revival", JSON),  # how often it fell, and when it is tried again: fleet.revival; null: it never fell
    Column("basis", JSON),  # what that launch stands on: fleet.basis; null: not known
    Column("launched_by", String, nullable=False),
    Column("connector", String, nullable=False),  # where its thread is
    Column("room", String, nullable=False),
    Column("thread_key", String, nullable=False),  # the outbox key of the thread's opener
    Column("started_at", Float),
    Column("stopped_at", Float),
    Column("home", String, default=_stamp("home")),  # the installation that runs it; null: any of its host
)

#: How far the orchestrator has read each agent's journal; moved in the transaction that writes what it read.
journal_positions = _table(
    "journal_positions",
    Column("agent", String, primary_key=True),
    Column("incarnation", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("view_incarnation", Integer, nullable=False),  # where the turn begins that is being shown
    Column("view_seq", Integer, nullable=False),
    Column("read_at", Float, nullable=False),
)

#: Messages to agents, from the operator's words to the end of the turn that they caused.
agent_messages = _table(
    "agent_messages",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("agent", String, nullable=False),
    Column("mode", String, nullable=False),  # queue | steer
    Column("text", Text, nullable=False),
    Column("attachments", JSON, nullable=False),
    Column("sender", String, nullable=False),
    Column("connector", String),
    Column("conversation", String),
    Column("event_id", String),  # the operator's message, on which the receipts are shown
    Column("answer_in", String),  # the conversation that the answer goes to; null: the agent's thread
    Column("state", String, nullable=False),
    # pending | journaled | accepted | finished | failed | uncertain | withdrawing | withdrawn | dead | retried
    Column("turn", String),
    Column("detail", Text),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
)
Index("ix_agent_messages_agent", agent_messages.c.agent, agent_messages.c.state)
Index("ix_agent_messages_event", agent_messages.c.connector, agent_messages.c.event_id)

#: Permission requests of runtimes. Bound to the incarnation of the agent host, the session, the request and its digest.
approvals = _table(
    "approvals",
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("incarnation", Integer, nullable=False),
    Column("session", String, nullable=False),
    Column("request", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("detail", Text, nullable=False),  # the whole command, as the runtime gave it
    Column("options", JSON, nullable=False),  # [{id, name, kind}]
    Column("state", String, nullable=False),  # pending | answering | answered | expired | withdrawn
    Column("outbox_key", String, nullable=False),  # the message that asks
    Column("asked_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("answer", JSON),  # {option, always, by, command}
    Column("answered_at", Float),
    Column("outcome", Text),
)
Index("ix_approvals_state", approvals.c.state)

#: What was allowed for always, agent by agent, until it is taken back.
grants = _table(
    "grants",
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("title", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("revoked_by", String),
    Column("revoked_at", Float),
    Column("held", Boolean, nullable=False, default=False),  # the agent host has been told
)

#: Calls of Muster's own tools by agents, from the journal's entry to the answer that was brought.
tool_calls = _table(
    "tool_calls",
    Column("id", String, primary_key=True),  # of the agent and the call: also the id of its command's run
    Column("agent", String, nullable=False),
    Column("call", String, nullable=False),  # as the agent's journal names it
    Column("tool", String, nullable=False),
    Column("arguments", JSON, nullable=False),  # empty once it is over
    Column("queued", Boolean, nullable=False),  # to be done even if nobody waits for it
    Column("state", String, nullable=False),  # pending | done (the answer is on its way) | over
    Column("reply", JSON),  # {"text": ..., "ok": ...}
    Column("asked_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("turn", String),  # in which it was called
)
Index("ix_tool_calls_state", tool_calls.c.state)

#: Which message went from which agent to which, for threads and for the pace of pairs; its text is in agent_messages.
peer_messages = _table(
    "peer_messages",
    Column("id", String, primary_key=True),  # of the message
    Column("sender", String, nullable=False),
    Column("receiver", String, nullable=False),
    Column("pair", String, nullable=False),  # both names, sorted
    Column("thread", String, nullable=False),
    Column("held", Boolean, nullable=False),  # waits for an operator's word
    Column("line", Text, nullable=False),  # as the room shows it
    Column("sent_at", Float, nullable=False),
)
Index("ix_peer_messages_pair", peer_messages.c.pair, peer_messages.c.sent_at)

#: What an operator said of two agents that write to one another too much.
peer_pairs = _table(
    "peer_pairs",
    Column("pair", String, primary_key=True),
    Column("counted_from", Float, nullable=False),  # earlier messages do not count any more
    Column("closed_until", Float, nullable=False),
)

#: What each agent was told last of the others.
introductions = _table(
    "introductions",
    Column("agent", String, primary_key=True),
    Column("told", JSON, nullable=False),  # role by name
    Column("told_at", Float, nullable=False),
)

# --- watching ----------------------------------------------------------------------------------------------------

#: What the watchdog found, was told, and still holds. A row goes when it is over.
findings = _table(
    "findings",
    Column("key", String, primary_key=True),  # kind/agent, or kind/subject
    Column("kind", String, nullable=False),  # fleet.findings.Kind
    Column("agent", String),
    Column("cause", Text, nullable=False),  # what findings of many agents have in common; empty: nothing is known
    Column("event", String, nullable=False),  # the outbox key of the message that told it, alone or with others
    Column("found_at", Float, nullable=False),
    Column("told_at", Float, nullable=False),  # the last time
    Column("tells", Integer, nullable=False),
)

# --- spending ----------------------------------------------------------------------------------------------------

#: What the egress metered: one row per request, copied from the ledger of the host that it left from.
ledger = _table(
    "ledger",
    Column("id", String, primary_key=True),  # egress.entries.Entry
    Column("ledger", String, nullable=False),  # which host's ledger it comes from, and its place there
    Column("seq", BigInteger, nullable=False),
    Column("agent", String, nullable=False),
    Column("launch_id", String, nullable=False),
    Column("role", String, nullable=False),
    Column("profile", String, nullable=False),
    Column("session", String),
    Column("turn", String),
    Column("task", String),
    Column("account", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("api", String, nullable=False),
    Column("model_asked", String),
    Column("model", String),
    Column("attempt", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),  # no token is counted in two columns
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("reported", Boolean, nullable=False),  # false: the provider did not tell, and the tokens are an estimate
    Column("raw", JSON),  # the provider's own usage
    Column("status", Integer),
    Column("ended", String, nullable=False),  # completed | client_gone | upstream_gone | cut | error
    Column("detail", Text),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float, nullable=False),
    Column("day", Integer, nullable=False),  # of its end, in UTC, counted from 1970-01-01
    Column("first_byte_s", Float),
    Column("total_s", Float, nullable=False),
    Column("usd", Float),  # null: no price is known
)
Index("uq_ledger_place", ledger.c.ledger, ledger.c.seq, unique=True)
Index("ix_ledger_ended", ledger.c.ended_at)
Index("ix_ledger_task", ledger.c.task)  # sums by anything else are those of `spending`

#: How far each host's ledger was copied; moved in the transaction that writes what was copied.
ledger_positions = _table(
    "ledger_positions",
    Column("ledger", String, primary_key=True),
    Column("entries", BigInteger, nullable=False),
    Column("observations", BigInteger, nullable=False),
    Column("actions", BigInteger, nullable=False),
    Column("read_at", Float, nullable=False),
)

#: What providers said last of each account's quota, window by window (egress.entries.Observation).
quota = _table(
    "quota",
    Column("account", String, primary_key=True),
    Column("window", String, primary_key=True),
    Column("provider", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("used", Float),  # a fraction; null: the provider did not say
    Column("amount", Float),  # the window's limit
    Column("remaining", Float),
    Column("reset_at", Float),
    Column("window_s", Float),
    Column("status", String),
)

#: Limits given by command; for their scope they go before all that muster.yaml says of it.
budgets = _table(
    "budgets",
    Column("scope", String, primary_key=True),  # agent, host, or agent:, profile:, provider:, account: NAME
    Column("unit", String, primary_key=True),  # tokens | usd | share
    Column("window", String, primary_key=True),  # empty: without an end
    Column("amount", Float, nullable=False),
    Column("policy", String, nullable=False),  # cutoff | freeze | kill
    Column("set_by", String, nullable=False),
    Column("set_at", Float, nullable=False),
    Column("reset_at", Float),  # when the window begins anew, as a person said; null: as the clock or the provider says
    Column("of", String),  # of a share: the account whose window it is a share of
)

# --- pacing ------------------------------------------------------------------------------------------------------

#: What the ledger comes to, hour by hour; kept in the transaction that writes the ledger's rows, and longer than these
#: (register.queries.rollup).
spending = _table(
    "spending",
    Column("hour", Integer, primary_key=True, autoincrement=False),  # of the end, in UTC, counted from 1970-01-01
    Column("agent", String, primary_key=True),
    Column("role", String, primary_key=True),
    Column("profile", String, primary_key=True),
    Column("account", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("model", String, primary_key=True),  # empty: none was named
    Column("task", String, primary_key=True),  # empty: of no task
    Column("ledger", String, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usd", Float, nullable=False),  # of those whose price is known
    Column("unpriced", BigInteger, nullable=False),  # that used tokens, and of which no price is known
    Column("estimated", BigInteger, nullable=False),  # that used tokens, as an estimate says
    sqlite_with_rowid=False,  # its rows lie in the order of the key, in which they are read
)
Index("ix_spending_agent", spending.c.agent, spending.c.hour)
Index("ix_spending_task", spending.c.task)

#: What providers said of quotas, one row for each time that it was something else; the newest is also in `quota`.
quota_history = _table(
    "quota_history",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("account", String, nullable=False),
    Column("window", String, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("used", Float),
    Column("reset_at", Float),
    Column("window_s", Float),
    Column("status", String),
    Column("tokens", Float, nullable=False),  # weighted: what the account had used in all when this was seen
)
Index("ix_quota_history_window", quota_history.c.account, quota_history.c.window, quota_history.c.seen_at)
Index("ix_quota_history_place", quota_history.c.account, quota_history.c.window, quota_history.c.seq)

#: The even-spread line of each window as it was drawn last (budget.pacing.Line).
pace_lines = _table(
    "pace_lines",
    Column("window", String, primary_key=True),  # budget.pacing.Window.key
    Column("line", JSON, nullable=False),
    Column("drawn_at", Float, nullable=False),
)

#: What befell windows: lines drawn anew, resets, changes of plan, clock skew, contradictions.
pace_log = _table(
    "pace_log",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("window", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),
    Column("detail", JSON, nullable=False),
)
Index("ix_pace_log_window", pace_log.c.window, pace_log.c.at)

#: Leave to spend faster than the pace; used up or over, it ends by itself.
authorizations = _table(
    "authorizations",
    Column("id", String, primary_key=True),  # of the command that gave it
    Column("scope", String, nullable=False),
    Column("unit", String, nullable=False),  # tokens | usd | share
    Column("amount", Float, nullable=False),
    Column("drawn", Float, nullable=False),  # used up before the line that stands was drawn
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("ended_at", Float),
    Column("ended", String),  # used | over | taken back
)
Index("ix_authorizations_ended", authorizations.c.ended_at)

#: Which account an agent's session is on: picked when the session starts, and kept.
account_leases = _table(
    "account_leases",
    Column("agent", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("account", String, nullable=False),
    Column("launch_id", String, nullable=False),
    Column("reason", Text, nullable=False),
    Column("leased_at", Float, nullable=False),
)

#: Agents that stopped at a limit, and when they go on.
continuations = _table(
    "continuations",
    Column("id", String, primary_key=True),
    Column("agent", String, nullable=False),
    Column("launch_id", String, nullable=False),
    Column("scope", String, nullable=False),  # the window or limit that stopped it
    Column("stopped_at", Float, nullable=False),
    Column("resume_at", Float),  # null: not known yet
    Column("state", String, nullable=False),  # waiting | done | dropped
    Column("detail", Text),
)
Index("ix_continuations_state", continuations.c.state)

#: When each agent last had something to show: a commit, a closed task, a report, an operator's answer.
results = _table(
    "results",
    Column("agent", String, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String, nullable=False),  # commit | task | report | answer | launch
)

#: What is asked of operators besides permissions: whether an agent may go on, whether its task is done.
questions = _table(
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

# --- tasks -------------------------------------------------------------------------------------------------------

#: The dispatch queue, and what became of what was in it.
tasks = _table(
    "tasks",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),  # eight hexadecimal digits, from the id of what asked for it
    Column("kind", String, nullable=False),  # task | turn | ...
    Column("text", Text, nullable=False),
    Column("role", String),  # whose task it is to be, where no agent is named
    Column("agent", String),  # the one agent that is to have it
    Column("urgency", String, nullable=False),  # low | normal | high | critical
    Column("lane", String, nullable=False),  # operator, target, urgency, kind, size: one lane goes in its order
    Column("operator", String, nullable=False),  # who asked for it
    Column("deadline", Float),
    Column("estimate", Float),  # weighted tokens, as a person said
    Column("parent", String),
    Column("attachments", JSON, nullable=False),
    Column("connector", String),  # where it was asked for
    Column("conversation", String),
    Column("event_id", String),
    Column("answer_in", String),
    Column("state", String, nullable=False),
    # queued | dispatched | running | waiting | done | failed | cancelled
    Column("why", String),  # of a queued one: pace | limit | unknown | price | fairness | concurrency | nobody | ...
    Column("reason", Text),  # the same in words, as told
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
    Column("actual_tokens", Float),  # weighted; of an ended one
    Column("actual_usd", Float),
    Column("summary", Text),  # the agent's words at its end, or why it failed
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
task_events = _table(
    "task_events",
    Column("seq", _Counter, primary_key=True, autoincrement=True),
    Column("task", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("state", String, nullable=False),
    Column("reason", Text),
    Column("decision", JSON),
)
Index("ix_task_events_task", task_events.c.task)

#: What each flow (an operator, a role of an operator) may still be served in its round (budget.fairness).
fair_shares = _table(
    "fair_shares",
    Column("flow", String, primary_key=True),
    Column("deficit", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

# --- reports -----------------------------------------------------------------------------------------------------

#: When reports are posted, as commands said; for their kind they go before muster.yaml.
schedules = _table(
    "schedules",
    Column("kind", String, primary_key=True),  # daily | weekly | fleet | budget
    Column("cron", String, nullable=False),  # empty: off
    Column("zone", String, nullable=False),
    Column("set_by", String, nullable=False),
    Column("set_at", Float, nullable=False),
)

#: What was posted, so that it is posted once: a report by its time, a crossing by its window and share.
reports = _table(
    "reports",
    Column("key", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("posted_at", Float, nullable=False),
)
Index("ix_reports_kind", reports.c.kind, reports.c.due_at)

# --- who may act -------------------------------------------------------------------------------------------------

#: Names that one owner holds for a time (register.leases). Rows stay when the time is over, so that tokens only grow.
leases = _table(
    "leases",
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("acquired_at", Float, nullable=False),
    Column("until", Float, nullable=False),
)

# --- backups -----------------------------------------------------------------------------------------------------

#: The times at which this register came out of a backup: what was said before them is not acted on again.
restores = _table(
    "restores",
    Column("id", String, primary_key=True),
    Column("restored_at", Float, nullable=False),
    Column("backup_at", Float, nullable=False),  # when the backup was made
)
