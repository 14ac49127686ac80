"""Tasks in a room: each goes to one agent once, and people see what becomes of it and what it cost."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from register.queries import tasks
from tests.bot.house import ROOM, House, house

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from register.queries.tasks import Task

import pytest


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def done(status: str = "done", summary: str = "It works now.") -> str:
    return f"[[tool: mcp__muster__task_done {json.dumps({'status': status, 'summary': summary})}]]"


def id_in(text: str) -> str:
    found = re.search(r"Task `([0-9a-f]{8})`", text)
    assert found is not None, text
    return found[1]


async def task_of(home: House, task_id: str) -> Task:
    assert home.orchestrator is not None
    async with home.orchestrator.store.read() as tx:
        found = await tasks.get(tx, task_id)
    assert found is not None
    return found


async def test_a_task_goes_to_a_free_agent_and_ends_with_its_cost(home: House) -> None:
    async with home.open():
        thread = await home.launch("coder0")
        said = await home.ask(f"!task add 'Mend it. {done()} [[say: over]]' --role coder")
        name = id_in(said)
        assert "goes to coder0" in said
        assert "Mend it" in await home.heard(thread, f"Task `{name}` of memory:@ana")
        last = await home.heard(thread, f"Task `{name}` is done")
        assert "It works now." in last
        assert re.search(r"Projected .*tokens.*, used .*tokens", last), last
        assert "is done" in await home.heard(ROOM, f"Task `{name}` is done")
        found = await task_of(home, name)
        assert (found.state, found.assigned, found.attempt, found.summary) == ("done", "coder0", 1, "It works now.")
        assert found.actual_tokens is not None
        assert found.actual_tokens > 0
        shown = await home.ask("!tasks --all")
        assert name in shown
        steps = await home.ask(f"!task {name[:5]}")
        assert "running" in steps
        assert "done" in steps
