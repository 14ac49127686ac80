"""The option `-q`, which is accepted before the command and after it."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Final

import click

from bot.interfaces.cli.output import silenced
from bot.interfaces.cli.shell_commands import CONFIRM_ONLY

_NAMES: Final = ("-q", "--quiet")
#: Where a context keeps whether an answer for programs is wanted, which `-q` never leaves out.
_AS_JSON: Final = "muster.as_json"


def before_command() -> click.Option:
    """Return the option of the program."""
    words = "Print only what was asked for, and errors: no progress, no confirmations. Also after the command."
    return click.Option(_NAMES, is_flag=True, expose_value=False, callback=_silence, help=words)


def accepting_quiet(command: click.Command) -> click.Command:
    """Let a command accept the option, under those names that its own options do not use. Its help does not show it."""
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    free = [name for name in _NAMES if name not in known]
    if free and not any(isinstance(each, _Quiet) for each in command.params):
        command.params.append(_Quiet(free, is_flag=True, expose_value=False, callback=_silence, hidden=True))
    return command


def chosen(ctx: click.Context, name: str, *, as_json: bool) -> None:
    """Note the command that was typed, before its own options are read."""
    ctx.meta[_AS_JSON] = as_json
    if ctx.meta.get(_NAMES[0]):
        _hide_confirmation(ctx, name)


class _Quiet(click.Option):
    """The option where it follows a command."""


def _silence(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    ctx.meta[_NAMES[0]] = True
    ctx.with_resource(silenced())
    if isinstance(parameter, _Quiet):
        _hide_confirmation(ctx, ctx.command.name or "")


def _hide_confirmation(ctx: click.Context, name: str) -> None:
    if name in CONFIRM_ONLY and not ctx.meta.get(_AS_JSON):
        ctx.with_resource(redirect_stdout(StringIO()))
