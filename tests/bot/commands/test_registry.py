"""A command is declared once; what is wrong with a declaration is said at once."""

import enum
from typing import Literal

import pytest

from bot.auth.permission import ADMIN, OPERATOR, VIEWER, Permission
from bot.commands.argument_types import AgentName, Duration, Rest, RuntimeName
from bot.commands.context import Context
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.text.errors import UsageError


class Pace(enum.StrEnum):
    SLOW = "slow"
    FAST = "fast"


@pytest.fixture
def table() -> CommandTable:
    table = CommandTable()

    @table.command("launch", permission=OPERATOR, help_section="fleet")
    async def launch(
        ctx: Context[CommandServices],
        name: AgentName,
        runtime: RuntimeName | None = None,
        *,
        task: str | None = None,
        budget: int | None = None,
        pace: Pace = Pace.SLOW,
        by: Literal["agent", "role"] = "agent",
        for_: Duration | None = None,
        now: bool = False,
    ) -> Reply:
        """Start an agent
        in a thread of its own.

        A second launch of a live agent changes nothing.

        Args:
            name: how the agent is called,
                for ever.
            for_: when it stops.
        """
        return Reply(name)

    @table.command("send", permission=OPERATOR, help_section="talking")
    async def send(ctx: Context[CommandServices], name: AgentName, text: Rest, *, now: bool = False) -> Reply:
        """Say something."""
        return Reply(text)

    @table.command("grants", permission=VIEWER, help_section="approvals")
    async def grants(ctx: Context[CommandServices]) -> Reply:
        """What was allowed."""
        return Reply("")

    @table.command("grant revoke", permission=ADMIN, help_section="approvals", confirm=True)
    async def grant_revoke(ctx: Context[CommandServices], id: str) -> Reply:
        """Take back."""
        return Reply("")

    return table


def test_usage_and_help_come_from_the_declaration(table: CommandTable) -> None:
    launch = table.get("launch")
    assert launch is not None
    assert launch.summary == "Start an agent in a thread of its own."
    assert launch.description == "A second launch of a live agent changes nothing."
    assert launch.parameters[0].help == "how the agent is called, for ever."
    assert launch.usage == (
        "launch NAME [RUNTIME] [--task TEXT] [--budget N] [--pace slow|fast] [--by agent|role] [--for DURATION] [--now]"
    )
    send = table.get("send")
    assert send is not None
    assert send.usage == "send NAME [--now] TEXT"


def test_arguments_by_name_become_what_the_function_takes(table: CommandTable) -> None:
    launch = table.get("launch")
    assert launch is not None
    bound = launch.bind({"name": "Coder0", "for": "1h30m", "pace": "FAST", "budget": "5", "now": True})
    assert bound == {
        "name": "coder0",
        "runtime": None,
        "task": None,
        "budget": 5,
        "pace": Pace.FAST,
        "by": "agent",
        "for_": 5400.0,
        "now": True,
    }
    assert launch.bind({"name": "a", "for": 90})["for_"] == 90.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "NAME is missing."),
        ({"name": "a", "nam": 1}, 'launch has no argument "nam"'),
        ({"name": "../etc"}, "NAME: expected an agent's name"),
        ({"name": ["a"]}, "NAME: expected an agent's name"),
        ({"name": True}, "NAME: expected an agent's name"),
        ({"name": "a", "now": "yes"}, "--now: expected true or false"),
        ({"name": "a", "budget": "many"}, '--budget: expected a whole number, not "many"'),
        ({"name": "a", "budget": 1.5}, "--budget: expected a whole number"),
        ({"name": "a", "by": "day"}, '--by: expected agent, role, not "day"'),
        ({"name": "a", "for": "soon"}, "--for: expected a length of time"),
        ({"name": "a", "for": "99999999w"}, "--for: expected a length of time"),
        ({"name": "a", "task": " "}, "--task: expected some text"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed(
    table: CommandTable, arguments: dict[str, object], sentence: str
) -> None:
    launch = table.get("launch")
    assert launch is not None
    with pytest.raises(UsageError) as refused:
        launch.bind(arguments)
    assert str(refused.value).startswith(sentence)


def test_the_longest_name_wins(table: CommandTable) -> None:
    found = table.match("  Grant\tREVOKE x y")
    assert found is not None
    assert (found.command.name, found.rest) == ("grant revoke", " x y")
    assert table.match("grant x") is None
    assert table.match("") is None
    found = table.match("grants")
    assert found is not None
    assert found.command.name == "grants"


def test_near_misses_are_suggested_from_what_the_person_may_run(table: CommandTable) -> None:
    assert table.suggestions("luanch coder0") == ["launch"]
    assert table.suggestions("grant revok x")[0] == "grant revoke"
    assert table.suggestions("grant x") == ["grant revoke", "grants"]
    assert table.suggestions("grant revok x", VIEWER) == ["grants"]
    assert table.suggestions("xyzzy") == []
    assert table.suggestions("") == []


def test_permissions_are_ordered_and_named() -> None:
    assert Permission.NONE < VIEWER < OPERATOR < ADMIN
    assert Permission.named("operator") is OPERATOR
    assert str(ADMIN) == "admin"
    with pytest.raises(KeyError):
        Permission.named("root")


def test_only_commands_within_the_permission_are_visible(table: CommandTable) -> None:
    assert [command.name for command in table.visible(VIEWER)] == ["grants"]
    assert len(table.visible(ADMIN)) == len(table) == 4


async def _unknown(ctx: Context[CommandServices], when: complex) -> Reply:
    """X."""
    return Reply("")


async def _flag_in_order(ctx: Context[CommandServices], now: bool) -> Reply:
    """X."""
    return Reply("")


async def _rest_first(ctx: Context[CommandServices], text: Rest, name: str) -> Reply:
    """X."""
    return Reply("")


async def _rest_option(ctx: Context[CommandServices], *, text: Rest) -> Reply:
    """X."""
    return Reply("")


async def _no_docstring(ctx: Context[CommandServices]) -> Reply:
    return Reply("")


async def _wrong_help(ctx: Context[CommandServices]) -> Reply:
    """X.

    Args:
        name: of nothing.
    """
    return Reply("")


async def _many(ctx: Context[CommandServices], *names: str) -> Reply:
    """X."""
    return Reply("")


async def _either(ctx: Context[CommandServices], value: int | str) -> Reply:
    """X."""
    return Reply("")


@pytest.mark.parametrize(
    "function",
    [_unknown, _flag_in_order, _rest_first, _rest_option, _no_docstring, _wrong_help, _many, _either],
    ids=lambda function: function.__name__,
)
def test_a_wrong_declaration_fails_when_it_is_made(function: object) -> None:
    with pytest.raises(TypeError):
        CommandTable().command("x", permission=VIEWER, help_section="x")(function)  # type: ignore[arg-type]


def test_a_name_is_declared_once_and_is_one_to_three_words(table: CommandTable) -> None:
    async def ok(ctx: Context[CommandServices]) -> Reply:
        """X."""
        return Reply("")

    for name in ("launch", "Grant", "a b c d", "", "a  b"):
        with pytest.raises(ValueError, match=r"name|twice"):
            table.command(name, permission=VIEWER, help_section="x")(ok)
