"""Fetching of the commits that an agent makes in its clone of a repository, with a report in its thread.

A check runs when a turn begins or ends, and when the agent host starts or ends. Without new commits, a check only reads
one small file.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import structlog

from bot.agents.context import AgentContext
from bot.agents.journal.follower import FOLLOW
from bot.commands import sections
from bot.commands.syntax import from_shell
from bot.text import markdown
from database.queries.agents import agents, last_results
from fleet.errors import FleetError

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger(__name__)

#: Few threads, because an agent can make git hang, and must not block the threads of the rest of Muster.
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="gathering")


@dataclass(kw_only=True, slots=True)
class CommitFetcher:
    """The commit fetcher of one agent."""

    name: str
    context: AgentContext
    _due: asyncio.Event = field(default_factory=asyncio.Event)

    def due(self) -> None:
        """Request a check for commits."""
        self._due.set()

    async def run(self) -> None:
        """Run each requested check, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._gather()

    async def _gather(self) -> None:
        try:
            collected = await _in_thread(self.context.starter.workspaces.collect, self.name)
        except (FleetError, OSError) as error:
            log.warning("agent.commits_not_taken_over", agent=self.name, reason=str(error))
            # The digest in the key makes each distinct error appear once per launch, despite retries.
            digest = hashlib.sha256(str(error).encode()).hexdigest()[:16]
            await self._tell(f"commits/{digest}", f"⚠️ {from_shell(str(error), sections.load())}")
            return
        if collected is None:
            return
        key = f"commits/{collected.tip}/{collected.held}"
        # Empty commits and reverts do not count as results.
        shown = collected.commits > 0 and collected.shows
        await self._tell(key, f"⇡ {collected.sentence(markdown.code)}", result=shown)
        await _in_thread(self.context.starter.workspaces.acknowledge, self.name, collected)

    async def _tell(self, key: str, text: str, *, result: bool = False) -> None:
        async with self.context.store.write(FOLLOW) as tx:
            row = await agents.get(tx, self.name)
            if row is not None:
                if result:
                    await last_results.note(tx, self.name, "commit", self.context.clock())
                await self.context.journal_effects.note(tx, row, f"{key}/{row.launch_id}", text)
        self.context.wake_delivery()


async def _in_thread(act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, functools.partial(act, *args, **kwargs))
