"""The manual page muster(1), in the language of man(7), from the same tables as `muster --help`. Pure."""

from __future__ import annotations

import re

import click

from bot.commands.syntax import SHELL
from bot.interfaces.cli.help_pages import EXAMPLES, GroupedProgram, first_steps

_STATUS = (
    ("0", "The command was carried out."),
    ("1", "The command was refused or failed. Standard error has the reason."),
    ("2", "The command line is wrong."),
    ("3", "Muster is not running."),
    ("4 to 8", "The agent that the command waited for failed, met a limit, timed out, was stopped, or needs a person."),
)
_FILES = (
    ("~/.config/muster/muster.yaml", "Connectors, operators, accounts and limits."),
    ("~/.config/muster/roster.yaml", "The agents."),
    ("~/.local/state/muster", "The register, journals, workspaces and logs."),
)
_VARIABLES = (
    ("MUSTER_HOME", "One folder for configuration and state, in place of those above."),
    ("NO_COLOR", "If it is set, nothing is printed in color."),
)


def page(program: GroupedProgram, root: click.Context) -> str:
    """Return the source of the manual page."""
    lines = [
        '.TH MUSTER 1 "" "Muster" "User Commands"',
        ".SH NAME",
        "muster \\- run a fleet of AI coding agents from a chat room",
        ".SH SYNOPSIS",
        ".B muster",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        _text("Each command also works in chat with ! in front, except those under In the shell."),
        ".SS Start with",
        *(line for name, meaning in first_steps() for line in _entry(name, meaning)),
        ".SH OPTIONS",
        *(line for each in program.get_params(root) for line in _record(each.get_help_record(root))),
    ]
    for title, names in program.grouped().items():
        lines.append(f".SH {_text(title.upper())}")
        for name in names:
            lines += _command(program, root, name)
    lines += [".SH EXAMPLES", ".nf", *(_text(SHELL + line) for line in EXAMPLES), ".fi"]
    lines += [".SH EXIT STATUS", *(line for pair in _STATUS for line in _entry(*pair))]
    lines += [".SH FILES", *(line for pair in _FILES for line in _entry(*pair))]
    lines += [".SH ENVIRONMENT", *(line for pair in _VARIABLES for line in _entry(*pair))]
    return "\n".join(lines) + "\n"


def _command(program: click.Group, root: click.Context, name: str) -> list[str]:
    made = program.get_command(root, name)
    assert made is not None
    context = click.Context(made, info_name=name, parent=root)
    usage = " ".join(made.collect_usage_pieces(context))
    lines = [".TP", f"\\fB{_text(SHELL + name)}\\fR {_text(usage)}"]
    for number, paragraph in enumerate(re.split(r"\n\s*\n", (made.help or "").strip())):
        verbatim = paragraph.startswith("\b\n")
        text = paragraph.removeprefix("\b\n")
        lines += [".IP"] if number else []
        lines += [".nf", *map(_text, text.splitlines()), ".fi"] if verbatim else [_text(" ".join(text.split()))]
    records = [each.get_help_record(context) for each in made.params]
    options = [line for record in records for line in _record(record)]
    return [*lines, ".RS", *options, ".RE"] if options else lines


def _record(record: tuple[str, str] | None) -> list[str]:
    return [] if record is None else _entry(*record)


def _entry(name: str, meaning: str) -> list[str]:
    return [".TP", f"\\fB{_text(name)}\\fR", _text(" ".join(meaning.split()))]


def _text(text: str) -> str:
    """Return text that troff prints as it is (groff(7), "Escapes"): no line of it begins a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga").replace("~", "\\(ti")
    escaped = escaped.replace("^", "\\(ha")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped
