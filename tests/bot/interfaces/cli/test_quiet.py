"""The option -q never takes a name that a command uses for itself, and never hides what is for programs."""

from __future__ import annotations

import click
import pytest

from bot.interfaces.cli import quiet
from bot.interfaces.cli.output import is_silenced


def _command(*own: str) -> click.Command:
    def call(**given: object) -> None:
        click.echo(f"{'silenced' if is_silenced() else 'loud'} {sorted(given.items())}")

    return click.Command("ask", params=[click.Option(own, is_flag=True)] if own else [], callback=call)


def test_an_option_of_the_command_keeps_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    made = quiet.accepting_quiet(quiet.accepting_quiet(_command("-q", "--queue")))
    made.main(["-q"], standalone_mode=False)
    assert capsys.readouterr().out == "loud [('queue', True)]\n"
    made.main(["--quiet"], standalone_mode=False)
    assert capsys.readouterr().out == "silenced [('queue', False)]\n"


def test_a_command_that_only_confirms_prints_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    made = quiet.accepting_quiet(_command())
    made.name = "down"
    made.main(["-q"], standalone_mode=False)
    assert capsys.readouterr().out == ""
    with click.Context(click.Command("muster")) as program:
        quiet.chosen(program, "down", as_json=True)
        with made.make_context("down", ["--quiet"], parent=program) as ctx:
            made.invoke(ctx)
    assert capsys.readouterr().out == "silenced []\n"
    assert not is_silenced()
