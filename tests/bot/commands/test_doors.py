"""Each command lists where it can be given. Nobody can give it elsewhere, and no list offers it there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from bot.auth.agent_permissions import MAY
from bot.auth.permission import ADMIN, VIEWER
from bot.auth.permissions import Operators
from bot.commands import sections
from bot.commands.context import Context
from bot.commands.doors import AT_HOME, EVERYWHERE, Door
from bot.commands.executor import Executor
from bot.commands.help import explanation, names
from bot.commands.registry import Command, CommandTable, Reply
from bot.commands.runs import NotHere, RunRequest, asked_about, check_door, question
from bot.commands.services import CommandServices
from bot.commands.slash_command_names import named
from bot.commands.syntax import CHAT, written
from bot.interfaces.web import forms
from database.engine.store import Store

TABLE = sections.load()
#: Where people are. The reader of a diff of this test sees each new restriction.
RESTRICTED = {"handover": AT_HOME, "sessions": AT_HOME, "web login": AT_HOME | {"chat"}}


def test_the_table_says_for_each_command_where_it_can_be_given() -> None:
    assert {each.name: each.doors for each in TABLE if each.doors != EVERYWHERE} == RESTRICTED
    arguments = {(each.name, item.name): item.doors for each in TABLE for item in each.parameters}
    assert {key: doors for key, doors in arguments.items() if doors != EVERYWHERE} == {("launch", "session"): AT_HOME}


@pytest.mark.parametrize("command", TABLE, ids=lambda each: each.name)
def test_a_list_offers_a_command_exactly_where_it_can_be_given(command: Command) -> None:
    for door in EVERYWHERE:
        if door in command.doors:
            check_door(command, door, {})
        else:
            with pytest.raises(NotHere, match="cannot be given"):
                check_door(command, door, {})
    assert command.doors >= AT_HOME, "each command works in a shell"
    assert (command in named(TABLE).values()) <= ("chat" in command.doors)
    assert (command.name in names(TABLE, ADMIN).replace("\n\n", ", ")) >= ("chat" in command.doors)
    assert (command in TABLE.visible(ADMIN, "web")) == ("web" in command.doors)
    assert ("nly in " in explanation(command, TABLE).partition("For the permission")[2]) == (
        command.doors != EVERYWHERE or any(each.doors != EVERYWHERE for each in command.parameters)
    )


def test_each_question_says_whether_it_can_be_undone() -> None:
    asked = {each.name: each for each in TABLE if each.confirm}
    assert {name for name, each in asked.items() if each.undo_words == "This cannot be undone."} == {"kill"}
    assert {name for name, each in asked.items() if not each.undo_words} == {"discard"}, "its check says it"
    said = written(question(asked["budget clear"], {"scope": "host"}), CHAT)
    assert said == "`!budget clear host` needs your confirmation. `!budget set` sets it again."
    assert written(asked_about(question(asked["budget clear"], {"scope": "host"})), CHAT) == "`!budget clear host`"
    assert written(question(asked["kill"], {"name": "coder0"}), CHAT) == "`!kill coder0` cannot be undone."
    assert "`!budget set` sets it again." in written(explanation(asked["budget clear"], TABLE), CHAT)
    assert {each.name for each in TABLE if each.undo and not each.confirm} == set()


def test_what_agents_may_run_their_door_accepts() -> None:
    for name, given in MAY.items():
        command = TABLE.get(name)
        assert command is not None
        assert "tools" in command.doors, name
        assert all("tools" in each.doors for each in command.parameters if each.name in given), name


def test_an_option_that_is_not_taken_here_is_not_offered_here() -> None:
    launch = TABLE.get("launch")
    assert launch is not None
    assert "a.session" not in {each.name for each in forms.fields(launch, {})}
    check_door(launch, "chat", {"name": "coder0", "session": None})
    with pytest.raises(NotHere) as refused:
        check_door(launch, "chat", {"name": "coder0", "session": "abc"})
    assert written(str(refused.value), CHAT) == (
        "--session of `!launch` cannot be given in chat. "
        "Give it in a shell, in the terminal's dashboard or over the gateway."
    )


@pytest.mark.parametrize(
    ("doors", "why"),
    [((), "doors are some of"), (("cli",), "cannot tell"), (("chat", "tui"), "cannot tell"), (("attic",), "attic")],
)
def test_a_declaration_that_grants_by_a_label_is_refused(doors: Collection[Door], why: str) -> None:
    async def look(ctx: Context[CommandServices]) -> Reply:
        """Look."""
        return Reply("")

    with pytest.raises(ValueError, match=why):
        CommandTable().command("look", permission=VIEWER, help_section="x", doors=doors)(look)


def test_doors_are_for_arguments_that_exist_and_can_be_left_out() -> None:
    async def look(ctx: Context[CommandServices], name: str) -> Reply:
        """Look."""
        return Reply("")

    for doors in ({"nmae": AT_HOME}, {"name": AT_HOME}):
        with pytest.raises(TypeError, match="doors"):
            CommandTable().command("look", permission=VIEWER, help_section="x", argument_doors=doors)(look)


async def test_a_command_from_elsewhere_is_refused_before_it_is_asked_about(tmp_path: Path) -> None:
    table, ran = CommandTable(), []

    @table.command("look", permission=VIEWER, help_section="x", confirm=True, doors=AT_HOME)
    async def look(ctx: Context[CommandServices]) -> Reply:
        """Look."""
        ran.append(ctx.door)
        return Reply("seen")

    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    try:
        services = CommandServices(clock=lambda: 0.0, store=store, table=table, operators=Operators(store, {}))
        executor = Executor(services)
        for door in sorted(EVERYWHERE):
            outcome = await executor.run(
                RunRequest(
                    id=door,
                    name="look",
                    arguments={},
                    identity="x:y",
                    permission=ADMIN,
                    door=door,
                    confirmed=door in AT_HOME,
                )
            )
            if door in AT_HOME:
                assert outcome.state == "done"
            else:
                assert (outcome.state, outcome.reason, outcome.code) == ("refused", "permission", "command.not_here")
        unknown = RunRequest(id="z", name="look", arguments={}, identity="x:y", permission=ADMIN, door="cellar")
        assert (await executor.run(unknown)).code == "command.not_here", "a door of another version opens nothing"
        await executor.stop()
    finally:
        await store.close()
    assert sorted(ran) == sorted(AT_HOME)
