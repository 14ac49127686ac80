"""`muster help COMMAND`."""

from __future__ import annotations

import click

from bot.commands.syntax import SHELL
from bot.interfaces.cli.help_pages import GroupedProgram


def _next_words(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    """Return the words of commands' names that can follow those before the cursor."""
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    given = list(ctx.params.get("words") or ())
    names = [name.split() for name in root.command.list_commands(root)]
    words = [name[len(given)] for name in names if len(name) > len(given) and name[: len(given)] == given]
    return [word for word in dict.fromkeys(words) if word.startswith(begun)]


@click.command("help")
@click.argument("words", metavar="[COMMAND]", nargs=-1, shell_complete=_next_words)
@click.option("--man", is_flag=True, help="Print the manual page, for `man -l -`.")
@click.option("--json", "as_json", is_flag=True, help="Print the commands of chat and shell for programs.")
@click.pass_context
def help_command(ctx: click.Context, words: tuple[str, ...], man: bool, as_json: bool) -> int:
    """List the commands, or explain one, whether Muster runs or not.

    COMMAND: a command of one or two words, such as launch or budget set.
    """
    root = ctx.find_root()
    program = root.command
    assert isinstance(program, GroupedProgram)
    if man:
        from bot.interfaces.cli.man_page import page

        click.echo(page(program, root), nl=False)
        return 0
    made: click.Command = program
    name = ""
    if words:
        found, command, rest = program.resolve_command(root, list(words))
        if found is None or command is None or rest:
            wrong = " ".join(words)[:80]
            raise click.UsageError(f'There is no command "{wrong}". `muster help` lists the commands.', ctx)
        name, made = found, command
    if as_json:
        import json

        names = [name] if words else [each for group in program.grouped().values() for each in group]
        click.echo(json.dumps([_described(program, root, each) for each in names], indent=2))
        return 0
    shown = root if not words else click.Context(made, info_name=name, parent=root)
    click.echo(made.get_help(shown))
    return 0


def _described(program: click.Group, root: click.Context, name: str) -> dict[str, object]:
    made = program.get_command(root, name)
    assert made is not None
    context = click.Context(made, info_name=name, parent=root)
    records = [record for each in made.params if (record := each.get_help_record(context)) is not None]
    return {
        "name": name,
        "usage": " ".join([SHELL + name, *made.collect_usage_pieces(context)]),
        "summary": made.get_short_help_str(500),
        "options": [{"name": written, "help": meaning} for written, meaning in records],
    }
