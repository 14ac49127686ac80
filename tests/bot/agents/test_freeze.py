"""A frozen agent's process goes, and all that it is stays; two commands never act on one agent at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.commands import agent_lock
from bot.commands.agent_lock import CUSTODY, lease_of
from database.queries.agents import agents
from database.queries.operations import leases
from fleet.supervision import host_lifecycle
from tests.bot.orchestrator import ADMIN, ROOM, House, house
from tests.waiting import until


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


async def test_a_frozen_agent_comes_back_as_it_was_with_what_waited_for_it(home: House) -> None:
    thread = await home.launch("coder0")
    turn = home.say("[[say: first]] [[wait: gate]]", thread)
    await home.marks(turn, "👀")
    assert "is frozen when its turn ends" in await home.ask("!freeze coder0")
    home.models.release("gate")
    assert "`!resume coder0` brings it back" in await home.heard(thread, "❄️ Frozen")
    await home.marks(turn, "✅")
    await until(lambda: not host_lifecycle.is_running(home.paths.agent_folder("coder0")))
    assert "frozen" in await home.ask("!ps")
    assert "`!resume coder0` brings it back" in await home.ask("!launch coder0")
    assert "`!resume coder0` brings it back" in await home.ask("!restart coder0")
    assert "is frozen; nothing was changed" in await home.ask("!stop coder0 --now")
    waiting = home.say("[[say: second]]", thread)
    assert "is frozen; this and later messages wait" in await home.heard(thread, "is frozen; this and later")
    assert "frozen already. A message waits" in await home.ask("!freeze coder0")
    resume = home.chat.post("!resume coder0 --prompt '[[say: third]]'")
    assert "comes back in its thread" in (await home.reply(resume)).text
    await home.heard(thread, "going on with its conversation")
    await home.marks(waiting, "✅")
    await home.marks(resume, "📥", "👀", "✅")
    await home.heard(thread, "third")
    said = [text for text in home.chat.texts(thread) if text in {"first", "second", "third"}]
    assert said == ["first", "second", "third"]
    assert "is not frozen" in await home.ask("!resume coder0 --prompt again")
    # Now it is idle: it is frozen at once, and can be killed, which gives its conversation up.
    assert "frozen now" in await home.ask("!freeze coder0 --now")
    await home.chat.until(lambda: sum("❄️ Frozen" in text for text in home.chat.texts(thread)) == 2, limit=30)
    home.chat.post("!kill coder0")
    assert "is killed" in await home.ask("!confirm")
    assert "stopped, not frozen" in await home.ask("!resume coder0")
    assert "is frozen;" in await home.ask("!freeze coder0")
    await home.ask("!resume coder0")
    await home.heard(thread, "in a new conversation")


async def test_a_second_command_for_an_agent_is_told_who_is_at_it(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_lock, "PATIENCE", 0.2)
    thread = await home.launch("coder0")
    store, clock = home.orchestrator.store, home.orchestrator.services.clock
    owner = "kill by memory:@otto, run 4711"
    async with store.write(CUSTODY) as tx:
        lease = await leases.acquire(tx, lease_of("coder0"), owner, now=clock(), duration=60.0)
    for line in ("stop", "restart", "freeze", "launch"):
        told = await home.ask(f"!{line} coder0")
        assert "kill by memory:@otto is under way" in told
        assert "4711" not in told
    await home.marks(home.say("[[say: still here]]", thread), "✅")
    # What a process left that never came back holds nobody up for ever.
    async with store.write(CUSTODY) as tx:
        await leases.renew(tx, lease, now=clock() - 61.0, duration=60.0)
    assert "coder0 stops now" in await home.ask("!stop coder0")
    await home.heard(thread, "Stopped: asked to stop")


async def test_no_agent_keeps_a_person_from_killing_one(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_lock, "PATIENCE", 0.2)
    await home.launch("coder0")
    store, clock = home.orchestrator.store, home.orchestrator.services.clock
    async with store.write(CUSTODY) as tx:
        owner = "restart by agent:coder0, run 4711"
        lease = await leases.acquire(tx, lease_of("coder0"), owner, now=clock(), duration=60.0)
    assert "restart by agent:coder0 is under way" in await home.ask("!stop coder0")
    await home.ask("!kill coder0")
    home.chat.post("!confirm", sender=ADMIN)
    await home.heard(ROOM, "coder0 is killed")
    async with store.write(CUSTODY) as tx:
        # What the agent's command was about to write does not hold any more.
        with pytest.raises(leases.LeaseLost):
            await leases.check(tx, lease)


@pytest.mark.parametrize(
    ("ended", "back"), [("frozen", "!resume coder0"), pytest.param("stopped", "!launch coder0", marks=pytest.mark.slow)]
)
async def test_one_that_is_put_to_sleep_before_it_came_up_is_not_starting_for_ever(
    home: House, ended: str, back: str
) -> None:
    thread = await home.launch("coder0")
    fleet, store = home.orchestrator.agents, home.orchestrator.store
    async with store.write(CUSTODY) as tx:
        # Both stand in the register before the agent host that ran is gone.
        row = await agents.get(tx, "coder0")
        assert row is not None
        await fleet.desired_states.restart(tx, row, run_id="r", by="@ana", now=True)
        row = await agents.get(tx, "coder0")
        assert row is not None
        await (fleet.desired_states.freeze if ended == "frozen" else fleet.desired_states.stop)(tx, row, now=False)
    fleet.look_again("coder0")
    found = await until(lambda: fleet.get("coder0"), lambda found: found.state == ended)
    assert (found.launch_id, found.stopped_at is None) == ("r", False)
    assert not host_lifecycle.is_running(home.paths.agent_folder("coder0"))
    await home.ask(back)
    await home.marks(home.say("[[say: here]]", thread), "✅")
