"""The persistent agents of the roster come up with Muster, and nobody else does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.app import autostart
from bot.setup import shutdown_record
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from fleet.supervision import host_lifecycle
from tests.bot.orchestrator import ROOM, House, house

FLEET = """\
defaults: {runtime: sim, sandbox: none}
agents:
  - {name: lead, role: orchestrator, persistent: true}
  - {name: polisher, role: enhancer, persistent: true}
  - {name: coder0, role: coder, persistent: false}
"""


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, roster=FLEET) as made:
        settings = made.paths.muster_yaml.read_text()
        made.paths.muster_yaml.write_text(settings.replace("memory: {}", f"memory: {{fleet_room: {ROOM}}}"))
        yield made


async def bring_up(home: House) -> dict[str, AgentRow]:
    """Bring the fleet up; who is in the register then."""
    await autostart.bring_up(home.orchestrator.services, home.orchestrator.executor, stagger_s=0)
    async with home.orchestrator.store.read() as tx:
        return {row.name: row for row in await agents.every(tx)}


async def ready(home: House, *names: str) -> None:
    for name in names:
        await home.heard(await home.thread(name), "Ready")


async def test_the_core_comes_up_once_and_workers_do_not(home: House) -> None:
    async with home.open():
        first = await bring_up(home)
        assert set(first) == {"lead", "polisher"}
        await ready(home, "lead", "polisher")
        again = await bring_up(home)
        assert {row.launch_id for row in again.values()} == {row.launch_id for row in first.values()}
    async with home.open():
        later = await bring_up(home)
        assert {row.launch_id for row in later.values()} == {row.launch_id for row in first.values()}
        assert "muster:up" in await home.ask("!audit")


@pytest.mark.slow
async def test_who_died_meanwhile_comes_up_again(home: House) -> None:
    async with home.open():
        first = await bring_up(home)
        await ready(home, "lead", "polisher")
    await host_lifecycle.kill(home.paths.agent_folder("lead"))
    async with home.open(bring_up=True):
        await home.heard(await home.thread("lead"), "starts again by itself")
        second = await bring_up(home)
        assert second["polisher"].launch_id == first["polisher"].launch_id
        await home.ask("!send lead [[say: back again]]")
        await home.heard(await home.thread("lead"), "back again")


@pytest.mark.slow
async def test_whom_an_operator_stopped_stays_stopped_unless_it_was_together_with_muster(home: House) -> None:
    async with home.open():
        await bring_up(home)
        await ready(home, "lead", "polisher")
        for name in ("lead", "polisher"):
            await home.ask(f"!stop {name}")
            await home.heard(await home.thread(name), "Stopped")
        assert {row.wanted for row in (await bring_up(home)).values()} == {"stopped"}
    shutdown_record.write(home.paths.brought_down, ["polisher", "coder0"])
    async with home.open():
        rows = await bring_up(home)
        assert {name: row.wanted for name, row in rows.items()} == {"lead": "stopped", "polisher": "running"}
        assert not home.paths.brought_down.exists()


async def test_who_cannot_be_brought_up_is_told_and_the_others_come(home: House) -> None:
    home.paths.roster_yaml.write_text(FLEET.replace("role: orchestrator,", "role: orchestrator, workspace: ~/none,"))
    async with home.open():
        assert set(await bring_up(home)) == {"polisher"}
        told = await home.heard(ROOM, "lead was not brought up")
        assert "no folder" in told


async def test_of_a_roster_that_breaks_a_rule_nobody_is_brought_up(home: House) -> None:
    home.paths.roster_yaml.write_text(FLEET.replace("role: enhancer", "role: coder"))
    async with home.open():
        assert await bring_up(home) == {}
        assert await bring_up(home) == {}
        told = await home.heard(ROOM, "No agent was brought up")
        assert "no agent has the role enhancer" in told
        assert len([text for text in home.chat.texts(ROOM) if "No agent was brought up" in text]) == 1
