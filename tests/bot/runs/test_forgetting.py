"""Agents of runs that ended long ago are forgotten, and their names are free again; nobody's work is."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from bot.runs.forgetting import RunForgetting
from core.crash_points import declare
from database.queries.agents import agents
from tests.bot.orchestrator import House, house
from tests.bot.runs.test_service import SETTINGS, ended

DAY = 86_400.0
STEP = declare("tests.run_forgetting")


async def after(home: House, days: float) -> None:
    """Forget what is old, as it would be that many days later."""
    services = home.orchestrator.services
    kept = services.settings.retention.topics - days * DAY
    retention = services.settings.retention.model_copy(update={"topics": kept})
    await RunForgetting(replace(services, settings=replace(services.settings, retention=retention))).sweep()


async def run(home: House, words: str, agent: str = "coder") -> None:
    await home.ask(f'!run coder --prompt "{words}"')
    await ended(home, agent)
    await rests(home, agent)


async def rests(home: House, agent: str = "coder") -> None:
    async with asyncio.timeout(30):
        while (row := await home.known(agent)) is None or row.state not in ("frozen", "stopped"):
            await asyncio.sleep(0.02)


async def test_the_agent_of_an_old_run_is_forgotten_and_its_name_is_free(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await run(home, "[[say: one]]")
        old = await ended(home, "coder")
        thread, folder = await home.thread("coder"), home.paths.agent_folder("coder")
        await after(home, 29)
        assert await home.known("coder") is not None
        assert folder.exists()
        await after(home, 31)
        assert await home.known("coder") is None
        assert not folder.exists()
        assert "one" in await home.ask(f"!runs {old.id}"), "what it said stays with the run"
        assert "No agent is called" in await home.ask("!run --resume coder --prompt more")
        await run(home, "[[say: two]]")
        assert await home.known("coder-2") is None
        assert (await ended(home, "coder")).answer == "two"
        assert await home.thread("coder") != thread
        # Words in the thread of the one are not for the other.
        said = await home.reply(home.say("and you?", thread))
        assert "no agent" in said.text.casefold(), said.text


async def test_an_agent_of_a_run_with_which_somebody_works_stays(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await run(home, "[[say: one]]")
        await home.ask("!task add 'mend the fence' --agent coder")
        await after(home, 31)
        assert "kept: task" in str(await home.known("coder"))
        await home.ask("!resume coder")
        await home.heard_from("coder")
        await after(home, 31)
        assert (await home.row("coder")).wanted == "running"


async def test_an_agent_of_the_roster_is_never_forgotten(tmp_path: Path) -> None:
    roster = "preset: minimal\nagents:\n  - {name: coder0, role: coder, runtime: sim, sandbox: none}\n"
    async with house(tmp_path, settings=SETTINGS, roster=roster) as home, home.open():
        await home.ask('!run coder0 --prompt "[[say: myself]]"')
        await ended(home, "coder0")
        await rests(home, "coder0")
        await home.launch("mine")
        await home.ask("!stop mine")
        await rests(home, "mine")
        await after(home, 400)
        assert await home.known("coder0") is not None
        assert await home.known("mine") is not None


async def test_work_that_is_nowhere_else_keeps_the_agent(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await run(home, "[[say: one]]")
        made = home.paths.workspace("coder")
        made.mkdir(parents=True, exist_ok=True)
        (made / "only-here").write_text("work")
        await after(home, 31)
        assert "kept: its workspace" in str(await home.known("coder"))
        assert (made / "only-here").read_text() == "work"


async def test_what_a_crash_left_goes_later_and_nobody_inherits_it(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await run(home, "[[say: one]]")
        async with home.orchestrator.store.write(STEP) as tx:
            await agents.forget(tx, "coder")
        await home.orchestrator.services.agents.dismiss("coder")
        folder = home.paths.agent_folder("coder")
        assert folder.exists()
        await run(home, "[[say: two]]", "coder-2")
        await after(home, 29)
        assert folder.exists()
        os.utime(folder)
        await after(home, 31)
        assert not folder.exists()


async def test_a_rule_for_a_forgotten_agent_is_not_for_the_next_of_its_name(tmp_path: Path) -> None:
    async with house(tmp_path, settings=SETTINGS) as home, home.open():
        await run(home, "[[say: one]]")
        said = await home.ask("!budget set agent:coder 1M")
        await after(home, 31)
        assert await home.known("coder") is None
        await run(home, "[[say: two]]", "coder-2")
        assert "coder" in said
