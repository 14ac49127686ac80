"""The commands as Discord's menu has them: all of them, and nothing that is typed in one becomes another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from bot.auth.permission import ADMIN, NONE, OPERATOR, VIEWER, Permission
from bot.commands import parser, sections
from bot.commands.registry import TABLE, Command
from bot.commands.slash_command_names import SAY, CommandMenu, named
from bot.interfaces.chat import command_input
from connectors.contract.messages import CommandReading
from connectors.contract.slash_command_forms import Asker, OptionKind
from connectors.discord.interactions import slash_command_schema
from tests.connectors.discord import fake_menu as discords

sections.load()

HOSTILE = [
    "--now",
    " --now",
    "\u2014now",
    "-- --now",
    "x --now",
    'x" --now "',
    "x' --now '",
    "x\\",
    '\\" --now',
    "x\n!kill y",
    "!kill y",
    "kill y",
    "x; kill y",
    "\u201cx\u201d --now",
    "\u2018x --now",
    "\ufdd0kill y\ufdd1",
    "`x`",
    "=x",
    "--",
    "x\u2028--now",
    "\u200b",
]


class Anybody:
    async def permission(self, identity: str, groups: Sequence[str] = ()) -> Permission:
        return {"discord:1": VIEWER, "discord:2": OPERATOR}.get(identity, NONE)


async def words_of(source: str) -> list[str]:
    words = {
        "agents": ["coder0", "Coder1", "aCod"],
        "confirming discord:1": ["c2", "c1"],
        "confirming discord:2": ["c3"],
    }
    return words.get(source, [])


@pytest.fixture
def menu() -> CommandMenu:
    operators: Any = Anybody()
    return CommandMenu(connector="discord", table=TABLE, operators=operators, words_of=words_of)


def test_discord_takes_them_all_and_each_command_is_there(menu: CommandMenu) -> None:
    forms = menu.forms()
    for direct in (False, True):
        declared = slash_command_schema.declared(forms, direct=direct)
        assert discords.problem(declared, direct=direct) is None
        assert slash_command_schema.same(declared, [discords.kept(each) for each in reversed(declared)])
        paths = {
            f"{each['name']} {option['name']}" if option["type"] == discords.SUBCOMMAND else each["name"]
            for each in declared
            for option in each["options"] or [{"type": 0}]
        }
        assert paths == {form.name for form in forms}
    reached = {command.name for command in named(TABLE).values()}
    # Of two that are the same, the menu has one.
    assert {command.name for command in TABLE if "chat" in command.doors} - reached == {"task"}
    assert TABLE.get("task") is not None
    assert TABLE.get("task").parameters == TABLE.get("task show").parameters  # type: ignore[union-attr]
    assert SAY not in TABLE


def test_any_change_is_noticed(menu: CommandMenu) -> None:
    declared = slash_command_schema.declared(menu.forms(), direct=False)
    kept = [discords.kept(each) for each in declared]
    assert not slash_command_schema.same(declared, kept[1:])
    assert not slash_command_schema.same(declared, [*kept, kept[0] | {"name": "other"}])
    for key, value in (("description", "x"), ("default_member_permissions", "8"), ("options", [])):
        changed = [each | {key: value} if each["name"] == "budget" else each for each in kept]
        assert not slash_command_schema.same(declared, changed), key
    assert not slash_command_schema.same(declared, {"message": "no"})


def test_types_choices_and_what_is_for_admins_come_from_the_table(menu: CommandMenu) -> None:
    declared = {each["name"]: each for each in slash_command_schema.declared(menu.forms(), direct=False)}
    tail = {each["name"]: each for each in declared["tail"]["options"]}
    assert (tail["name"]["type"], tail["name"]["autocomplete"], tail["name"]["required"]) == (3, True, True)
    assert tail["entries"]["type"] == discords.INTEGER
    stop = {each["name"]: each for each in declared["stop"]["options"]}
    assert stop["now"]["type"] == discords.BOOLEAN
    budget = {each["name"]: each for each in declared["budget"]["options"]}
    assert set(budget) == {"show", "log", "set", "clear", "authorize"}
    policy = next(each for each in budget["set"]["options"] if each["name"] == "policy")
    assert [each["value"] for each in policy["choices"]] == ["cutoff", "freeze", "kill"]
    restricted = {name for name, each in declared.items() if each["default_member_permissions"] is not None}
    admins = {command.name.split()[0] for command in TABLE if command.permission is ADMIN and "chat" in command.doors}
    # Some commands of these words are for everybody or for operators.
    assert restricted == admins - {"approvals", "budget", "runs", "task"}
    approvals = {each["name"] for each in declared["approvals"]["options"]}
    assert approvals == {"show", "rule-add", "rule-list", "rule-remove", "rule-test", "stats"}


def _sample(command: Command, draw: random.Random) -> dict[str, Any]:
    """Values for a command as hostile as its menu lets them be."""
    values: dict[str, Any] = {}
    for parameter in command.parameters:
        if not parameter.required and draw.random() < 0.4:
            continue
        kind = parameter.type
        if kind.flag:
            values[parameter.name] = draw.random() < 0.5
        elif kind.choices:
            values[parameter.name] = draw.choice(kind.choices)
        elif kind.number:
            values[parameter.name] = draw.randrange(-5, 10**6)
        else:
            values[parameter.name] = draw.choice(HOSTILE)
    return values


def test_whatever_stands_in_a_value_stays_in_it(menu: CommandMenu) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    read = 0
    for name, command in named(TABLE).items():
        for _ in range(60):
            values = _sample(command, draw)
            body = menu.words(name, {key.replace("_", "-"): value for key, value in values.items()})
            assert body.reading is CommandReading.COMMAND
            ready = command_input.prepare(TABLE, body.text, OPERATOR)
            assert command_input.confirmation(body.text) is None
            assert ready.name == command.name, body.text
            if ready.refusal is not None:
                assert ready.reason == "usage"  # a name that no agent can have, for example
                continue
            read += 1
            expected = {key: value for key, value in values.items()}
            rest = next((p.name for p in command.positional if p.type.rest and p.name in values), None)
            if rest is not None:
                expected[rest] = str(values[rest]).strip()
                assert str(ready.arguments[rest]).strip() == expected.pop(rest)
            assert {key: value for key, value in ready.arguments.items() if key != rest} == expected, body.text
    assert read > 1000


def test_values_of_free_text_are_read_back_to_the_letter(menu: CommandMenu) -> None:
    for text in HOSTILE:
        body = menu.words("send", {"name": "coder0", "text": text})
        ready = command_input.prepare(TABLE, body.text, OPERATOR)
        assert ready.refusal is None, body.text
        assert ready.arguments["name"] == "coder0"
        assert str(ready.arguments["text"]).strip() == text.strip(), body.text
        body = menu.words("launch", {"name": "coder0", "task": text, "role": text})
        ready = command_input.prepare(TABLE, body.text, OPERATOR)
        assert ready.arguments == {"name": "coder0", "role": text, "task": text}


@pytest.mark.parametrize("given", ["x kill y", "x\nkill y", "\u2028", "", "x" * 100])
def test_an_id_to_confirm_is_a_word_or_nothing_is_confirmed(menu: CommandMenu, given: str) -> None:
    body = menu.words("confirm", {"id": given})
    found = command_input.confirmation(body.text)
    if found is None:
        assert command_input.prepare(TABLE, body.text, OPERATOR).reason == "unknown"
    else:
        assert found.run_id in (None, repr(given))
    assert command_input.confirmation(menu.words("confirm", {"id": "c12"}).text) == command_input.Confirmation(
        "c12", True
    )
    assert command_input.confirmation(menu.words("decline", {}).text) == command_input.Confirmation(None, False)


def test_what_is_said_is_said_and_no_command(menu: CommandMenu) -> None:
    body = menu.words(SAY, {"text": "!kill coder0"})
    assert (body.text, body.reading) == ("!kill coder0", CommandReading.TALK)


def test_a_command_that_is_no_more_is_unknown(menu: CommandMenu) -> None:
    body = menu.words("frobnicate kill", {"name": "coder0", "id": "coder0 --now"})
    assert command_input.prepare(TABLE, body.text, OPERATOR).reason == "unknown"


async def test_completion_tells_those_alone_who_may_give_the_command(menu: CommandMenu) -> None:
    assert await menu.complete(Asker(sender="2"), "stop", "name", "cod") == ["coder0", "Coder1", "aCod"]
    assert await menu.complete(Asker(sender="2"), "stop", "nothing", "") == ()
    assert await menu.complete(Asker(sender="2"), "nothing", "name", "") == ()
    for other in ("1", "3"):
        assert await menu.complete(Asker(sender=other), "stop", "name", "") == ()
    assert await menu.complete(Asker(sender="1"), "tail", "name", "coder0") == ["coder0"]
    assert await menu.complete(Asker(sender="3"), "tail", "name", "coder0") == ()
    assert await menu.refusal(Asker(sender="1")) is None
    assert "Only operators can command this fleet" in (await menu.refusal(Asker(sender="3")) or "")


def test_no_command_has_an_argument_before_which_one_can_be_left_out() -> None:
    """A line could not say which of the two it is."""
    for command in TABLE:
        kinds = [parameter.required for parameter in command.positional]
        assert kinds.count(False) <= 1, command.name


async def test_what_waits_for_somebodys_word_is_offered_to_them(menu: CommandMenu) -> None:
    for word in ("confirm", "decline"):
        assert await menu.complete(Asker(sender="1", groups=()), word, "id", "") == ["c2", "c1"]
        assert await menu.complete(Asker(sender="2", groups=()), word, "id", "c") == ["c3"]
    (form,) = [each for each in menu.forms() if each.name == "confirm"]
    assert form.options[0].completes


def test_numbers_are_written_as_they_are_read() -> None:
    assert {option.kind for form in _menu().forms() for option in form.options} <= set(OptionKind)
    assert parser.quote("0.0000001") == "0.0000001"


def _menu() -> CommandMenu:
    operators: Any = Anybody()
    return CommandMenu(connector="discord", table=TABLE, operators=operators, words_of=words_of)
