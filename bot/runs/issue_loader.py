"""Gathers runs of issues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.pacing import run_queue
from bot.read_models.runs import IssueRunLine
from bot.runs.issue_lines import issue_url, line_of
from bot.runs.services import RunServices
from database.queries.agents import runs
from database.queries.forge import forge_sights, issue_runs
from database.queries.forge.issue_runs import IssueRun
from forge.pull_sight import PullSight

#: Maximum number of ended runs.
ENDED: Final = 50


async def load(services: RunServices, tx: AsyncConnection) -> tuple[IssueRunLine, ...]:
    """Return the runs of issues that have not ended, and the last that did."""
    return await lines(services, tx, await issue_runs.listed(tx, ended=ENDED))


async def load_one(services: RunServices, run_id: str) -> IssueRunLine | None:
    """Return the run of an issue with this id, however long ago it ended; None if there is none.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with services.store.read() as tx:
        found = await issue_runs.get(tx, run_id)
        return None if found is None else (await lines(services, tx, [found]))[0]


async def lines(services: RunServices, tx: AsyncConnection, found: Sequence[IssueRun]) -> tuple[IssueRunLine, ...]:
    """Return runs as surfaces show them."""
    if not found:
        return ()
    works = await runs.rounds_of(tx, [run.agent for run in found])
    counts = await issue_runs.wake_counts(tx, [run.id for run in found])
    checks = await issue_runs.failed_checks(tx, [run.id for run in found])
    sights = await forge_sights.of_pull_requests(tx, [run.id for run in found])
    queue = {line.id: line for line in await run_queue.load(services.settings, tx, services.clock())}
    return tuple(
        line_of(
            run,
            [work for work in works if work.agent == run.agent],
            url=_url(services, run),
            wakes=counts.get(run.id, (0, 0)),
            checks=checks.get(run.id),
            sight=PullSight.from_json(sights.get(run.id, {})),
            queued=queue.get(run.id),
        )
        for run in found
    )


def _url(services: RunServices, run: IssueRun) -> str | None:
    block = services.settings.forge
    if block is None or urlsplit(block.address).netloc != run.forge:
        return None
    return issue_url(block.address, run.repository, run.number)
