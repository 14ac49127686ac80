"""What is thrown away once an hour because nobody needs it any more: rows of the register, and files for chat."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bot.upkeep.retention import sweep_files
from connectors import retention
from register.batches import drain
from register.crashpoints import declare
from register.queries import (
    agent_messages,
    approvals,
    audit,
    command_runs,
    continuations,
    ledger,
    pacing,
    peers,
    questions,
    quota_history,
    rollup,
    tasks,
    tool_calls,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bot.paths import Paths
    from register.store import Store

FORGET = declare("commands.forget")
FORGET_ROWS = declare("requests.forget")

#: Runs of commands, tasks, and what went to agents or was asked by them, are kept for so many seconds: longer than the
#: keys of the events that asked for them.
KEEP_RUNS = 420 * 86_400.0
KEEP_AUDIT = 5 * 365 * 86_400.0
#: Single requests in the ledger, and their sums by the hour.
KEEP_ROWS = 400 * 86_400.0
KEEP_SUMS = KEEP_AUDIT
#: What providers said of quotas: what a token is of a window is learned from it.
KEEP_QUOTAS = 60 * 86_400.0
#: Files for chat and from chat are kept for so many seconds.
KEEP_FILES = 14 * 86_400.0


async def sweep(store: Store, paths: Paths, clock: Callable[[], float], files: int = 10**9) -> None:
    """Forget what nobody needs any more, in the register and of files for chat, of which `files` bytes stay."""
    now = clock()
    await retention.sweep(store, now)
    for forget, kept_s in (
        (command_runs.forget, KEEP_RUNS),
        (agent_messages.forget, KEEP_RUNS),
        (approvals.forget, KEEP_RUNS),
        (audit.forget, KEEP_AUDIT),
        (peers.forget, KEEP_RUNS),
        (tool_calls.forget, KEEP_FILES),
        (tasks.forget, KEEP_RUNS),
        (questions.forget, KEEP_RUNS),
        (continuations.forget, KEEP_RUNS),
        (pacing.forget, KEEP_RUNS),
        (quota_history.forget, KEEP_QUOTAS),
        (rollup.forget, KEEP_SUMS),
    ):
        await drain(store, FORGET, partial(forget, before=now - kept_s))
    await drain(store, FORGET_ROWS, partial(ledger.forget, before=now - KEEP_ROWS))
    while await store.shrink():
        pass
    await sweep_files(store, (paths.outgoing, paths.incoming), before=now - KEEP_FILES, limit=files)
