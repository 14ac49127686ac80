"""Issues of a forge that become pull requests: what the forge told, the runs, and what Muster is to do for them."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, Index, Integer

from database.schema.table_base import Counter, table
from database.schema.text_types import PeopleText, String

#: What a forge told, or what was found by looking there. Hints: the state is read from the forge.
forge_events = table(
    "forge_events",
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("forge", String, nullable=False),  # the forge's host
    Column("delivery", String, nullable=False),  # the webhook's id, or what was found and when it changed
    Column("name", String, nullable=False),
    Column("repository", String, nullable=False),
    Column("number", BigInteger),  # of an issue or a pull request
    Column("sha", String),  # of a commit
    Column("received_at", Float, nullable=False),
    Column("handled_at", Float),
)
Index("uq_forge_events_delivery", forge_events.c.forge, forge_events.c.delivery, unique=True)
Index("ix_forge_events_handled", forge_events.c.handled_at, forge_events.c.seq)

#: How far each repository was looked through.
forge_cursors = table(
    "forge_cursors",
    Column("forge", String, primary_key=True),
    Column("repository", String, primary_key=True),
    Column("looked_until", Float, nullable=False),  # by the forge's clock
)

#: What was last seen at the forge of an issue or pull request that has a run, by which something new is told apart.
forge_sights = table(
    "forge_sights",
    Column("forge", String, primary_key=True),
    Column("repository", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("run", String, nullable=False),
    Column("comments_after", BigInteger, nullable=False),  # the newest comment that was considered
    Column("comments_since", Float),  # when the newest of them had changed, by the forge's clock
    Column("state", JSON, nullable=False),  # of an issue: what people are told of if it changes
)
Index("ix_forge_sights_run", forge_sights.c.run)

#: One row for each issue that was picked up.
issue_runs = table(
    "issue_runs",
    Column("id", String, primary_key=True),
    Column("forge", String, nullable=False),
    Column("repository", String, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("title", PeopleText, nullable=False),  # as it was when it was picked up, and so is the body
    Column("body", PeopleText, nullable=False),
    Column("role", String, nullable=False),
    Column("sandboxes", JSON, nullable=False),
    Column("picked_by", String, nullable=False),  # the login of the member, or the identity of an operator
    Column("picked_how", String, nullable=False),  # the label, or pickup
    Column("base_branch", String),
    Column("base_sha", String),
    Column("branch", String),
    Column("agent", String, nullable=False),
    Column("connector", String, nullable=False),
    Column("room", String, nullable=False),
    Column("thread_key", String, nullable=False),  # the outbox key of the message that opens its thread
    Column("state", String, nullable=False),  # queued | running | checking | frozen | destroyed | failed
    Column("detail", PeopleText),  # why it waits or failed
    Column("round", Integer, nullable=False),  # counts from 1
    Column("signal", JSON),  # what the agent said in this round: status, summary
    Column("findings", JSON),  # what is in the way of a push, for an operator
    Column("allowed", JSON, nullable=False),  # marks of findings that operators declared to be no secrets
    Column("pull_request", BigInteger),
    Column("pull_url", String),
    Column("pull_state", String),  # open | merged | closed
    Column("pushed_sha", String),
    Column("operations", JSON, nullable=False),  # what the agent did, or was refused, at the forge
    Column("created_at", Float, nullable=False),
    Column("active_at", Float, nullable=False),  # the last event
    Column("ended_at", Float),
)
Index("uq_issue_runs_issue", issue_runs.c.forge, issue_runs.c.repository, issue_runs.c.number, unique=True)
Index("uq_issue_runs_agent", issue_runs.c.agent, unique=True)
Index("ix_issue_runs_state", issue_runs.c.state, issue_runs.c.created_at)
Index("ix_issue_runs_pull", issue_runs.c.repository, issue_runs.c.pull_request)

#: Why a run goes on after its pull request was opened. Keyed by the comment or the commit, so that none counts twice.
issue_wakes = table(
    "issue_wakes",
    Column("run", String, primary_key=True),
    Column("cause", String, primary_key=True),  # comment/ID | checks/SHA | mend/ID | go/ID | retry/ID | allow/MARK/ID
    Column("kind", String, nullable=False),  # comment | checks | mend | retry
    Column("author", String, nullable=False),
    Column("is_member", Boolean, nullable=False),  # others' words reach the agent only as such, and wake nothing
    Column("text", PeopleText, nullable=False),
    Column("at", Float, nullable=False),
    Column("round", Integer),  # the round that it is for; null while it waits
)

#: What Muster is to do, recorded before it is done. The key is that of the round and the step, so that a workflow that
#: is repeated after a crash orders nothing twice.
forge_orders = table(
    "forge_orders",
    Column("key", String, primary_key=True),  # RUN/ROUND/STEP
    Column("run", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("input", JSON, nullable=False),
    Column("state", String, nullable=False),  # open | done
    Column("outcome", JSON),
    Column("tries", Integer, nullable=False),
    Column("try_at", Float, nullable=False),
    Column("detail", PeopleText),  # why the last try did nothing
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float),
)
Index("ix_forge_orders_state", forge_orders.c.state, forge_orders.c.try_at)
Index("ix_forge_orders_run", forge_orders.c.run)
