"""The places that `forge: runs` gives: each agent that works on an issue takes one, and so does one that is about to.

A round takes no place any more while its commits are published. A run whose agent cannot begin, such as because the
forge is away, gives its place to others, and takes the next one that is free.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.rounds.round_state import order_key, work_id
from database.queries.agents import runs
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.issue_runs import IssueRun
from forge.runs.round import RoundStep

#: After so many tries in vain, a run is not about to begin any more: half a minute.
_TRIES: Final = 5


async def taken(tx: AsyncConnection) -> int:
    """Return how many places are taken."""
    found = 0
    for run in await issue_runs.in_states(tx, ["running"]):
        work = await runs.get(tx, work_id(run))
        found += work.state in runs.OPEN if work is not None else await has_one(tx, run)
    return found


async def has_one(tx: AsyncConnection, run: IssueRun) -> bool:
    """Return whether a run whose agent has not begun to work has its place."""
    order = await forge_orders.get(tx, order_key(run.id, run.round, RoundStep.WORK))
    return order is None or (order.state == "open" and order.tries < _TRIES)
