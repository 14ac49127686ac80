"""Agent hosts die at every place of theirs, and in the middle of turns: what became of each message is shown."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from fleet.sim.provider.server import Provider
from fleet.supervision import host_lifecycle
from fleet.supervision.process_sweep import survivors
from tests import soak, waiting
from tests.operator_client import body
from tests.pictures import PIXEL
from tests.synapse import Synapse
from tests.system import crash_places, tool_calls
from tests.system.installation import LIMIT
from tests.system.kill_stages import staged
from tests.system.matrix_installation import reacts
from tests.system.operator_record import Books, Message
from tests.system.scenarios import STANDING, Stage

pytestmark = pytest.mark.synapse

#: Places that are passed again and again, and at which passages the long form dies as well.
LATER = {"journal.commit": (2, 4, 6, 9, 13), "control.reply": (3, 6), "control.stream": (5, 20), "runtime.open": (2,)}
#: An agent that others stop.
PAL = "pal0"
#: Places in an agent's calls of Muster's own tools; the test below is about them.
CALL_PLACES = {f"{step}.{side}" for step in ("call.ask", "call.tell") for side in ("before", "after")}
#: At the first passage a runtime connects, at the third it is told of its first call.
IN_CALLS = [
    *sorted(CALL_PLACES),
    *(f"{place}:2" for place in sorted(CALL_PLACES) if place.startswith("call.ask")),
    *(f"{place}:{n}" for place in sorted(CALL_PLACES) if place.startswith("call.tell") for n in (3, 4)),
    *(f"journal.commit.{side}:{n}" for n in range(5, 10) for side in ("before", "after")),
]


def all_places() -> list[str]:
    """Every place of an agent host outside of calls. Who asks first waits for a process that imports them all."""
    later = [f"{step}.{side}:{n}" for step, passages in LATER.items() for side in ("before", "after") for n in passages]
    return [*sorted(crash_places.of_agent_host() - CALL_PLACES), *later]


# Quicker: tests/fleet/host/test_crashes.py, where nobody but the agent host is looked at.
@pytest.mark.slow
async def test_an_agent_host_dies_at_a_place(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    await _die_at(rng.sample(all_places(), 1), tmp_path, synapse, models)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4))
async def test_an_agent_host_dies_at_every_place(tmp_path: Path, synapse: Synapse, models: Provider, part: int) -> None:
    await _die_at(all_places()[part::4], tmp_path, synapse, models)


@pytest.mark.soak
async def test_the_host_of_an_agent_in_a_sandbox_dies(
    tmp_path: Path, synapse: Synapse, models: Provider, rng: random.Random
) -> None:
    await _die_at(rng.sample(all_places(), 6), tmp_path, synapse, models, sandbox="bubblewrap")


@pytest.mark.soak
@pytest.mark.parametrize("part", range(2))
async def test_an_agent_host_dies_in_a_call(tmp_path: Path, synapse: Synapse, models: Provider, part: int) -> None:
    agents = {"runtime": "sim", "sandbox": "none", "heartbeat": "1s", "messages_per_minute": 1000}
    async with staged(tmp_path, synapse, models, agents=agents) as stage:
        stage.books.may_be_cut = True
        await stage.home.start()
        await stage.books.ask(f"!launch {PAL}")
        await stage.home.kill()
        for crash in soak.in_time(IN_CALLS[part::2]):
            print(crash)
            await _die_in_a_call(stage, crash)


async def _die_in_a_call(stage: Stage, crash: str) -> None:
    """An agent's host dies while the agent writes to one and stops another; then it is started again."""
    home, books = stage.home, stage.books
    stage.played += 1
    name, word = f"boss{stage.played}", books.token()
    await home.start(MUSTER_HOST_CRASH=crash)
    await books.ask(f"!launch {name} --role orchestrator")
    thread = await home.thread_of(name)
    writing = tool_calls.order("send_message", to=STANDING, text=f"{word} [[say: heard {word}]]")
    message = await books.message(thread, f"{writing} {tool_calls.order('stop', name=PAL)}")
    await home.heard_words("✖", thread=thread)
    await home.kill()
    await home.start()
    await books.ask(f"!launch {name}")
    await books.done(message)
    await books.ask(f"!stop {name}")
    await home.heard_words("⏹ Stopped", thread=thread)
    await books.settled()
    told = tool_calls.told(home, name)
    print(told)
    acted = {"send_message": tool_calls.read_by_model(home, word), "stop": _stopped(books, name)}
    for call in told:
        tool_calls.check(call, acted.pop(call.tool))
    assert not any(acted.values()), f"nobody asked for it: {acted}"
    await home.kill()


def _stopped(books: Books, agent: str) -> int:
    """How often this agent has stopped another."""
    query = "SELECT count(*) FROM audit WHERE door = 'tools' AND action = 'stop' AND identity = ?"
    with books.register() as register:
        return int(register.execute(query, (f"agent:{agent}",)).fetchone()[0])


async def _die_at(
    crashes: Sequence[str], folder: Path, synapse: Synapse, models: Provider, *, sandbox: str = "none"
) -> None:
    agents = {"runtime": "sim", "sandbox": sandbox, "heartbeat": "1s"}
    async with staged(folder, synapse, models, agents=agents) as stage:
        stage.books.may_be_cut = True
        for crash in soak.in_time(crashes):
            print(crash)
            await _die(stage, crash)


async def _die(stage: Stage, crash: str) -> None:
    """An agent whose host dies at this place gets three messages; then it is started again, and all of them end."""
    home, books = stage.home, stage.books
    stage.played += 1
    name = f"host{stage.played}"
    proof = home.paths.workspace(name) / "proof"
    await home.start(MUSTER_HOST_CRASH=crash)
    await books.ask(f"!launch {name}")
    # Each try has a marker of its own.
    marker = await _marker(home.paths.agent_folder(name) / host_lifecycle.SPEC)
    thread = await home.thread_of(name)
    messages = [
        await books.picture(thread, PIXEL),
        await books.message(thread, "[[run: echo x >> proof]]"),
        await books.message(thread, "[[say: begun]][[hang]]"),
        await books.message(thread),
    ]
    async with asyncio.TaskGroup() as people:
        operator = people.create_task(_attend(stage, name, messages))
        await home.heard_words("✖", thread=thread)
        assert survivors(marker) == [], "the report says that it is gone, and something of it is not"
        await home.kill()
        await home.start()
        await books.ask(f"!launch {name}")
        for message in messages:
            await books.done(message)
        operator.cancel()
    await books.ask(f"!stop {name}")
    await home.heard_words("⏹ Stopped", thread=thread)
    assert not proof.exists() or proof.read_text() == "x\n", "what was allowed once was done twice"
    await home.kill()


async def _marker(spec: Path) -> str:
    """What the processes of an agent carry, once its host is about to be started."""
    await waiting.until(lambda: spec.exists(), limit=LIMIT)
    marker: str = json.loads(spec.read_text())["marker"]
    return marker


async def _attend(stage: Stage, name: str, messages: Sequence[Message]) -> None:
    """Allow what is asked for, and cancel the turn that hangs, for as long as it does."""
    home, books = stage.home, stage.books
    hanging, allowed = messages[2], set[str]()
    while not all(books.is_done(message) for message in messages):
        for event in list(home.ana.seen[home.room]):
            asks = "asks for permission" in body(event) and f"**{name}**" in body(event)
            if asks and event["event_id"] not in allowed and "m.new_content" not in event["content"]:
                allowed.add(event["event_id"])
                await home.ana.react(home.room, event["event_id"], "✅")
        begun = any(reacts(event) == (hanging.event_id, "👀") for event in home.ana.seen[home.room])
        if begun and not books.is_done(hanging):
            await books.command(f"!cancel {name}")
            await asyncio.sleep(1)
        # Whoever waits for something in the room meanwhile also fills `seen`.
        await asyncio.sleep(0.05)
