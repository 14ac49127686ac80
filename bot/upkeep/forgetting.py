"""What is thrown away once an hour because nobody needs it any more: rows of the register, and files for chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.upkeep.retention import sweep_files
from connectors import retention
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
    async with store.write(FORGET) as tx:
        await command_runs.forget(tx, now - KEEP_RUNS)
        await agent_messages.forget(tx, now - KEEP_RUNS)
        await approvals.forget(tx, now - KEEP_RUNS)
        await audit.forget(tx, now - KEEP_AUDIT)
        await peers.forget(tx, now - KEEP_RUNS)
        await tool_calls.forget(tx, now - KEEP_FILES)
        await tasks.forget(tx, now - KEEP_RUNS)
        await questions.forget(tx, now - KEEP_RUNS)
        await continuations.forget(tx, now - KEEP_RUNS)
        await pacing.forget(tx, now - KEEP_RUNS)
        await quota_history.forget(tx, now - KEEP_QUOTAS)
        await rollup.forget(tx, now - KEEP_SUMS)
    async with store.write(FORGET_ROWS) as tx:
        await ledger.forget(tx, now - KEEP_ROWS)
    await sweep_files(store, (paths.outgoing, paths.incoming), before=now - KEEP_FILES, limit=files)
