"""The real Claude Code and Codex in a real room: an operator's day with each, and what happens when something dies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet.runtimes import RUNTIMES
from fleet.sim.provider import server as provider
from fleet.sim.provider.server import Provider
from fleet.supervision import host_lock, liveness, process_sweep
from tests import waiting
from tests.agents import hostile
from tests.agents.test_real_agents import ASKING, PROGRAMS
from tests.operator_client import Event, body, thread_root
from tests.synapse import Synapse
from tests.system.installation import LIMIT
from tests.system.matrix_installation import Installation, installation, reacts

pytestmark = [
    pytest.mark.agents,
    pytest.mark.synapse,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]


DENIED = {"claude": "✅", "codex": "⏹️"}
"""How a turn ends whose permission was denied: Claude Code goes on with that answer, Codex cancels its turn."""


@dataclass(slots=True)
class Day:
    """An operator, Muster, and one real agent called coder0."""

    home: Installation
    models: Provider
    runtime: str
    thread: str = ""
    _told: set[str] = field(default_factory=set)
    """Messages of the bot that were waited for already."""

    @property
    def workspace(self) -> Path:
        return self.home.paths.workspace("coder0")

    async def start(self) -> None:
        """Start Muster, with the real programs on its PATH."""
        await self.home.start(PATH=f"{PROGRAMS}:{os.environ['PATH']}")

    async def launch(self) -> str:
        """Launch the agent; the reply to the command."""
        reply = await self.home.ask(f"!launch coder0 --runtime {self.runtime}")
        self.thread = await self.home.thread_of("coder0")
        return reply

    async def told(self, words: str) -> str:
        """The next message of the bot in the agent's thread that holds `words`, and was not waited for before."""

        def fits(event: Event) -> bool:
            fresh = event["event_id"] not in self._told and event["type"] == "m.room.message"
            return fresh and words in body(event) and thread_root(event) == self.thread

        event = await self.home.heard(fits)
        self._told.add(event["event_id"])
        event_id: str = event["event_id"]
        return event_id

    async def say(self, text: str) -> str:
        """Say something in the agent's thread."""
        return await self.home.ana.say(self.home.room, text, thread=self.thread)

    async def talk(self, text: str) -> None:
        """Say something, wait for the end of the turn, and find the answer in the thread."""
        said = await self.say(text)
        await self.home.marked(said, "📥", "👀", "✅")
        await self.home.heard_words(f"You said: {text}", thread=self.thread)

    async def approve(self, question: str) -> None:
        await self.home.ana.react(self.home.room, question, "✅")

    async def listed(self) -> dict[str, Any]:
        """What `muster ps --all --json` says of the agent."""
        answer = await self.home.gateway("POST", "/v1/commands/ps", {"all": True})
        (agent,) = answer["data"]
        assert isinstance(agent, dict)
        return agent

    async def seen_as(self, *states: str) -> dict[str, Any]:
        """What `ps` says once the agent is in one of these states."""
        async with asyncio.timeout(LIMIT):
            while (agent := await self.listed())["state"] not in states:
                await asyncio.sleep(0.2)
        return agent

    def spoken(self, text: str) -> int:
        """Which time the person spoke in the conversation, as the model was sent it."""
        return max(entry.spoken for entry in self.models.ledger.entries if text in entry.text and entry.tools)

    def agent_host(self) -> psutil.Process:
        pid = host_lock.holder(self.home.paths.agent_folder("coder0"))
        assert pid
        return psutil.Process(pid)

    def minds(self) -> list[psutil.Process]:
        """The true runtime behind the adapter."""
        names = RUNTIMES[self.runtime].child_names
        found = [each.pid for each in process_sweep.descendants(self.agent_host().pid) if each.is_called(names)]

        assert found
        return [psutil.Process(pid) for pid in found]


@pytest.fixture(params=["claude", "codex"])
async def day(request: pytest.FixtureRequest, tmp_path: Path, synapse: Synapse) -> AsyncIterator[Day]:
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(provider.running())
        accounts = {
            "anthropic": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"},
            "openai": {"provider": "openai", "base_url": f"{models.url}/v1", "credential": "env:SIM_KEY"},
        }
        home = await stack.enter_async_context(
            installation(tmp_path, synapse, models, accounts=accounts, agents={"heartbeat": "1s"})
        )
        day = Day(home, models, request.param)
        await day.start()
        await home.joined()
        yield day


@pytest.mark.smoke
async def test_an_operator_talks_approves_looks_and_stops(day: Day) -> None:
    home = day.home
    reply = await day.launch()
    assert day.runtime in reply
    assert "sandbox" not in reply, "it runs in bubblewrap, as everything does"
    await day.told("Ready, in a new conversation")
    said = await day.say("Remember the number 4711.")
    # Claude Code writes its session down a little after the turn; whoever stops it must let it.
    await home.ask("!stop coder0")
    await day.told("Stopped")
    await home.marked(said, "📥", "👀", "✅")
    await home.heard_words("You said: Remember the number 4711.", thread=day.thread)
    await home.nobody_left()
    await day.launch()
    await day.told("Ready, going on with its conversation")
    await day.talk("What was it?")
    assert day.spoken("What was it?") == 2

    said = await day.say(ASKING[day.runtime])
    question = await day.told("asks for permission")
    shown = await home.heard(lambda event: event["event_id"] == question)
    assert "touch made && echo it is made" in body(shown)
    await home.marked(question, "✅", "❌")
    assert (await day.seen_as("waiting"))["evidence"] == "adapter"
    assert not (day.workspace / "made").exists()
    await day.approve(question)
    await home.marked(said, "✅")
    assert (day.workspace / "made").exists()
    await home.heard_words("it is made", thread=day.thread)

    said = await day.say(ASKING[day.runtime].replace("made", "unmade"))
    question = await day.told("asks for permission")
    await home.ana.react(home.room, question, "❌")
    await home.marked(said, DENIED[day.runtime])
    assert not (day.workspace / "unmade").exists()

    listed = await home.ask("!ps")
    assert "coder0" in listed
    assert "adapter, " in listed, "who says so, and how long ago"
    agent = await day.listed()
    assert (agent["state"], agent["evidence"], agent["sandbox"]) == ("idle", "adapter", "bubblewrap")
    await home.ask("!stop coder0")
    await day.told("Stopped")
    await home.nobody_left()
    assert (await day.listed())["state"] == "stopped"


async def test_a_budget_that_is_crossed_in_the_middle_of_a_turn_is_told_and_raised_without_a_new_start(
    day: Day,
) -> None:
    home = day.home
    await day.launch()
    await day.told("Ready")
    await day.talk("Good morning.")
    mind = day.minds()[0]
    said = await day.say("[[say: Half of it.]][[hang]]")
    await home.heard_words("Half of", thread=day.thread)
    await home.ask("!budget set agent:coder0 1")
    # What the egress says of it, in words that open it again; and the turn ends.
    told = await day.told("🔴 The budget of coder0 was reached")
    notice = await home.heard(lambda event: event["event_id"] == told)
    assert "`!budget set agent:coder0 LIMIT`" in body(notice)
    await home.heard(lambda event: reacts(event) in {(said, "✅"), (said, "❌")})
    spend = await home.ask("!spend")
    assert "coder0" in spend
    assert "coder0" in await home.ask("!budget")
    await home.ask("!budget set agent:coder0 10M")
    await day.talk("And now?")
    assert mind.is_running(), "nobody started it anew"
    # What it wanted besides, it was not refused.
    assert not [event for event in home.ana.seen[home.room] if "🚧" in body(event)]


async def test_it_works_on_while_muster_is_dead_and_can_be_answered(day: Day) -> None:
    home = day.home
    await day.launch()
    await day.told("Ready")
    said = await day.say(ASKING[day.runtime])
    question = await day.told("asks for permission")
    mind = day.minds()[0]
    await home.kill()
    assert mind.is_running()
    # Answered while nobody is there to hear it.
    await day.approve(question)
    await day.start()
    await home.marked(said, "✅")
    await home.heard_words("it is made", thread=day.thread)
    assert (day.workspace / "made").exists()

    said = await day.say("[[say: Half of it.]][[wait: gate]][[say: All of it.]]")
    await home.heard_words("Half of", thread=day.thread)
    await home.kill()
    day.models.release("gate")
    await waiting.until(lambda: "All of it." in day.models.ledger.entries[-1].answer, limit=LIMIT)
    await day.start()
    await home.marked(said, "✅")
    await home.heard_words("All of it.", thread=day.thread)
    await day.talk("Still there?")
    assert mind.is_running(), "nobody started it anew"
    assert day.spoken("Still there?") == 3


async def test_a_killed_agent_host_is_reported_and_its_agent_comes_back_as_it_was(day: Day) -> None:
    home = day.home
    await day.launch()
    await day.told("Ready, in a new conversation")
    await day.talk("Remember the number 4711.")
    said = await day.say("[[say: Half of it.]][[wait: gate]]")
    await home.heard_words("Half of", thread=day.thread)
    host, minds = day.agent_host(), day.minds()
    host.kill()
    await day.told("starts again by itself")
    await home.marked(said, "❌")
    _, alive = psutil.wait_procs(minds, timeout=LIMIT)
    assert not alive
    await day.told("Ready, going on with its conversation")
    await day.talk("What was it?")
    assert day.spoken("What was it?") >= 2


async def test_a_frozen_runtime_behind_its_adapter_is_never_shown_as_healthy(day: Day) -> None:
    home = day.home
    await day.launch()
    await day.told("Ready")
    await day.talk("Good morning.")
    said = await day.say("[[say: Half of it.]][[wait: gate]][[say: All of it.]]")
    await home.heard_words("Half of", thread=day.thread)
    assert (await day.seen_as("working"))["evidence"] == "adapter"
    for mind in day.minds():
        mind.suspend()
    agent = await day.seen_as("unknown")
    assert agent["evidence"] == "adapter"
    assert agent["detail"] == "the adapter answers, but the runtime behind it is stopped"
    for _ in range(5):
        # The adapter goes on answering; that must not help.
        agent = await day.listed()
        assert agent["state"] not in liveness.HEALTHY
        assert agent["evidence_age_s"] < liveness.FRESH_S
    assert "❓ unknown" in await home.ask("!ps")
    for mind in day.minds():
        mind.resume()
    day.models.release("gate")
    await home.marked(said, "✅")
    await home.heard_words("All of it.", thread=day.thread)
    await day.seen_as("idle")

    # And the way out of it, when nobody thaws it.
    for mind in day.minds():
        mind.suspend()
    await day.seen_as("unknown")
    await home.ask("!restart coder0 --now")
    await day.told("Ready, going on with its conversation")
    await day.talk("And now?")


async def test_a_hostile_repository_runs_nothing_and_grants_itself_nothing(day: Day, tmp_path: Path) -> None:
    home, outside = day.home, tmp_path / "outside"
    day.workspace.mkdir(parents=True)
    hostile.repository(day.workspace, outside)
    agent_home = home.paths.agent_folder("coder0") / "home"
    agent_home.mkdir(parents=True)
    hostile.granting(agent_home, day.workspace)
    await day.launch()
    await day.told("Ready")
    await day.talk("Good morning.")
    for decision in ("✅", "❌"):
        name = "made" if decision == "✅" else "unmade"
        said = await day.say(ASKING[day.runtime].replace("made", name))
        question = await day.told("asks for permission")
        assert not (day.workspace / name).exists()
        await home.ana.react(home.room, question, decision)
        await home.marked(said, "✅" if decision == "✅" else DENIED[day.runtime])
        assert (day.workspace / name).exists() == (decision == "✅")
    await home.ask("!restart coder0")
    await day.told("Ready")
    await day.talk("Good night.")
    await home.ask("!ps")
    await home.ask("!tail coder0")
    assert (await home.gateway("POST", "/v1/commands/grants", {}))["data"] == []
    await home.ask("!stop coder0")
    await day.told("Stopped")
    await home.nobody_left()
    assert hostile.traces_in(day.workspace, outside) == []
