"""Operators ask agents on the side, while these work and when they do not run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.api_client import Client
from bot.commands import sections
from bot.interfaces.cli import main as cli
from connectors.memory import MemoryServer
from fleet.journal.events import AsideAsked
from fleet.runtimes import RUNTIMES
from tests import waiting
from tests.bot.orchestrator import OPERATOR, VIEWER, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as found, found.open():
        yield found


async def test_an_answer_comes_into_the_thread_while_the_turn_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    phrases = (
        ("How far is it?", "[[say: Nearly there.]]"),
        ("Which mill is it?", "[[say: It is a water mill.]]"),
        ("build the mill", "[[wait: gate]] [[say: It stands.]]"),
    )
    async with house(tmp_path, phrases=phrases) as home, home.open():
        thread = await home.launch("coder0")
        working = home.say("build the mill", thread)
        await home.chat.until(lambda: "📥" in home.chat.reactions(working), limit=30)
        await waiting.until(lambda: home.orchestrator.agents.in_turn("coder0"), limit=30)
        asked = await home.ask("!btw coder0 Which mill is it?", sender=OPERATOR)
        assert asked == "Asked coder0 on the side. The answer comes in its thread, and its own work goes on."
        told = await home.heard(thread, "on the side")
        assert told.startswith("💬 **coder0, on the side**: `Which mill is it?`")
        assert "It is a water mill." in told
        assert "answered from a summary" in told, "the built-in agent cannot fork"
        assert home.orchestrator.agents.in_turn("coder0")

        client = Client(home.paths.gateway_socket)
        capsys.readouterr()
        line = ["btw", "coder0", "How far is it?", "--json"]
        assert await asyncio.to_thread(cli.run, sections.load(), line, client=lambda: client) == 0
        assert json.loads(capsys.readouterr().out)["state"] == "asked"
        await home.heard(thread, "Nearly there.")
        home.models.release("gate")
        await home.marks(working, "✅")
        assert await home.heard(thread, "It stands.")
        assert "operator" in await home.ask("!btw coder0 why?", sender=VIEWER)
        assert "btw name=coder0 text=why? | refused" in await home.ask("!audit")


async def test_what_it_wants_to_do_is_refused_and_told(home: House) -> None:
    thread = await home.launch("coder0")
    await home.heard_from("coder0")
    await home.ask("!btw coder0 [[run: touch made]] [[say: done]]")
    told = await home.heard(thread, "on the side")
    assert "It may only read, and was refused" in told
    assert "touch made" in told
    assert not (Path((await home.row()).workspace) / "made").exists()
    assert not any("asks for permission" in text for text in home.chat.texts(thread)), "nobody is asked"


async def test_a_second_question_is_refused_with_what_to_do(home: House) -> None:
    thread = await home.launch("coder0")
    await home.heard_from("coder0")
    await home.ask("!btw coder0 [[wait: gate]] [[say: first]]")
    second = await home.ask("!btw coder0 [[say: second]]")
    assert "coder0 answers another question on the side. Ask again after that answer" in second
    assert "!send coder0 TEXT" in second
    home.models.release("gate")
    await home.heard(thread, "first")
    await home.ask("!btw coder0 [[say: third]]")
    await home.heard(thread, "third")


async def test_agents_that_do_not_run_are_not_asked(home: House) -> None:
    await home.launch("coder0")
    await home.heard_from("coder0")
    await home.ask("!freeze coder0")
    assert "coder0 is frozen, so it can answer nothing. `!resume coder0`" in await home.ask("!btw coder0 why?")
    await home.launch("coder1")
    await home.heard_from("coder1")
    await home.ask("!stop coder1")
    assert "coder1 does not run. `!launch coder1` starts it." in await home.ask("!btw coder1 why?")
    assert "No agent is called 'nobody'" in await home.ask("!btw nobody why?")


async def test_a_killed_host_loses_the_question_and_the_person_is_told_once(home: House) -> None:
    thread = await home.launch("coder0")
    await home.heard_from("coder0")
    await home.ask("!btw coder0 [[wait: gate]] [[say: first]]")
    link = home.orchestrator.agents.link("coder0")
    assert link is not None
    os.kill(link.hello.pid, signal.SIGKILL)
    told = await home.heard(thread, "is lost")
    assert told.startswith("✖ **The question on the side to coder0 is lost**: `[[wait: gate]] [[say: first]]`")
    assert "`!btw coder0 TEXT` asks again." in told
    await home.chat.until(lambda: sum("Ready" in text for text in home.chat.texts(thread)) == 2, limit=30)
    home.models.release("gate")
    await home.heard_from("coder0")
    await home.ask("!btw coder0 [[say: third]]")
    await home.heard(thread, "third")
    assert sum("is lost" in text for text in home.chat.texts(thread)) == 1


async def test_an_orchestrator_that_comes_back_knows_what_was_asked(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
            await home.heard_from("coder0")
            await home.ask("!btw coder0 [[wait: gate]] [[say: first]]")
            supervisor = home.orchestrator.agents
            await waiting.until(lambda: _asked(supervisor.context.starter.folder("coder0")), limit=30)
        home.models.release("gate")
        async with home.open():
            told = await home.heard(thread, "on the side")
            assert told.startswith("💬 **coder0, on the side**: `[[wait: gate]] [[say: first]]`")
            assert sum("on the side" in text for text in home.chat.texts(thread)) == 1


def _asked(folder: Path) -> bool:
    return any('"' + AsideAsked.KIND + '"' in file.read_text() for file in (folder / "journal").glob("*"))


async def test_who_asks_on_another_chat_system_gets_the_answer_there_too(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        written = home.paths.muster_yaml.read_text()
        written = written.replace("memory: {}", "memory: {}\n  east: {kind: memory}")
        home.paths.muster_yaml.write_text(written.replace("operators:\n", "operators:\n  east:@bob: operator\n"))
        east = MemoryServer()
        home.others["east"] = east
        async with home.open():
            thread = await home.launch("coder0")
            await home.heard_from("coder0")
            east.post("!btw coder0 [[say: because]]", sender="@bob", conversation="hall")
            await home.heard(thread, "because")
            await east.until(lambda: [text for text in east.texts("hall") if "on the side**" in text], limit=30)
            (told,) = [text for text in east.texts("hall") if "on the side**" in text]
            assert "because" in told


async def test_a_runtime_that_cannot_answer_beside_a_turn_is_asked_nothing(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "sim", replace(RUNTIMES["sim"], no_aside="A second session would end the first."))
    await home.launch("coder0")
    said = await home.ask("!btw coder0 why?")
    assert "A second session would end the first. `!send coder0 TEXT` asks the agent itself." in said
