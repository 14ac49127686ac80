"""The whole bot on a fake Discord that shows it no message: all that an operator does, done by slash commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.bot.orchestrator import house
from tests.connectors.discord.fake_server_state import Account, Place, World
from tests.connectors.discord.server import serving

ROLE = 123456789012345678


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A Discord on which everybody with a role is an operator, and a bot there that may not read messages."""
    async with serving() as (made, api), house(tmp_path) as home:
        made.granted = False
        made.ana.roles = [ROLE]
        (tmp_path / "token").write_text(made.token)
        block = f"token: 'file:{tmp_path}/token', guild: '{made.guild}', channel: '{made.channel.id}', api: '{api}'"
        file = home.paths.muster_yaml
        file.write_text(
            file.read_text()
            .replace("connectors:\n", f"connectors:\n  discord: {{{block}}}\n", 1)
            .replace("operators:\n", f"operators:\n  discord:role:{ROLE}: admin\n", 1)
        )
        async with home.open():
            await made.until(lambda: made.commands and made.direct_commands)
            yield made


async def give(
    world: World,
    command: str,
    /,
    *subcommand: str,
    place: Place | None = None,
    by: Account | None = None,
    **values: Any,
) -> str:
    """Give a command and wait for what stands in answer to it."""
    kinds = {bool: 5, int: 4, str: 3}
    options: list[dict[str, Any]] = [
        {"name": key.replace("_", "-"), "type": kinds[type(value)], "value": value} for key, value in values.items()
    ]
    for word in subcommand:
        options = [{"name": word, "type": 1, "options": options}]
    number = world.invoke(command, options, place=place, by=by)
    await world.until(lambda: world.responses.get(number, {}).get("content") or number in world.asides, limit=30)
    return str(world.asides.get(number, [world.responses.get(number, {}).get("content")])[0])


def names(world: World, number: str) -> list[str]:
    return [each["name"] for each in world.callbacks[number]["data"]["choices"]]


async def test_an_agent_is_launched_talked_to_and_killed_by_slash_commands_alone(world: World) -> None:
    assert "message-content" in (await _said(world, world.channel, "message-content"))
    assert "permission admin" in await give(world, "whoami")
    assert "the whole text is in the file" in await give(world, "help", name="all")
    await world.until(lambda: any(each["attachments"] for each in world.said()))
    answer = await give(world, "launch", name="coder0", runtime="sim", sandbox="none", task="[[say: it is --done]]")
    assert "coder0" in answer
    await world.until(world.threads, limit=30)
    (thread,) = world.threads()
    assert thread.name == "🟢 coder0"
    await _said(world, thread, "it is --done")

    await give(world, "say", text="[[say: general greetings]]", place=thread)
    await _said(world, thread, "general greetings")
    echo = next(each for each in world.said(thread) if each["content"] == "[[say: general greetings]]")
    await world.until(lambda: "✅" in world.reactions(echo["id"]), limit=30)

    number = world.invoke("stop", [{"name": "name", "type": 3, "value": "cod", "focused": True}], kind=4)
    await world.until(lambda: number in world.callbacks)
    assert names(world, number) == ["coder0"]

    assert "cannot be undone" in await give(world, "kill", name="coder0")
    number = world.invoke("confirm", [{"name": "id", "type": 3, "value": "", "focused": True}], kind=4)
    await world.until(lambda: number in world.callbacks)
    (waiting,) = names(world, number)
    await give(world, "decline", id=waiting)
    number = world.invoke("confirm", [{"name": "id", "type": 3, "value": "", "focused": True}], kind=4)
    await world.until(lambda: number in world.callbacks)
    assert names(world, number) == [], "it waits no more"
    asked = await give(world, "kill", name="coder0")
    question = next(each for each in reversed(world.said()) if each["content"] == asked)
    yes = question["components"][0]["components"][0]
    eve = world.person("eve")
    pressed = world.click(question["id"], yes["custom_id"], by=eve)
    await world.until(lambda: pressed in world.asides, limit=30)
    assert "Only operators can command this fleet" in world.asides[pressed][0]
    world.click(question["id"], yes["custom_id"])
    await _said(world, world.channel, "coder0 is killed")
    await world.until(lambda: not world.buttons(question["id"]), limit=30)
    await world.until(lambda: thread.name == "⏹ coder0" and thread.archived, limit=30)
    await give(world, "ps", place=thread)
    await world.until(lambda: thread.archived, limit=30)
    assert not world.loud
    assert "No agent" in await give(world, "ps") or "killed" in await give(world, "ps", all=True)

    adam = world.person("adam")
    assert "Only operators can command this fleet" in await give(world, "ps", by=adam)
    number = world.invoke("stop", [{"name": "name", "type": 3, "value": "", "focused": True}], kind=4, by=adam)
    await world.until(lambda: number in world.callbacks)
    assert names(world, number) == []
    world.ana.roles = []
    assert "Only operators can command this fleet" in await give(world, "ps")


async def test_a_task_of_a_slash_command_has_a_thread_below_the_answer_to_it(world: World) -> None:
    await give(world, "launch", name="coder0", runtime="sim", sandbox="none")
    await world.until(world.threads, limit=30)
    (of_agent,) = world.threads()
    await _said(world, of_agent, "Ready")
    word = '{"status": "done", "summary": "It works."}'
    number = world.invoke(*_adding(f"Mend it. [[tool: mcp__muster__task_done {word}]]"))
    await world.until(lambda: len(world.threads()) == 2, limit=30)
    own = world.threads()[1]
    assert str(own.id) == world.responses[number]["id"], "it stands where Discord waited for an answer"
    await world.until(lambda: own.name.startswith("✅ ") and own.archived, limit=30)
    task = own.name.split()[1]
    assert "Mend it." in own.name
    await _said(world, own, f"Task `{task}` is done. It works.")
    await world.until(lambda: f"✅ Task `{task}` is done: Mend it." in world.responses[number]["content"], limit=30)
    assert sum(task in text for text in world.texts()) == 1
    await give(world, "say", text="[[say: heard in here]]", place=own)
    await _said(world, own, "heard in here")
    assert task in await give(world, "task", "show", place=own), "in its thread it need not be named"


def _adding(text: str) -> tuple[str, list[dict[str, Any]]]:
    values = [{"name": "text", "type": 3, "value": text}, {"name": "agent", "type": 3, "value": "coder0"}]
    return "task", [{"name": "add", "type": 1, "options": values}]


@pytest.mark.slow
async def test_in_private_a_task_has_no_thread_and_all_is_told_there(world: World) -> None:
    private = world.direct(world.ana)
    await give(world, "launch", name="coder0", runtime="sim", sandbox="none", place=private)
    await _said(world, private, "Ready")
    number = world.invoke(*_adding("Mend it. [[say: I think so]]"), place=private)
    # It goes to coder0, or is queued for it as long as that one has not said how it stands.
    await world.until(lambda: "coder0" in (world.responses.get(number, {}).get("content") or ""), limit=30)
    task = world.responses[number]["content"].split("`")[1]
    # A task can be closed once its turn is over and nobody said what became of it.
    await _said(world, private, f"Its turn ended without a result for task `{task}`")
    await give(world, "task", "close", id=task, place=private)
    await _said(world, private, f"Task `{task}` is done. ")
    assert world.threads() == []


@pytest.mark.slow
async def test_in_private_an_agent_is_launched_and_heard_without_a_thread(world: World) -> None:
    private = world.direct(world.ana)
    await give(world, "launch", name="coder0", runtime="sim", sandbox="none", place=private)
    assert (await _said(world, private, "Ready")).startswith("**coder0**:\n\n▶ Ready")
    await give(world, "send", name="coder0", text="[[say: hello in private]]", place=private)
    text = await _said(world, private, "hello in private")
    assert text == "**coder0**:\n\nhello in private", "no thread shows whose words these are"
    assert world.threads() == []
    assert not any("hello in private" in text for text in world.texts())


async def _said(world: World, place: Place, words: str) -> str:
    await world.until(lambda: any(words in text for text in world.texts(place)), limit=30)
    return next(text for text in world.texts(place) if words in text)


async def test_a_permission_is_given_only_to_what_can_be_somebody_and_taken_from_anything(world: World) -> None:
    for identity, problem in (
        ("discord:rolle:345678901234567890", "not a Discord role"),
        ("discord:ana", "not a Discord user"),
        (f"discord:role:{world.guild}", "@everyone"),
        ("discrod:role:345678901234567890", "Did you mean 'discord'?"),
    ):
        assert problem in await give(world, "operator", "set", identity=identity, permission="viewer")
    listed = await give(world, "operators", "show")
    assert "rolle" not in listed
    assert "discrod" not in listed
    gone = await give(world, "operator", "set", identity="matrix:@ana:example.org", permission="none")
    assert "may do nothing here any more" in gone
    right = await give(world, "operator", "set", identity="discord:role:345678901234567890", permission="viewer")
    assert "has the permission viewer now" in right
