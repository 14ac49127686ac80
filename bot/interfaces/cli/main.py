"""The command ``muster``: the command table of the running orchestrator, and commands for the shell only.

Exit status: 0 done, 1 refused or failed (the reason on standard error), 2 wrong usage, 3 Muster is not running.

Heavy modules are imported where they are used, so that ``muster --help`` costs little more than Python itself.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from bot.commands import sections
from bot.commands.parser import left_over
from bot.commands.registry import CommandTable
from bot.commands.syntax import SHELL, command_line, in_docstring, written
from bot.interfaces.cli import help_pages, quiet
from bot.interfaces.cli.output import (
    DONE,
    FAILED,
    NOT_RUNNING,
    WRONG_USAGE,
    refuse,
    say,
    tell_programs,
)
from bot.interfaces.cli.remote_command import arguments_of, ask
from bot.interfaces.cli.runs import command as run_command
from bot.interfaces.cli.shell_commands import SHELL_COMMANDS
from bot.interfaces.cli.shipped_help import WIDEST
from bot.text.errors import NotRunning, UsageError
from core.errors import MusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bot.api_client import Client
    from bot.commands.registry import Command, Parameter

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType

#: First words of the commands that the shell carries out at once and without the orchestrator.
_EGRESS = (["egress"], ["estop"])

#: Words that cannot be options: -5M, -.5, -$20.
_NEGATIVE = re.compile(r"-\$?\.?[0-9]")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``muster`` in this version."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    # Importing the orchestrator's commands takes 20 ms, which must not delay an urgent stop.
    sys.exit(run(CommandTable() if words[:1] in _EGRESS else sections.load(), words))


def _of_standby() -> str | None:
    """Return a message if the Muster here is a standby, or None."""
    from bot.config.instance_lock import holder
    from bot.config.paths import Paths

    waiting = holder(Paths.of(os.environ).standby_lock)
    if waiting is None:
        return None
    return (
        f"Muster stands by here (process {waiting.pid}) and runs no commands. {waiting.note} Ask where the leader "
        f"runs; `muster down` ends this one."
    )


def run(table: CommandTable, arguments: list[str], *, client: Callable[[], Client] | None = None) -> int:
    """Run the command line, and return the exit status.

    Args:
        table: the commands of the orchestrator.
        arguments: the words, without the program's name.
        client: creates the connection to the orchestrator; by default, that of the installation in the environment.
    """
    try:
        return _run(MusterProgram(table, client or _client), arguments)
    except BrokenPipeError:
        # The reader of the output has ended (`muster ps | head`). Python flushes once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(program: MusterProgram, arguments: list[str]) -> int:
    as_json = "--json" in (arguments[: arguments.index("--")] if "--" in arguments else arguments)
    try:
        status = program.main(arguments, prog_name="muster", standalone_mode=False)
        return status if isinstance(status, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        error.show(sys.stdout)
        return DONE
    except click.UsageError as error:
        error.show()
        if as_json:
            tell_programs(error.format_message(), reason="usage", code=UsageError.code)
        return WRONG_USAGE
    except click.ClickException as error:
        error.show()
        if as_json:
            tell_programs(error.format_message())
        return FAILED
    except click.Abort:
        say("Interrupted.", error=True)
        return FAILED
    except NotRunning as error:
        told = as_json and not error.told
        refuse(_of_standby() or str(error), as_json=told, reason="not_running", code=error.code)
        return NOT_RUNNING
    except UsageError as error:
        refuse(str(error), as_json=as_json, reason="usage", code=error.code)
        return WRONG_USAGE
    except MusterError as error:
        refuse(str(error), as_json=as_json, code=error.code)
        return FAILED


def _client() -> Client:
    from bot.api_client import Client
    from bot.config.paths import Paths

    return Client(Paths.of(os.environ).gateway_socket)


class MusterProgram(help_pages.GroupedProgram):
    """The program ``muster``. Commands are created on demand; longer names are matched first."""

    def __init__(self, table: CommandTable, client: Callable[[], Client]) -> None:
        super().__init__(
            "muster",
            help="Run a fleet of AI coding agents from a chat room.",
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
            params=[click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
                                 help="Show the version."),
                    quiet.before_command()],
        )  # fmt: skip
        self._table = table
        self._client = client

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*SHELL_COMMANDS, *(command.name for command in self._table if command.name not in SHELL_COMMANDS)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        longer = [full for full in self.list_commands(ctx) if full.startswith(f"{name} ")]
        following = dict.fromkeys(full.removeprefix(f"{name} ").split()[0] for full in longer)
        parts = {word: f"{name} {word}" for word in following}
        made = SHELL_COMMANDS.get(name)
        if made is None and (command := self._table.get(name)) is not None:
            made = _made(command, self._table, self._client)
        if made is None:
            return _Words(self, name, parts) if parts else None
        quiet.accepting_quiet(made)
        if parts:
            made.epilog = f"Further commands: {', '.join(longer)}."
        return made

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if (moved := _moved(args)) is not None:
            raise click.UsageError(moved, ctx=ctx)
        for words in (3, 2, 1):
            name = " ".join(args[:words])
            command = self.get_command(ctx, name) if len(args) >= words else None
            if isinstance(command, _Words) and len(args) > words and not args[words].startswith("-"):
                break
            if command is not None and words == 1 and self._is_beginning(name, args[1:]):
                break
            if command is not None:
                quiet.chosen(ctx, name, as_json="--json" in args)
                return name, command, args[words:]
        if ctx.resilient_parsing or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        raise click.UsageError(_unknown(self._table, self.list_commands(ctx), " ".join(args[:3])[:80]), ctx=ctx)

    def _is_beginning(self, name: str, rest: Sequence[str]) -> bool:
        """Return whether a word follows that this command cannot take, but a command with a longer name could."""
        command = self._table.get(name)
        if command is None or not rest or rest[0].startswith("-") or command.positional:
            return False
        return bool(self._table.longer(command, rest[0]))

    def grouped(self) -> dict[str, list[str]]:
        groups = {"In the shell": list(SHELL_COMMANDS)}
        for command in self._table:
            if command.name not in SHELL_COMMANDS:
                groups.setdefault(command.help_section.capitalize(), []).append(command.name)
        return groups

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        with formatter.section("Start with"):
            formatter.write_dl(help_pages.first_steps())
        with formatter.section("Examples"):
            for line in help_pages.EXAMPLES:
                formatter.write_text(SHELL + line)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self.grouped().items():
            with formatter.section(title):
                formatter.write_dl([(name, self._summary(name)) for name in names])
        formatter.write_paragraph()
        formatter.write_text("muster help COMMAND explains one.")

    def _summary(self, name: str) -> str:
        made = SHELL_COMMANDS.get(name)
        if made is not None:
            return made.get_short_help_str(120)
        command = self._table.get(name)
        return "" if command is None else command.summary

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        words = dict.fromkeys(name.split()[0] for name in self.list_commands(ctx))
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


class _Words(click.Group):
    """The first words of longer names (``grant`` of ``grant revoke``)."""

    def __init__(self, program: MusterProgram, word: str, names: dict[str, str]) -> None:
        super().__init__(word, no_args_is_help=True, add_help_option=True)
        self._program = program
        self._names = names

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._names)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        made = [(name, self.get_command(ctx, name)) for name in self._names]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(120)) for name, each in made if each is not None])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        full = self._names.get(name)
        return self._program.get_command(ctx, full) if full is not None else None


class _Value(_ParamType):
    """An argument of one of the table's types."""

    def __init__(self, parameter: Parameter, client: Callable[[], Client]) -> None:
        self.name = parameter.type.label.lower()
        self._parameter = parameter
        self._client = client

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if self._parameter.type.rest:
            return value
        try:
            return self._parameter.to_json(value)
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from None

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self._parameter.type.label

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        words: Sequence[str] = self._parameter.type.choices
        if self._parameter.type.source is not None:
            words = _offered(self._client, self._parameter.type.source)
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _offered(client: Callable[[], Client], source: str) -> list[str]:
    """Return words from the running orchestrator, or none if it does not run: a completion must not show errors."""
    try:
        body = client().get(f"/v1/complete?source={source}").body
        return [str(word) for word in body["words"]]
    except (MusterError, LookupError, TypeError):
        return []


def _made(command: Command, table: CommandTable, client: Callable[[], Client]) -> click.Command:
    def help_of(docstring: str) -> str:
        return written(in_docstring(docstring, table), SHELL)

    parameters: list[click.Parameter] = []
    for parameter in command.parameters:
        kind = _Value(parameter, client)
        if not parameter.option:
            parameters.append(
                click.Argument(
                    [parameter.name],
                    type=kind,
                    required=parameter.required,
                    nargs=-1 if parameter.type.rest else 1,
                    metavar=parameter.usage,
                )
            )
        elif parameter.type.flag:
            names = [parameter.name, f"{parameter.flag_name}/--no-{parameter.flag_name[2:]}"]
            parameters.append(
                click.Option(
                    names if parameter.default else [parameter.name, parameter.flag_name],
                    is_flag=True,
                    default=bool(parameter.default),
                    help=help_of(parameter.help),
                )
            )
        else:
            parameters.append(
                click.Option(
                    [parameter.name, parameter.flag_name],
                    type=kind,
                    required=parameter.required,
                    help=help_of(parameter.help),
                )
            )
    parameters.append(click.Option(["--json", "as_json"], is_flag=True, help="Print the answer for programs."))
    if command.confirm:
        parameters.append(click.Option(["--yes", "confirmed"], is_flag=True, help="Do not ask first."))

    parameters = run_command.adapt(command, parameters)

    def call(as_json: bool, confirmed: bool = False, waits: bool = False, detach: bool = False, **given: Any) -> int:
        given = run_command.prepare(command, given)
        if run_command.waits(command, asked=waits, detach=detach):
            return run_command.give_and_wait(command, client, arguments_of(command, given), as_json=as_json)
        return ask(command, client, given, as_json=as_json, confirmed=confirmed)

    details = [f"{p.usage.strip('[]')}: {p.help}" for p in command.positional if p.help]
    text = help_of("\n\n".join(part for part in (command.summary, command.description, *details) if part))
    return _OfTable(command, params=parameters, callback=call, help=text, short_help=help_of(command.summary))


class _OfTable(click.Command):
    """A command of the table, which parses words like a line in chat."""

    def __init__(self, command: Command, **made: Any) -> None:
        super().__init__(command.name, context_settings={"allow_extra_args": True}, **made)
        self._command = command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(_NEGATIVE.match(word) for word in args):
            # A negative amount, for the command to judge: -5h is not the options -5 and -h.
            ctx.ignore_unknown_options = True
            ctx.help_option_names = ["--help"]
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(left_over(self._command, " ".join(rest)), ctx)
        return rest


def _unknown(table: CommandTable, names: Sequence[str], words: str) -> str:
    from difflib import get_close_matches

    first = words.split()[0]
    same = [name for name in names if name.startswith(f"{first} ")]
    close = get_close_matches(words, same, n=2) or same or get_close_matches(first, names, n=2)
    close = close or table.suggestions(first)[:2]
    meant = " or ".join(command_line(name) for name in close)
    hint = f"Did you mean {meant}?" if close else f"{command_line('--help')} lists the commands."
    return written(f'There is no command "{words if same else first}". {hint}', SHELL)


def _moved(args: Sequence[str]) -> str | None:
    """Return what to write instead of a spelling that had another meaning, or None."""
    words = [word for word in args[1:] if not word.startswith("-")]
    if args[0] != "restore" or not words:
        return None
    from fleet.name_rules import is_agent_name

    if is_agent_name(words[0]):
        return None
    restore, backup = command_line("restore NAME"), command_line(f"backup restore {words[0][:80]}")
    return written(f"{restore} opens the egress of an agent. {backup} restores a backup.", SHELL)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from bot.maintenance.versions import of_this

        click.echo(f"muster {of_this('(not installed)')}")
        ctx.exit()


if __name__ == "__main__":
    main()
