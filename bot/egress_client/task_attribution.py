"""The attribution of requests to tasks.

The egress reads the task from a file of the agent host (`fleet.host.current_turn_file`). An agent without a sandbox can
write to that file and name another agent's task. So the register, to which agents have no access, must confirm that the
agent has or had the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from database.queries import tasks
from database.queries.agents import agent_messages
from egress.ledger.model import LedgerEntry
from fleet.control.task_attempt_ids import message_of, task_of

log = structlog.get_logger(__name__)


async def believed(tx: AsyncConnection, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """Return the same requests, without the tasks that their agent never had.

    There is one query for the whole page. There is a second one only if a task was given to several agents, or is
    unknown.

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
    # Text that does not have the form of a task id is not looked up.
    given = await tasks.given(tx, {task for task, _ in claimed if task_of(message_of(task, 1)) == task})
    true = {(task, agent) for task, agent in claimed if task in given and given[task][0] == agent}
    # Each attempt was sent to an agent as a separate message.
    earlier = {
        message_of(task, attempt): task
        for task in {task for task, _ in claimed - true if task in given}
        for attempt in range(1, given[task][1])
    }
    carried = await agent_messages.agents_of(tx, earlier)
    return true | {(earlier[message], agent) for message, agent in carried.items()}
