"""An agent of the roster that could not start is shown with its reason, wherever its name is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bot.orchestrator import ROOM, House, house

FLEET = """\
defaults: {runtime: sim, sandbox: none}
agents:
  - {name: lead, role: orchestrator, persistent: true, workspace: /nonexistent/place}
  - {name: polisher, role: enhancer, persistent: true, workspace: /nonexistent/place}
  - {name: coder0, role: coder, persistent: false}
"""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, roster=FLEET) as made:
        settings = made.paths.muster_yaml.read_text()
        made.paths.muster_yaml.write_text(settings.replace("memory: {}", f"memory: {{fleet_room: {ROOM}}}"))
        yield made


async def test_the_reason_is_said_where_the_agent_is_named(home: House) -> None:
    async with home.open():
        listed = await home.ask("!ps")
        assert "lead, polisher cannot start." in listed
        assert "no folder" in listed
        for line in ("!send lead hello", "!lead hello", "hello"):
            told = await home.ask(line)
            assert "lead is in the roster, but could not start." in told, line
            assert "no folder" in told, line
        assert "`!launch coder0` starts it" in await home.ask("!send coder0 hello")
        assert "No agent is called" in await home.ask("!send coder9 hello")
        assert 'no command "coder9"' in await home.ask("!coder9 hello")
        await home.ask("!launch coder0")
        assert "`!send coder0 TEXT` writes to it" in await home.ask("!coder0 hello")
