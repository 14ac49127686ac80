"""Every table, a module a subject. Times are seconds since the epoch (UTC), as floats; JSON columns: objects or lists.

Every row carries `tenant_id` and `host`; `database.engine.store` stamps both on insert. Rows that an operator's message
caused carry an id derived from that message, so that doing the work again after a crash writes the same rows once.
"""

from database.schema.agents import (
    agent_messages,
    agents,
    approval_rules,
    approvals,
    findings,
    grants,
    journal_positions,
    questions,
    results,
    tool_calls,
)
from database.schema.chat import cursors, inbox, outbox, strangers, thread_owners, titles
from database.schema.commands import audit, audit_anchors, command_runs, command_steps, operators
from database.schema.forge import forge_cursors, forge_events, forge_orders, forge_sights, issue_runs, issue_wakes
from database.schema.installation import leases, restores
from database.schema.limits_and_pacing import (
    account_leases,
    authorizations,
    budgets,
    continuations,
    pace_lines,
    pace_log,
)
from database.schema.peer_messages import introductions, peer_messages, peer_pairs
from database.schema.reports import reports, schedules
from database.schema.runs import runs
from database.schema.table_base import metadata
from database.schema.tasks import fair_queues, task_events, tasks
from database.schema.topics import topic_words, topics
from database.schema.usage_ledger import ledger, ledger_positions, quota, quota_history, spending
from database.schema.web import web_sessions

__all__ = [
    "account_leases",
    "agent_messages",
    "agents",
    "approval_rules",
    "approvals",
    "audit",
    "audit_anchors",
    "authorizations",
    "budgets",
    "command_runs",
    "command_steps",
    "continuations",
    "cursors",
    "fair_queues",
    "findings",
    "forge_cursors",
    "forge_events",
    "forge_orders",
    "forge_sights",
    "grants",
    "inbox",
    "introductions",
    "issue_runs",
    "issue_wakes",
    "journal_positions",
    "leases",
    "ledger",
    "ledger_positions",
    "metadata",
    "operators",
    "outbox",
    "pace_lines",
    "pace_log",
    "peer_messages",
    "peer_pairs",
    "questions",
    "quota",
    "quota_history",
    "reports",
    "restores",
    "results",
    "runs",
    "schedules",
    "spending",
    "strangers",
    "task_events",
    "tasks",
    "thread_owners",
    "titles",
    "tool_calls",
    "topic_words",
    "topics",
    "web_sessions",
]
