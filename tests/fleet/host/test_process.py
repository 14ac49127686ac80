from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet.events import Closing, RuntimeStarted, TextChunk, TurnAccepted, TurnEnded
from tests.fleet.agents import Agent, gone, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent.make(tmp_path)


async def test_a_message_becomes_a_turn_with_its_answer(agent: Agent) -> None:
    async with agent.running() as link:
        sent = await link.send("m1", "say=hello say=you", sender="ana")
        assert sent.state == "journaled"
        ended = await until(link, lambda event: isinstance(event, TurnEnded))
        assert ended.event.stop_reason == "end_turn"
        assert ended.event.message == "m1"
        await link.shutdown(reason="asked to stop")
    assert "".join(event.text for event in agent.events(TextChunk)) == "helloyou"
    assert [event.message for event in agent.events(TurnAccepted)] == ["m1"]
    assert [event.reason for event in agent.events(Closing)] == ["asked to stop"]
    assert agent.events(RuntimeStarted)[0].loaded is False
    await gone(agent)
    assert agent.left_over() == []
