"""What is a command in chat, what is talk, and what is said about lines that are neither."""

from dataclasses import replace

import pytest

from bot.auth.permission import OPERATOR, VIEWER
from bot.commands import sections
from bot.commands.argument_types import AgentName, Rest
from bot.commands.context import Context
from bot.commands.registry import CommandTable, Reply
from bot.commands.services import CommandServices
from bot.commands.syntax import written
from bot.interfaces.chat import command_input
from bot.interfaces.chat.command_input import CommandInput, Confirmation, Talk, confirmation, interpret, prepare
from connectors.contract.messages import CommandReading, Text


@pytest.fixture
def table() -> CommandTable:
    table = CommandTable()

    @table.command("ps", permission=VIEWER, help_section="fleet")
    async def ps(ctx: Context[CommandServices], *, all: bool = False) -> Reply:
        """The fleet."""
        return Reply("")

    @table.command("send", permission=OPERATOR, help_section="talking")
    async def send(ctx: Context[CommandServices], name: AgentName, text: Rest) -> Reply:
        """Say."""
        return Reply("")

    @table.command("grant revoke", permission=OPERATOR, help_section="approvals")
    async def grant_revoke(ctx: Context[CommandServices], id: str) -> Reply:
        """Take back."""
        return Reply("")

    return table


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("!ps", CommandInput("ps")),
        ("  ! ps --all", CommandInput("ps --all")),
        ("!send coder0 two\nlines", CommandInput("send coder0 two\nlines")),
        ("!lanuch x", CommandInput("lanuch x")),
        ("hello", Talk("hello")),
        ("hello !ps", Talk("hello !ps")),
        ("!", Talk("!")),
        ("!!ps", Talk("!!ps")),
        ("! 5", Talk("! 5")),
        ("ps", Talk("ps")),
        ("", Talk("")),
    ],
)
def test_a_prefix_and_a_word_make_a_command(table: CommandTable, text: str, said: object) -> None:
    assert interpret(text, prefix="!", mentioned=False, table=table) == said


def test_the_prefix_is_configurable(table: CommandTable) -> None:
    assert interpret("muster ps", prefix="muster ", mentioned=False, table=table) == CommandInput("ps")
    assert interpret("!ps", prefix="muster ", mentioned=False, table=table) == Talk("!ps")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("muster: ps --all", CommandInput("ps --all")),
        ("@muster ps", CommandInput("ps")),
        ("Muster Bot, grant revoke g1", CommandInput("grant revoke g1")),
        ("@muster:example.org !ps", CommandInput("ps")),
        ("muster:ps", CommandInput("ps")),
        ("ps", CommandInput("ps")),
        ("muster: confirm", CommandInput("confirm")),
        ("muster: good morning", Talk("muster: good morning")),
        ("I think muster: does", Talk("I think muster: does")),
        ("muster:", Talk("muster:")),
    ],
)
def test_a_mention_makes_a_command_of_what_is_one(table: CommandTable, text: str, said: object) -> None:
    assert interpret(text, prefix="!", mentioned=True, table=table) == said


def test_answers_to_questions_are_told_from_commands() -> None:
    assert confirmation("confirm") == Confirmation(None, True)
    assert confirmation(" Confirm c12 ") == Confirmation("c12", True)
    assert confirmation("decline") == Confirmation(None, False)
    assert confirmation("confirm a b") is None
    assert confirmation("ps") is None


def test_a_right_line_is_ready(table: CommandTable) -> None:
    ready = prepare(table, "send coder0 a  b", OPERATOR)
    assert (ready.name, ready.arguments, ready.refusal) == ("send", {"name": "coder0", "text": "a  b"}, None)


def test_a_wrong_line_gets_the_usage(table: CommandTable) -> None:
    ready = prepare(table, "send coder0", OPERATOR)
    assert (ready.name, ready.arguments, ready.reason) == ("send", {"line": "send coder0"}, "usage")
    assert written(str(ready.refusal), "!") == "TEXT is missing.\n\nUsage: `!send NAME TEXT`"


def test_an_unknown_command_gets_what_was_perhaps_meant(table: CommandTable) -> None:
    ready = prepare(table, "sned coder0 x", OPERATOR)
    assert (ready.name, ready.reason) == ("sned", "unknown")
    assert written(str(ready.refusal), "!") == 'There is no command "sned". Did you mean `!send`?'
    other = prepare(table, "sned x", VIEWER)
    assert written(str(other.refusal), "!") == 'There is no command "sned". `!help` lists the commands.'
    slip = prepare(table, "confirm a b", VIEWER)
    assert "`!confirm` and nothing else" in written(str(slip.refusal), "!")
    assert prepare(table, "", VIEWER).name == "?"


def test_a_wrong_second_word_gets_what_was_perhaps_meant() -> None:
    ready = prepare(sections.load(), "roster aply", OPERATOR)
    assert written(str(ready.refusal), "!").startswith('Unexpected argument: "aply". Did you mean `!roster apply`?')


def test_a_very_long_line_costs_little(table: CommandTable) -> None:
    ready = prepare(table, "x" * 100_000, OPERATOR)
    assert len(repr(ready)) < 1500


@pytest.mark.parametrize("text", ["ps", "!ps", "frobnicate kill coder0", "@muster kill coder0", "words"])
def test_what_was_chosen_from_a_menu_is_what_it_was_chosen_as(text: str) -> None:
    for mentioned in (False, True):
        body = Text(text=text, mentions_us=mentioned, reading=CommandReading.COMMAND)
        assert command_input.said(body, prefix="!") == CommandInput(text)
        assert command_input.said(replace(body, reading=CommandReading.TALK), prefix="!") == Talk(text)
    assert command_input.said(Text(text=text), prefix="!") == interpret(text, prefix="!", mentioned=False)


def test_of_a_line_that_is_too_long_no_half_of_a_word_is_kept(table: CommandTable) -> None:
    key = "sk-ant-api03-" + "x1" * 40
    for before in range(420, 520):
        kept = str(prepare(table, f"nonsense {'y ' * (before // 2)}{key} and so on", VIEWER).arguments["line"])
        assert key in kept or "sk-" not in kept
