"""What an operator does on the first day, in a real room: invite, launch, talk, approve, look, stop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from fleet.sim.provider.server import Provider
from tests.operator_client import Event, Operator, body, relation, thread_root
from tests.synapse import Synapse
from tests.system.matrix_installation import KEY, Installation, installation, reacts, replies_to

MakeHome = Callable[..., AbstractAsyncContextManager[Installation]]

pytestmark = pytest.mark.synapse


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
async def test_words_in_the_room_go_to_the_orchestrator_agent(make_home: MakeHome) -> None:
    async with make_home() as home:
        assert "--role orchestrator" in await home.ask("is anybody here?")
        await home.launch("lead", "--role", "orchestrator")
        await home.ana.say(home.room, "[[say: I am in charge]]")
        answer = await home.heard_words("I am in charge")
        assert thread_root(answer) is None, "in the room, where it was asked"


async def test_a_stranger_gets_one_line_and_the_bot_comes_only_where_an_operator_invites_it(
    make_home: MakeHome, synapse: Synapse
) -> None:
    async with make_home() as home, Operator(await synapse.register(prefix="stan")) as stan:
        den = await stan.create_room("den", invite=[home.bot.user_id])
        await home.ana.invite(home.room, stan.user_id)
        await stan.join(home.room)
        tried = [await stan.say(home.room, words) for words in ("!ps", "!launch evil", "hello")]
        assert "Only operators can command this fleet" in body(
            await home.heard_words("Only operators can command this fleet")
        )
        audit = await home.ask("!audit")
        assert "evil" in audit
        assert "No agent runs" in await home.ask("!ps --all")
        told = [m for m in await home.ana.messages(home.room, home.bot.user_id) if "Only operators can" in body(m)]
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
        nowhere, stranger, unset = [
            {
                "kind": "matrix",
                "homeserver": synapse.url,
                "user": f"@{name}:muster.test",
                "access_token": f"env:{name.upper()}_TOKEN",
            }
            for name in ("nowhere", "wrong", "unset")
        ]
        nowhere["homeserver"] = "http://127.0.0.1:9"
        home.configure(
            connectors={
                "matrix": good,
                "nowhere": nowhere,
                "stranger": stranger,
                "unset": unset,
            }
        )
        await home.start(WRONG_TOKEN="not-a-token", NOWHERE_TOKEN="nor-is-this")
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
