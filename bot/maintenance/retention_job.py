"""Hourly retention: delete expired register rows and chat files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bot.config.paths import Paths
from bot.maintenance.retention_files import sweep_files
from connectors.delivery import retention
from core.crash_points import declare
from core.signing.signing_key import SigningKey
from database.engine.batched_delete import drain
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agent_messages, auto_resume, peer_messages, runs, tool_calls
from database.queries.chat import approval_rules, approvals, questions
from database.queries.forge import forge_events, issue_runs
from database.queries.operations import audit_anchors, command_runs, web_sessions
from database.queries.spending import hourly_rollup, pacing_windows, quota_history, usage_ledger

FORGET = declare("commands.forget")
FORGET_ROWS = declare("requests.forget")

#: Seconds to keep command runs, tasks, and messages and questions of agents. Longer than the idempotency keys of the
#: events that asked for them.
KEEP_RUNS = 420 * 86_400.0
KEEP_AUDIT = 5 * 365 * 86_400.0
#: Seconds to keep single requests of the ledger, and their hourly sums.
KEEP_ROWS = 400 * 86_400.0
KEEP_SUMS = KEEP_AUDIT
#: Seconds to keep quota reports of providers; the share of a window that a token uses is estimated from them.
KEEP_QUOTAS = 60 * 86_400.0
#: Seconds to keep sessions of browsers after their end. The audit says longer who logged in and out.
KEEP_WEB_SESSIONS = 30 * 86_400.0
#: Seconds to keep what a forge told, after it was handled. A forge delivers an event again for some days.
KEEP_FORGE_EVENTS = 30 * 86_400.0
#: Seconds to keep files sent to and received from chat.
KEEP_FILES = 14 * 86_400.0


async def sweep(store: Store, paths: Paths, clock: Callable[[], float], files: int = 10**9) -> None:
    """Delete expired rows and chat files, and sign what is left of the audit.

    Args:
        store: the register.
        paths: where the files are.
        clock: seconds since the epoch.
        files: the number of bytes to keep in each folder of chat files.

    Raises:
        RegisterError: the register cannot be used.
        SigningKeyUnusable: the audit could not be signed; everything else was done.
    """
    now = clock()
    await retention.sweep(store, now)
    for forget, kept_s in (
        (command_runs.forget, KEEP_RUNS),
        (agent_messages.forget, KEEP_RUNS),
        (approvals.forget, KEEP_RUNS),
        (approval_rules.forget, 0.0),
        (peer_messages.forget, KEEP_RUNS),
        (tool_calls.forget, KEEP_FILES),
        (tasks.forget, KEEP_RUNS),
        (runs.forget, KEEP_RUNS),
        (issue_runs.forget, KEEP_RUNS),
        (forge_events.forget, KEEP_FORGE_EVENTS),
        (questions.forget, KEEP_RUNS),
        (auto_resume.forget, KEEP_RUNS),
        (pacing_windows.forget, KEEP_RUNS),
        (quota_history.forget, KEEP_QUOTAS),
        (hourly_rollup.forget, KEEP_SUMS),
        (web_sessions.forget, KEEP_WEB_SESSIONS),
    ):
        await drain(store, FORGET, partial(forget, before=now - kept_s))
    await drain(store, FORGET_ROWS, partial(usage_ledger.forget, before=now - KEEP_ROWS))
    await sweep_files(store, (paths.outgoing, paths.incoming), before=now - KEEP_FILES, limit=files)
    try:
        await _sweep_audit(store, paths, now)
    finally:
        while await store.shrink():
            pass


async def _sweep_audit(store: Store, paths: Paths, now: float) -> None:
    """Delete expired lines of the audit, and sign the newest. It comes last, so that an unusable key keeps nothing
    else from being deleted.

    Raises:
        SigningKeyUnusable: the key cannot be used; nothing was deleted.
    """
    signer = SigningKey.at(paths.signing_key)
    await drain(store, FORGET, partial(audit_anchors.forget, before=now - KEEP_AUDIT, signer=signer, now=now))
    async with store.write(FORGET) as tx:
        await audit_anchors.adopt(tx)
        await audit_anchors.checkpoint(tx, signer, now)
