"""The life of a task has no dead ends, and the register takes no step that the table does not have."""

from __future__ import annotations

from typing import Any

import pytest

from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.task_states import ENDED, OPEN, TRANSITIONS, TaskEvent
from database.queries.tasks import Task

STEP = declare("test.task_states")


def after(state: str) -> set[str]:
    """The states that can follow at once."""
    return {each.target for each in TRANSITIONS.values() if each.target is not None and state in each.sources}


def reachable(state: str) -> set[str]:
    found, left = set[str](), {state}
    while left:
        found |= left
        left = {following for each in left for following in after(each)} - found
    return found


def test_each_event_has_a_transition() -> None:
    assert TRANSITIONS.keys() == set(TaskEvent)


def test_a_new_task_can_come_to_every_state() -> None:
    assert reachable("queued") == {*OPEN, *ENDED}


@pytest.mark.parametrize("state", OPEN)
def test_each_open_state_leads_to_an_end(state: str) -> None:
    assert reachable(state) & set(ENDED)


@pytest.mark.parametrize("state", ENDED)
def test_an_end_stays_an_end(state: str) -> None:
    assert after(state) == set()


async def test_the_register_takes_the_steps_of_the_table_and_no_others(store: Store) -> None:
    given: dict[str, Any] = {"text": "x", "lane": "x", "operator": "ana", "created_at": 1.0, "updated_at": 1.0}
    async with store.write(STEP) as tx:
        for number, (state, event) in enumerate((state, event) for state in (*OPEN, *ENDED) for event in TaskEvent):
            task = Task(id=f"t{number}", kind="task", state=state, **given)
            await tasks.add(tx, task)
            taken = await tasks.change(tx, task.id, event, now=2.0)
            found = await tasks.get(tx, task.id)
            assert found is not None
            legal = TRANSITIONS[event]
            assert taken == (state in legal.sources), (state, event)
            assert found.state == ((legal.target or state) if taken else state), (state, event)
