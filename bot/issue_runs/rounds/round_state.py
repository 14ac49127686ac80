"""What all steps of a round share: its services, and how it is named in the register."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.rounds.workspace import RunGround
from bot.issue_runs.services import IssueServices
from bot.messaging.composer import MessagePlace
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.forge.issue_runs import IssueRun
from forge.model.references import IssueReference, RepositoryName
from forge.runs.round import PublishResult, RoundStep, WorkResult

T = TypeVar("T")

#: Git may wait for a forge that hangs for minutes. The threads that all of Muster shares are few, so it has its own.
_GIT_THREADS: Final = ThreadPoolExecutor(4, thread_name_prefix="forge-git")
#: What an order comes to whose round is not the current one any more, such as after a restored backup.
STALE: Final = {RoundStep.WORK: WorkResult.STOPPED.value, RoundStep.PUBLISH: PublishResult.REFUSED.value}
DONE: Final = "done"
#: What the order *propose* comes to if it opened the pull request; *done*: there was one.
OPENED: Final = "opened"
#: What the orders *propose* and *record* come to if the forge refuses them for too long.
GIVEN_UP: Final = "given_up"


@dataclass(frozen=True, slots=True)
class RoundContext:
    """The services of the steps."""

    services: IssueServices
    link: ForgeLink

    def ground(self, run: IssueRun) -> RunGround:
        """Return where a run's work lies."""
        return RunGround.of(self.link, self.services.planner.workspaces, run)

    async def work_of(self, tx: AsyncConnection, run: IssueRun) -> AgentRun | None:
        """Return the agent's work of the current round."""
        return await runs.get(tx, work_id(run))

    async def tell(self, tx: AsyncConnection, run: IssueRun, key: str, text: str) -> None:
        """Say something in the run's thread, once per key."""
        await self.services.agents.journal_effects.speak(tx, f"issue/{run.id}/{key}", text, thread_of(run))


def order_key(run_id: str, number: int, step: RoundStep) -> str:
    """Return the key of an order."""
    return f"{run_id}/{number}/{step.value}"


def place_of(key: str) -> tuple[str, int, RoundStep]:
    """Return the run, the round and the step that a key names."""
    run_id, number, step = key.rsplit("/", 2)
    return run_id, int(number), RoundStep(step)


def work_id(run: IssueRun) -> str:
    """Return the id of the agent's work in the current round."""
    return f"{run.id}-{run.round}"


def named(wanted: str) -> str:
    """Return the beginning of a run's id from what a person wrote: the run, or its agent's work of one round."""
    begins = wanted.strip().strip("`").casefold()
    head, dash, number = begins.rpartition("-")
    return head if dash and number.isdecimal() else begins


def marker_key(run: IssueRun, step: RoundStep) -> str:
    """Return what the marker of a post of this round says."""
    return f"{run.id}.{run.round}.{step.value}"


def thread_of(run: IssueRun) -> MessagePlace:
    """Return the run's thread."""
    return MessagePlace(run.connector, thread_of=run.thread_key)


def issue_of(run: IssueRun) -> IssueReference:
    """Return the issue at the forge."""
    return IssueReference(RepositoryName.parse(run.repository), run.number)


async def in_git_thread(work: Callable[[], T]) -> T:
    """Do what blocks while git talks with the forge, and return what it returns."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_GIT_THREADS, partial(context.run, work))
