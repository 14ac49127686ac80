"""What an operator sees of an agent when something breaks between it and Muster."""

from __future__ import annotations

import asyncio
import functools
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents import service as agents_module
from bot.agents import supervisor as supervisor_module
from bot.agents.desired_state import LaunchRequest
from bot.agents.journal.effects import JournalEffects
from bot.agents.journal.follower import FOLLOW
from bot.agents.journal.projection import AgentCondition, Effect, Progress
from bot.agents.messages import delivery
from bot.agents.service import Agents
from connectors.memory import MemoryConnector
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from fleet.control import agent_host_client
from fleet.control.agent_host_client import LINE_LIMIT, AgentLink
from fleet.errors import AgentRefused
from fleet.host.turn_queue import QUEUED_MESSAGES
from fleet.supervision import host_lifecycle, host_lock, liveness
from fleet.supervision.process_sweep import Unsweepable
from tests import waiting
from tests.bot.orchestrator import ROOM, VIEWER, House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made, made.open():
        yield made


@pytest.mark.slow
async def test_a_link_that_breaks_alone_is_made_anew(home: House) -> None:
    thread = await home.launch("coder0")
    link = home.orchestrator.agents.link("coder0")
    assert link is not None
    await link.aclose()
    await home.marks(home.say("[[say: still here]]", thread), "✅")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")


@pytest.mark.slow
async def test_a_message_that_found_no_room_is_taken_when_the_turn_ends(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LOOK_AGAIN", 3600.0)
    thread = await home.launch("coder0")
    home.say("[[run: true]]", thread)
    question = await home.heard(thread, "asks for permission")
    for number in range(QUEUED_MESSAGES):
        home.say(f"[[say: {number}]]", thread)
    last = home.say("[[say: the last]]", thread)
    await home.orchestrator.quiet()
    assert "📥" not in home.chat.reactions(last)
    approval = re.findall(r"!approve (\w+)", question)[0]
    home.say(f"!approve {approval}", thread)
    await home.marks(last, "📥")


@pytest.mark.slow
async def test_a_message_too_long_for_the_agent_is_a_dead_letter_and_holds_up_no_other(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await home.launch("coder0")
    monkeypatch.setattr("bot.interfaces.chat.router.LONGEST_MESSAGE", LINE_LIMIT * 2)
    long = home.say("x" * LINE_LIMIT, thread)
    following = home.say("[[say: short words]]", thread)
    await home.marks(long, "💀")
    await home.marks(following, "✅")
    await home.ask("!stop coder0")
    await home.heard(thread, "Stopped")


@pytest.mark.slow
async def test_an_agent_that_cannot_write_down_a_revocation_is_followed_all_the_same(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await home.launch("coder0")
    home.say("[[run: echo again >> proof.txt]]", thread)
    question = await home.heard(thread, "asks for permission")
    approval = question.split("permission `")[1].split("`")[0]
    await home.ask(f"!approve {approval} --always", conversation=thread)
    await home.chat.until((home.paths.workspace("coder0") / "proof.txt").exists, limit=30)
    grants = await home.ask("!grants")
    link = home.orchestrator.agents.link("coder0")
    revoke = AgentLink.revoke
    asked = []

    async def cannot(self: AgentLink, digest: str, *, by: str = "") -> bool:
        asked.append(digest)
        if len(asked) == 1:
            raise AgentRefused("The disk is full.", refusal="not_writable")
        return await revoke(self, digest, by=by)

    monkeypatch.setattr(AgentLink, "revoke", cannot)
    await home.ask(f"!grant revoke {grants.split('`')[1]}")
    await home.chat.until(lambda: len(asked) >= 1, limit=30)
    await home.marks(home.say("[[say: still followed]]", thread), "✅")
    assert home.orchestrator.agents.link("coder0") is link
    await home.chat.until(lambda: len(asked) >= 2, limit=30)


@pytest.mark.slow
async def test_a_message_taken_back_while_its_agent_is_stopped_is_never_read(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[wait: gate]] first", thread)
    queued = home.say("[[say: never]]", thread)
    await home.marks(queued, "📥")
    await home.ask("!stop coder0 --now")
    await home.heard(thread, "Stopped")
    home.chat.redact(queued, conversation=thread)
    await home.ask("!launch coder0 --runtime sim --sandbox none")
    await home.marks(queued, "↩️")
    await home.marks(home.say("[[say: last words]]", thread), "✅")
    assert "never" not in home.chat.texts(thread)


@pytest.mark.slow
async def test_a_viewer_who_may_delete_what_others_wrote_takes_no_message_from_an_agent(home: House) -> None:
    thread = await home.launch("coder0")
    home.say("[[wait: gate]] first", thread)
    queued = home.say("[[say: read all the same]]", thread)
    await home.marks(queued, "📥")
    home.chat.redact(queued, conversation=thread, sender=VIEWER)
    assert "viewer" in await home.ask("!whoami", sender=VIEWER, conversation=thread)
    home.models.release("gate")
    await home.heard(thread, "read all the same")


@pytest.mark.slow
async def test_the_session_of_a_killed_agent_stays_given_up_however_late_its_start_is_read(home: House) -> None:
    await home.launch("coder0")
    store, journal_effects = home.orchestrator.store, home.orchestrator.agents.journal_effects
    async with store.write(FOLLOW) as tx:
        await agents.change(tx, "coder0", wanted="stopped", keep_session=False)
        row = await agents.get(tx, "coder0")
        assert row is not None
        await journal_effects.carry_out(tx, row, AgentCondition("idle", None, 0.0, row.launch_id))
        late = await agents.get(tx, "coder0")
    assert late is not None
    assert not late.keep_session


@pytest.mark.slow
async def test_what_cannot_be_told_at_all_does_not_end_an_agents_story(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await home.launch("coder0")
    carry_out = JournalEffects.carry_out

    async def fragile(self: JournalEffects, tx: AsyncConnection, row: AgentRow, effect: Effect) -> None:
        if isinstance(effect, Progress) and "poison" in effect.view.text:
            raise ValueError("poison")
        await carry_out(self, tx, row, effect)

    monkeypatch.setattr(JournalEffects, "carry_out", fragile)
    poisoned = home.say("[[say: poison]]", thread)
    await home.heard(thread, "could not show part of this agent's output", limit=60)
    await home.marks(poisoned, "✅")
    await home.marks(home.say("[[say: and on]]", thread), "✅")
    await home.heard(thread, "and on")


@pytest.mark.slow
async def test_an_agent_host_of_another_time_is_told_of_and_replaced_by_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
        monkeypatch.setattr(agent_host_client, "OLDEST_PROTOCOL", 99)
        async with home.open():
            assert "`!restart coder0`" in await home.heard(thread, "speaks version")
            assert "unknown" in await home.ask("!ps")
            monkeypatch.undo()
            await home.ask("!restart coder0")
            await home.heard(thread, "going on with its conversation")
            await home.marks(home.say("[[say: here again]]", thread), "✅")


@pytest.mark.slow
async def test_an_agent_host_of_another_time_is_ended_by_force_when_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
        monkeypatch.setattr(agent_host_client, "OLDEST_PROTOCOL", 99)
        async with home.open():
            await home.heard(thread, "speaks version")
            await home.ask("!stop coder0")
            await home.heard(thread, "⏹")
            assert "stopped" in await home.ask("!ps --all")


@pytest.mark.slow
async def test_a_chat_system_that_cannot_show_typing_costs_the_agent_nothing(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(self: MemoryConnector, conversation: str, *, active: bool) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(MemoryConnector, "typing", cannot)
    thread = await home.launch("coder0")
    link = home.orchestrator.agents.link("coder0")
    await home.marks(home.say("[[say: typed unseen]]", thread), "✅")
    assert home.orchestrator.agents.link("coder0") is link


@pytest.mark.slow
async def test_an_agent_that_did_not_answer_in_time_has_not_failed_while_its_process_lives(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lifecycle, "spawn", functools.partial(host_lifecycle.spawn, timeout_s=1))
    folder = home.paths.agent_folder("coder0")
    home.chat.post("!launch coder0 --runtime sim --sandbox none")
    # It has its lock long before it can answer.
    pid = await waiting.until(lambda: host_lock.holder(folder))
    os.kill(pid, signal.SIGSTOP)
    try:
        thread = await home.thread("coder0")
        assert "`!kill coder0` ends it" in await home.heard(thread, "did not answer in 1 s")
        await home.chat.until(lambda: home.orchestrator.agents.is_up("coder0"), limit=30)
        known = await home.ask("!ps")
        assert "unknown" in known
        assert "process" in known
        assert "runs already" in await home.ask("!launch coder0")
    finally:
        os.kill(pid, signal.SIGCONT)
    await home.heard(thread, "Ready")
    assert "failed" not in await home.ask("!ps")


@pytest.mark.slow
async def test_an_agent_launched_before_anybody_is_kept_is_kept_all_the_same(home: House) -> None:
    kept = home.orchestrator.agents
    early = Agents(context=kept.context, give_up_after=kept.give_up_after, fresh_for=kept.fresh_for)
    request = LaunchRequest(
        name="coder0", role="coder", runtime="sim", model=None, sandbox="none", task=None, by="memory:@ana",
        workspace=str(home.paths.workspace("coder0")), basis={}, connector="memory", room=ROOM,
    )  # fmt: skip
    async with home.orchestrator.store.write(FOLLOW) as tx:
        await early.desired_states.launch(tx, request, run_id="r1")
    early.look_again("coder0")
    running = asyncio.create_task(early.run())
    try:
        await home.heard(await home.thread("coder0"), "Ready")
    finally:
        running.cancel()
        await asyncio.wait({running})


@pytest.mark.slow
async def test_typing_is_shown_from_the_beginning_of_a_turn_to_its_end(home: House) -> None:
    thread = await home.launch("coder0")
    for gate in ("one", "two"):
        event = home.say(f"[[wait: {gate}]] [[say: done with {gate}]]", thread)
        await home.chat.until(lambda: thread in home.chat.typing_in, limit=15)
        home.models.release(gate)
        await home.marks(event, "✅")
        await home.chat.until(lambda: thread not in home.chat.typing_in, limit=15)


@pytest.mark.slow
async def test_an_agent_of_which_something_would_not_end_is_not_called_stopped(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.launch("coder0")

    async def cannot(folder: Path) -> int:
        raise Unsweepable("Processes 4711 of the agent would not end.")

    with monkeypatch.context() as stuck:
        stuck.setattr(host_lifecycle, "kill", cannot)
        home.chat.post("!kill coder0")
        await home.heard(ROOM, "cannot be undone")
        assert "would not end" in await home.ask("!confirm")
        async with home.orchestrator.store.read() as tx:
            row = await agents.get(tx, "coder0")
        assert row is not None
        assert row.state == "unknown"
        assert row.wanted == "stopped"


async def test_an_agent_host_of_which_nothing_was_heard_is_asked_before_its_word_is_too_old(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents_module, "ASK_EVERY", 0.05)
    monkeypatch.setattr(supervisor_module, "questioned_after", lambda fresh_s: fresh_s / 100)
    monkeypatch.setattr(liveness, "patience", lambda fresh_s: fresh_s / 100)
    await home.launch("coder0")
    await home.heard_from("coder0")
    said = (await home.orchestrator.agents.view_of("coder0")).status
    assert said is not None

    async def heard() -> bool:
        return (await home.orchestrator.agents.view_of("coder0")).status is not said

    await waiting.until(heard)
    assert (await home.orchestrator.agents.view_of("coder0")).liveness.state == "idle", "it answered"
    pid = host_lock.holder(home.paths.agent_folder("coder0"))
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(20):
            while (now := (await home.orchestrator.agents.view_of("coder0")).liveness).state != "unknown":
                await asyncio.sleep(0.01)
        assert now.evidence_at is not None
        assert time.time() - now.evidence_at < liveness.FRESH_S, "not only when what it said is too old"
        assert "does not answer" in (now.detail or "")
    finally:
        os.kill(pid, signal.SIGCONT)
    await waiting.until(
        lambda: home.orchestrator.agents.view_of("coder0"), lambda found: found.liveness.state == "idle"
    )
