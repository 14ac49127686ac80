"""Slash commands through delivery: registered, acknowledged, answered once, in the place where Discord waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from connectors.contract.messages import CommandReading, Message, OpenThread, React, Remark, Text
from connectors.contract.slash_command_forms import Asker, Form, Option, Value
from connectors.discord import missing_content_intent
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import CONTENT, LOADING

NAME = Option(name="name", description="the agent.", required=True, completes=True)


class Few:
    """Three commands, which one person here may not give."""

    def __init__(self) -> None:
        self.stranger = ""
        self.asked: list[Asker] = []

    def forms(self) -> Sequence[Form]:
        return (
            Form(name="ps", description="Who is there."),
            Form(name="stop", description="Stop an agent.", options=(NAME,)),
            Form(name="say", description="Say something.", options=(Option(name="text", description="what."),)),
        )

    def words(self, name: str, values: Mapping[str, Value]) -> Text:
        if name == "say":
            return Text(text=str(values["text"]), reading=CommandReading.TALK)
        return Text(text=" ".join([name, *map(str, values.values())]), reading=CommandReading.COMMAND)

    async def complete(self, asker: Asker, name: str, option: str, typed: str) -> Sequence[str]:
        self.asked.append(asker)
        return [f"{name} {option} {typed}", "x" * 101, *(f"coder{number}" for number in range(40))]

    async def refusal(self, asker: Asker) -> str | None:
        return "not for you" if asker.sender == self.stranger else None


def words(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "type": 3, "value": value}


async def test_a_command_is_acknowledged_and_its_answer_takes_the_placeholders_place(desk: Desk) -> None:
    desk.world.ana.roles = [77]
    async with desk.open(commands=Few()):
        number = desk.world.invoke("stop", [words("name", "coder0")])
        await desk.office.until_state(f"re {number}", "sent")
    assert desk.world.callbacks == {number: {"type": 5}}
    assert desk.world.responses[number]["content"] == "re: stop coder0"
    assert desk.world.responses[number]["_edits"][0]["allowed_mentions"] == {"parse": [], "replied_user": False}
    assert desk.world.posts == []
    (found,) = await desk.arrived()
    assert (found.event_id, found.conversation, found.groups) == (number, desk.room, ("role:77",))
    assert found.body == Text(text="stop coder0", reading=CommandReading.COMMAND)


@pytest.mark.slow
async def test_many_at_once_are_each_taken_in_time_and_answered_once(desk: Desk) -> None:
    async with desk.open(commands=Few()):
        numbers = [desk.world.invoke("stop", [words("name", f"coder{each}")]) for each in range(80)]
        for number in numbers:
            await desk.office.until_state(f"re {number}", "sent")
    assert desk.world.callbacks.keys() == set(numbers)
    assert sorted(desk.world.texts()) == sorted(f"re: stop coder{each}" for each in range(80))
    assert sorted(each.event_id for each in await desk.arrived()) == sorted(numbers)


async def test_in_a_thread_and_in_private_it_comes_from_there(desk: Desk) -> None:
    desk.world.ana.roles = [77]
    async with desk.open(commands=Few()):
        await desk.office.put("open", OpenThread(title="coder0", message=Message(text="up")), to=desk.room)
        await desk.office.until_state("open", "sent")
        (thread,) = desk.world.threads()
        private = desk.world.direct(desk.world.ana)
        numbers = [desk.world.invoke("ps", place=place) for place in (thread, private)]
        for number in numbers:
            await desk.office.until_state(f"re {number}", "sent")
            assert desk.world.responses[number]["content"] == "re: ps"
    places = sorted((each.conversation, each.parent, each.groups) for each in await desk.arrived())
    assert places == sorted([(str(thread.id), desk.room, ("role:77",)), (str(private.id), None, ("role:77",))])


async def test_what_is_said_more_than_once_or_is_long_goes_on_behind_the_answer(desk: Desk) -> None:
    lines = "\n".join(f"line {number}" for number in range(400))
    async with desk.open(commands=Few()):
        number = desk.world.invoke("ps")
        await desk.office.until_state(f"re {number}", "sent")
        await desk.office.put("more", Message(text=lines, reply_to=number), to=desk.room)
        await desk.office.put("mark", React(target=number, key="✅"), to=desk.room)
        await desk.office.until_state("more", "sent")
        await desk.office.until_state("mark", "sent")
    answer, *more = desk.world.said()
    assert answer["content"] == "re: ps"
    assert "\n".join(each["content"] for each in more) == lines
    assert more[0]["message_reference"]["message_id"] == answer["id"]
    assert desk.world.reactions(answer["id"]) == ["✅"]


@pytest.mark.parametrize("edits", [True, False], ids=["edited", "deleted"])
async def test_an_answer_whose_receipt_is_lost_is_not_given_again(desk: Desk, edits: bool) -> None:
    """The token ends in between, so that it cannot be asked for a second time."""
    world = desk.world
    world.lose_edits = 1

    def then(request: str) -> None:
        if request.startswith("PATCH /webhooks/"):
            world.expired |= set(world.callbacks)
            if not edits:
                for message in list(world.responses.values()):
                    world.channel.messages.pop(int(message["id"]), None)

    async with desk.open(commands=Few()):
        world.on_request = then
        number = world.invoke("ps")
        await desk.office.until_state(f"re {number}", "sent")
    # What somebody took away in between is said once more; what stands, is not.
    assert world.texts() == ["re: ps"]


async def test_after_a_quarter_of_an_hour_the_answer_is_an_ordinary_message(desk: Desk) -> None:
    world = desk.world

    async def late() -> None:
        world.expired |= set(world.interactions)

    world.on_callback = late
    async with desk.open(commands=Few()):
        number = world.invoke("ps")
        await desk.office.until_state(f"re {number}", "sent")
    placeholder, answer = world.said()
    assert placeholder["flags"] & LOADING
    assert answer["content"] == "re: ps"
    assert answer["message_reference"]["message_id"] == placeholder["id"]


async def test_words_for_an_agent_stand_there_for_all_to_read(desk: Desk) -> None:
    async with desk.open(commands=Few()):
        number = desk.world.invoke("say", [words("text", "@everyone !kill coder0")])
        await desk.office.until_state(f"re {number}", "sent")
        await desk.office.put("mark", React(target=number, key="📥"), to=desk.room)
        await desk.office.until_state("mark", "sent")
    (found,) = await desk.arrived()
    assert found.body == Text(text="@everyone !kill coder0", reading=CommandReading.TALK)
    assert desk.world.callbacks[number]["data"]["allowed_mentions"] == {"parse": [], "replied_user": False}
    assert desk.world.texts() == ["@everyone !kill coder0", "re: @everyone !kill coder0"]
    assert desk.world.reactions(desk.world.responses[number]["id"]) == ["📥"]


async def test_strangers_are_answered_alone_and_what_they_tried_is_known(desk: Desk) -> None:
    few = Few()
    few.stranger = str(desk.world.person("eve").id)
    eve = desk.world.accounts[int(few.stranger)]
    async with desk.open(commands=few):
        number = desk.world.invoke("ps", by=eve)
        await desk.world.until(lambda: desk.office.handled)
    assert desk.world.asides == {number: ["not for you"]}
    assert [each.sender for each in await desk.arrived()] == [few.stranger]


async def test_what_is_likely_is_offered_while_somebody_types(desk: Desk) -> None:
    few = Few()
    async with desk.open(commands=few):
        number = desk.world.invoke("stop", [words("name", "cod") | {"focused": True}], kind=4)
        await desk.world.until(lambda: number in desk.world.callbacks)
        nothing = desk.world.invoke("stop", [], kind=4)
        await desk.world.until(lambda: nothing in desk.world.callbacks)
    answer = desk.world.callbacks[number]
    assert answer["type"] == 8
    names = [each["value"] for each in answer["data"]["choices"]]
    assert (names[:2], len(names)) == (["stop name cod", "coder0"], 25)
    assert desk.world.callbacks[nothing]["data"] == {"choices": []}
    assert few.asked == [Asker(sender=str(desk.world.ana.id))]
    assert await desk.arrived() == []


async def test_commands_are_registered_where_they_differ_and_only_then(desk: Desk) -> None:
    world = desk.world

    def puts() -> int:
        return sum(each.startswith("PUT /applications") for each in world.wire)

    for _ in range(2):
        async with desk.open(commands=Few()):
            await world.until(lambda: len(world.direct_commands) == 3)
        assert puts() == 2
    assert {each["name"] for each in world.commands} == {"ps", "stop", "say"}
    assert [each["contexts"] for each in world.direct_commands] == [[1]] * 3
    del world.commands[0]
    async with desk.open(commands=Few()):
        await world.until(lambda: len(world.commands) == 3)
    assert puts() == 3


async def test_a_bot_without_the_scope_says_how_to_mend_it(desk: Desk) -> None:
    desk.world.scoped = False
    async with desk.open(commands=Few()):
        health = await desk.health(lambda found: "scope" in found.detail)
        assert "applications.commands" in health.detail
        assert "invite it again" in health.detail
        assert len(desk.world.direct_commands) == 3
        desk.world.scoped = True
        desk.world.forget_sessions()
        await desk.world.until(lambda: len(desk.world.commands) == 3)
        await desk.health(lambda found: "scope" not in found.detail)


async def test_a_bot_that_is_not_in_the_server_is_not_told_of_scopes(desk: Desk) -> None:
    desk.world.inside = desk.world.scoped = False
    async with desk.office_without_waiting(commands=Few()):
        health = await desk.health(lambda found: "invite it" in found.detail)
        assert "no slash commands" not in health.detail
    assert not any("/commands" in each for each in desk.world.wire)


async def test_without_the_intent_that_is_said_once_and_commands_work(desk: Desk) -> None:
    desk.world.granted = False
    for _ in range(2):
        async with desk.open(commands=Few()):
            number = desk.world.invoke("ps")
            await desk.office.until_state(f"re {number}", "sent")
            await desk.office.until(lambda: _said(desk))
            health = await desk.health(lambda found: found.reachable is True)
            assert "Message Content Intent" in health.detail
    assert not any(session.intents & CONTENT for session in desk.world.sessions.values())
    remarks = [each for each in await desk.arrived() if isinstance(each.body, Remark)]
    assert len(remarks) == 1
    desk.world.granted = True
    async with desk.open(commands=Few()):
        await desk.world.until(lambda: not (desk.folder / missing_content_intent.FILE).exists())


async def _said(desk: Desk) -> bool:
    return any(isinstance(each.body, Remark) for each in await desk.arrived())


async def test_a_crash_before_it_is_known_that_it_was_said_says_it_under_the_same_id(desk: Desk) -> None:
    desk.world.granted = False
    for _ in range(2):
        desk.folder.mkdir(exist_ok=True)
        (desk.folder / missing_content_intent.FILE).write_text(f"remark/{missing_content_intent.FILE}/7")
        async with desk.open(commands=Few()):
            await desk.office.until(lambda: _said(desk))
    assert [each.event_id for each in await desk.arrived()] == [f"remark/{missing_content_intent.FILE}/7"]


async def test_an_endpoint_that_takes_interactions_away_is_told(desk: Desk) -> None:
    desk.world.endpoint = "https://example.org/interactions"
    async with desk.open(commands=Few()):
        health = await desk.health(lambda found: found.reachable is True)
    assert "Interactions Endpoint URL" in health.detail
