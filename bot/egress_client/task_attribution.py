"""For which task a request counts: the one that the egress read where the agent was said to have written it, if the
agent has or had that task.

The file in which an agent host says what its agent is at (`fleet.host.current_turn_file`) is closed to an agent in a
sandbox; one without could name another's task there. What the register says of tasks an agent cannot write.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from database.queries import tasks
from database.queries.agents import agent_messages
from fleet.control.task_attempt_ids import message_of, task_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy.ext.asyncio import AsyncConnection

    from egress.ledger.model import LedgerEntry

log = structlog.get_logger(__name__)


async def believed(tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Return the same requests; those for a task that their agent never had are for none.

    Asks once for a whole page, and a second time only where a task was given to more than one agent or is not known.

    Raises:
        RegisterError: the register cannot be read.
    """
    claimed = {(each.task, each.agent) for each in entries if each.task is not None}
    if not claimed:
        return list(entries)
    true = await _true(tx, claimed)
    found = [
        each if each.task is None or (each.task, each.agent) in true else replace(each, task=None) for each in entries
    ]
    for agent in sorted({agent for _, agent in claimed - true}):
        requests = sum(
            each.agent == agent and was.task is not None and each.task is None
            for was, each in zip(entries, found, strict=True)
        )
        log.warning("ledger.task_not_its_own", agent=agent, requests=requests)
    return found


async def _true(tx: AsyncConnection, claimed: AbstractSet[tuple[str, str]]) -> set[tuple[str, str]]:
    # What has not the form of a task's id is none, and is not looked for.
    given = await tasks.given(tx, {task for task, _ in claimed if task_of(message_of(task, 1)) == task})
    true = {(task, agent) for task, agent in claimed if task in given and given[task][0] == agent}
    # Each attempt went to an agent as a message of its own.
    earlier = {
        message_of(task, attempt): task
        for task in {task for task, _ in claimed - true if task in given}
        for attempt in range(1, given[task][1])
    }
    carried = await agent_messages.agents_of(tx, earlier)
    return true | {(earlier[message], agent) for message, agent in carried.items()}
