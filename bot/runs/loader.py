"""Gathers runs."""

from __future__ import annotations

from typing import Final

from bot.read_models.runs import RunLine, RunsModel
from bot.runs import issue_loader
from bot.runs.issue_lines import row_values
from bot.runs.services import RunServices
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun

#: Maximum number of ended runs.
ENDED: Final = 50


async def load(services: RunServices) -> RunsModel:
    """Return the runs that have not ended, and the last that did. The surfaces mask their texts.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with services.store.read() as tx:
        found = await runs.open_ones(tx)
        over = await runs.last_ended(tx, limit=ENDED, rounds=False)
        issues = await issue_loader.load(services, tx)
    listed = {each.id for run in issues for each in run.rounds}
    alone = (run for run in found if run.id not in listed)
    return RunsModel(open=tuple(map(line, alone)), ended=tuple(map(line, over)), issues=issues)


def line(run: AgentRun) -> RunLine:
    """Return a run as surfaces show it."""
    return RunLine(**row_values(run, RunLine))
