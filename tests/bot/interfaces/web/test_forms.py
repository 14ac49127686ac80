"""Fields of forms become the arguments that a prompt would give."""

from __future__ import annotations

import pytest

from bot.auth.permission import VIEWER
from bot.commands.argument_types import Rest
from bot.commands.context import Context
from bot.commands.registry import Command, CommandTable, Reply
from bot.commands.services import CommandServices
from bot.interfaces.web import forms
from bot.text.errors import UsageError


@pytest.fixture
def command() -> Command:
    table = CommandTable()

    @table.command("say it", permission=VIEWER, help_section="x")
    async def say(
        ctx: Context[CommandServices], name: str, text: Rest, *, times: int = 1, loud: bool = False, nice: bool = True
    ) -> Reply:
        """Say it."""
        return Reply("")

    found = table.get("say it")
    assert found is not None
    return found


def test_a_form_is_read_as_a_line_is(command: Command) -> None:
    given = {"name": " ana ", "text": "two\r\nlines ", "times": "3", "loud": "on"}
    assert forms.arguments(command, given) == {
        "name": "ana", "text": "two\nlines ", "times": 3, "loud": True, "nice": False,
    }  # fmt: skip
    assert forms.arguments(command, {"name": "a", "text": "b", "times": "", "nice": "on"}) == {
        "name": "a", "text": "b", "nice": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [{}, {"name": "a"}, {"name": "a", "text": "b", "times": "x"}, {"name": "a", "text": "b", "loud": "maybe"},
     {"name": "a", "text": "b", "other": "1"}],
)  # fmt: skip
def test_what_a_command_does_not_take_is_refused(command: Command, given: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        forms.arguments(command, given)


def test_arguments_come_back_from_their_own_fields(command: Command) -> None:
    arguments: dict[str, str | bool | float] = {
        "name": "a",
        "text": " b\n",
        "times": 1234567,
        "loud": True,
        "nice": False,
    }
    sent = forms.given_in(forms.as_fields(arguments.items()))
    assert forms.arguments(command, sent) == arguments


def test_a_path_names_one_command(command: Command) -> None:
    table = CommandTable()
    table.add(command)
    assert forms.path_of(command) == "/commands/say/it"
    assert forms.command_at(table, "say/it") is command
    for path in ("say it", "SAY/it", "say//it", "say/it/", "say", ""):
        assert forms.command_at(table, path) is None
