"""Which turn an agent is in, for whoever meters it."""

from __future__ import annotations

import json
from typing import Any

from fleet.journal.events import PermissionAsked, RuntimeStarted, TurnEnded
from tests.fleet.host.scripted_agent import Agent, until


def told(agent: Agent) -> Any:
    return json.loads((agent.folder / "turn.json").read_text())


async def test_says_the_turn_while_it_runs_and_none_after_it(agent: Agent) -> None:
    async with agent.running() as link:
        started = await until(link, RuntimeStarted)
        await link.send("m1", "ask=rm")
        asked = await until(link, PermissionAsked)
        assert told(agent) == {"session": started.session, "turn": asked.turn, "task": None}
        await link.cancel()
        await until(link, TurnEnded)
        assert told(agent) == {"session": started.session, "turn": None, "task": None}
        assert (agent.folder / "turn.json").stat().st_mode & 0o077 == 0


async def test_says_none_once_the_runtime_died_in_the_middle(agent: Agent) -> None:
    async with agent.running() as link:
        await link.send("m1", "die=3")
        assert (await until(link, TurnEnded)).stop_reason != "end_turn"
    assert told(agent)["turn"] is None


async def test_a_turn_goes_on_where_it_cannot_be_said_and_no_old_word_is_left(agent: Agent) -> None:
    async with agent.running() as link:
        await until(link, RuntimeStarted)
        # In its place a folder: nothing can be written, as on a full disk.
        (agent.folder / "turn.part").mkdir()
        await link.send("m1", "say=hello")
        assert (await until(link, TurnEnded)).stop_reason == "end_turn"
    assert not (agent.folder / "turn.json").exists()
