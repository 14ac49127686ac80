"""What an operator does on the first day, in a real room: invite, launch, talk, approve, look, stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from fleet import lock
from tests.operator_client import Operator, body, relation, thread_root
from tests.whole.installation import KEY, Installation, installation, reacts, replies_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from fleet.sim.provider import Provider
    from tests.operator_client import Event
    from tests.synapse import Synapse

    MakeHome = Callable[..., AbstractAsyncContextManager[Installation]]

pytestmark = pytest.mark.synapse

#: The smallest PNG there is: one transparent pixel.
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)


@pytest.mark.parametrize("sandbox", ["bubblewrap", pytest.param("none", marks=pytest.mark.slow)])
async def test_the_first_day(make_home: MakeHome, models: Provider, sandbox: str) -> None:
    agents = {"runtime": "sim"} | ({"sandbox": "none"} if sandbox == "none" else {})
    async with make_home(agents=agents) as home:
        assert "No agent runs" in await home.ask("!ps")
        thread = await home.launch("coder0")
        opener = await home.heard(lambda event: event["event_id"] == thread)
        assert ("without a sandbox" in body(opener)) == (sandbox == "none")

        said = await home.ana.say(home.room, "[[say: one **two** `three`]]", thread=thread)
        await home.marked(said, "📥", "👀", "✅")
        answer = await home.heard_words("one **two** `three`", thread=thread)
        assert body(answer) == "one **two** `three`"
        assert "<strong>two</strong>" in answer["content"]["formatted_body"]
        assert thread_root(answer) == thread

        asked = await home.ana.say(home.room, "[[run: echo permitted > proof.txt]][[say: it is done]]", thread=thread)
        question = await home.heard_words("asks for permission", thread=thread)
        assert "echo permitted > proof.txt" in body(question)
        await home.marked(question["event_id"], "✅", "♾️", "❌")
        proof = home.paths.workspace("coder0") / "proof.txt"
        assert not proof.exists()
        await home.ana.react(home.room, question["event_id"], "✅")
        await home.marked(asked, "✅")
        await home.heard_words("it is done", thread=thread)
        assert proof.read_text() == "permitted\n"
        await home.heard(lambda event: _edits(event) == question["event_id"] and "☑️" in body(event))

        listed = await home.ask("!ps")
        assert "coder0" in listed
        assert "idle" in listed
        assert ("Without a sandbox" in listed) == (sandbox == "none")
        await home.ask("!stop coder0")
        await home.heard_words("Stopped", thread=thread)
        await home.nobody_left()
        assert "No agent runs" in await home.ask("!ps")
        assert await home.stop() == 0
        await _nothing_twice(home)
        assert len(models.ledger.entries) == 3, "one for the talk, two around the tool"


@pytest.mark.slow
async def test_an_answer_streams_in_one_message_whose_last_edit_is_exact(make_home: MakeHome, models: Provider) -> None:
    async with make_home() as home:
        thread = await home.launch("coder0")
        said = await home.ana.say(
            home.room, "[[stream: 40 early]][[wait: gate]][[stream: 40 late]][[say: and **done**.]]", thread=thread
        )
        first = await home.heard_words("early early", thread=thread)
        models.release("gate")
        await home.marked(said, "✅")
        answers = [m for m in await home.ana.messages(home.room, home.bot.user_id) if "early" in body(m)]
        assert [m["event_id"] for m in answers] == [first["event_id"]], "one message, edited"
        edits = [e for e in await home.ana.events(home.room) if _edits(e) == first["event_id"]]
        assert edits
        assert body(edits[-1]) == models.ledger.entries[-1].answer
        assert body(edits[-1]).endswith("and **done**.")


@pytest.mark.slow
async def test_words_in_the_room_go_to_the_orchestrator_agent(make_home: MakeHome) -> None:
    async with make_home() as home:
        assert "--role orchestrator" in await home.ask("is anybody here?")
        await home.launch("lead", "--role", "orchestrator")
        await home.ana.say(home.room, "[[say: I am in charge]]")
        answer = await home.heard_words("I am in charge")
        assert thread_root(answer) is None, "in the room, where it was asked"


@pytest.mark.slow
async def test_a_picture_reaches_the_model(make_home: MakeHome) -> None:
    async with make_home() as home:
        thread = await home.launch("coder0")
        sent = await home.ana.send_file(
            home.room, PIXEL, "dot.png", "image/png", thread=thread, caption="what is this?"
        )
        await home.marked(sent, "✅")
        await home.heard_words(f"image/png, {len(PIXEL)} bytes", thread=thread)


@pytest.mark.slow
async def test_long_output_becomes_a_file(make_home: MakeHome, models: Provider) -> None:
    async with make_home() as home:
        thread = await home.launch("coder0")
        # Twice what one request to a model may answer.
        said = await home.ana.say(home.room, "[[stream: 6000 word]][[run: true]][[stream: 6000 word]]", thread=thread)
        question = await home.heard_words("asks for permission", thread=thread)
        await home.ana.react(home.room, question["event_id"], "✅")
        await home.marked(said, "✅")
        file = await home.heard(lambda event: event["content"].get("msgtype") == "m.file")
        assert thread_root(file) == thread
        whole = (await home.ana.download(file["content"]["url"])).decode()
        assert whole.split().count("word") == 12_000
        assert len([m for m in await home.ana.messages(home.room, home.bot.user_id) if "word" in body(m)]) == 1


async def test_a_stranger_gets_one_line_and_the_bot_comes_only_where_an_operator_invites_it(
    make_home: MakeHome, synapse: Synapse
) -> None:
    async with make_home() as home, Operator(await synapse.register(prefix="stan")) as stan:
        den = await stan.create_room("den", invite=[home.bot.user_id])
        await home.ana.invite(home.room, stan.user_id)
        await stan.join(home.room)
        tried = [await stan.say(home.room, words) for words in ("!ps", "!launch evil", "hello")]
        assert "operators of this fleet only" in body(await home.heard_words("operators of this fleet only"))
        audit = await home.ask("!audit")
        assert "evil" in audit
        assert "No agent runs" in await home.ask("!ps --all")
        told = [m for m in await home.ana.messages(home.room, home.bot.user_id) if "operators of this" in body(m)]
        assert len(told) == 1
        assert not [e for e in await home.ana.events(home.room) if replies_to(e) in tried[1:]]
        assert await stan.membership(den, home.bot.user_id) == "invite"
        health = await home.gateway("GET", "/v1/health")
        assert den in health["connectors"][0]["detail"]


@pytest.mark.slow
async def test_a_bot_that_is_logged_out_says_so_and_the_rest_goes_on(make_home: MakeHome) -> None:
    async with make_home() as home:
        await home.launch("coder0")
        async with Operator(home.bot) as itself:
            await itself.log_out()
        health = await _health(home, lambda h: h["connectors"][0]["authenticated"] is False)
        assert health["status"] == "degraded"
        assert "MATRIX_TOKEN" in health["connectors"][0]["detail"], "it says where the new token belongs"
        status, printed = await home.shell("health")
        assert status == 0
        assert "✗ connector matrix" in printed
        status, printed = await home.shell("ps", "--json")
        assert [agent["state"] for agent in json.loads(printed)] == ["idle"]


@pytest.mark.slow
async def test_a_turn_that_was_cut_is_shown_and_sent_again_when_somebody_says_so(
    make_home: MakeHome, models: Provider
) -> None:
    async with make_home() as home:
        thread = await home.launch("coder0")
        said = await home.ana.say(home.room, "[[say: begun]][[wait: gate]][[say: and ended]]", thread=thread)
        await home.marked(said, "👀")
        pid = lock.holder(home.paths.agent_folder("coder0"))
        assert pid
        os.kill(pid, signal.SIGKILL)
        await home.marked(said, "❌")
        assert "again by itself" in body(await home.heard_words("the agent host is gone", thread=thread))
        models.release("gate")
        await home.heard_words("going on with its conversation", thread=thread)
        assert len(models.ledger.entries) == 1, "nothing is sent again by itself"
        stranded = await home.ask("!dead-letters")
        assert "begun" in stranded
        assert "Sent again" in await home.ask(f"!retry {stranded.split('`')[1]}")
        await home.marked(said, "✅")
        await home.heard_words("and ended", thread=thread)
        assert "Everything was delivered" in await home.ask("!dead-letters")


@pytest.mark.slow
async def test_a_connector_that_cannot_start_does_not_stop_the_others(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> None:
    async with installation(tmp_path, synapse, models) as home:
        good = {
            "kind": "matrix",
            "homeserver": synapse.url,
            "user": home.bot.user_id,
            "access_token": "env:MATRIX_TOKEN",
            "fleet_room": home.room,
        }
        nowhere = {**good, "homeserver": "http://127.0.0.1:9"}
        stranger = {**good, "access_token": "env:WRONG_TOKEN"}
        home.configure(
            connectors={
                "matrix": good,
                "nowhere": nowhere,
                "stranger": stranger,
                "unset": {**good, "access_token": "env:UNSET_TOKEN"},
            }
        )
        await home.start(WRONG_TOKEN="not-a-token")
        await home.joined()
        assert "No agent runs" in await home.ask("!ps")
        health = await _health(
            home, lambda h: all(each["detail"] for each in h["connectors"]) and len(h["connectors"]) == 4
        )
        by_name = {each["name"]: each for each in health["connectors"]}
        assert by_name["matrix"]["reachable"] is True
        assert by_name["nowhere"]["reachable"] is False
        assert by_name["stranger"]["authenticated"] is False
        assert "UNSET_TOKEN" in by_name["unset"]["detail"]
        assert health["status"] == "degraded"
        said = await home.ask("!health")
        assert "✗ connector nowhere" in said


# --- looking -------------------------------------------------------------------------------------------------------


def _edits(event: Event) -> str | None:
    found = relation(event)
    return found["event_id"] if found.get("rel_type") == "m.replace" else None


async def _health(home: Installation, wanted: Callable[[Any], bool]) -> Any:
    """The first health report that is as `wanted`."""
    async with asyncio.timeout(60):
        while True:
            health = await home.gateway("GET", "/v1/health")
            if wanted(health):
                return health
            await asyncio.sleep(0.1)


async def _nothing_twice(home: Installation) -> None:
    keys = [e["content"][KEY] for e in await home.ana.events(home.room) if KEY in e.get("content", {})]
    assert len(keys) == len(set(keys))
    marks = [reacts(e) for e in await home.ana.events(home.room) if e["sender"] == home.bot.user_id and reacts(e)]
    assert len(marks) == len(set(marks))
