"""Command lines inside what Muster says.

A command is written otherwise at each door: ``!ps`` in chat, with whatever prefix is configured, ``muster ps`` in a
shell, ``ps`` on the gateway. Whoever makes a sentence that names a command does not know where it will be read. So the
sentence holds `command_line("ps")`, a mark, and the door that shows it has it `written`. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.commands.registry import CommandTable

#: What a command begins with in a shell.
SHELL = "muster "
#: What it begins with in chat when nothing else is configured.
CHAT = "!"

# Noncharacters, which are for use inside a program (The Unicode Standard, section 23.7). No one's quoted words pass for
# a mark: `bot.text.markdown.shown` lets none through.
_BEGIN, _END = "\ufdd0", "\ufdd1"
_MARKED = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}]*){_END}")
#: Also within a longer span, which begins and ends with more of them, as errors of runtimes are quoted.
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def command_line(line: str) -> str:
    """`line`, such as ``launch NAME``, as a command line in a sentence."""
    return f"{_BEGIN}{line}{_END}"


def written(text: str, prefix: str) -> str:
    """`text` with its command lines as inline code, as they are typed where commands begin with `prefix`."""
    from bot.text.markdown import code

    return _MARKED.sub(lambda mark: code(prefix + mark[1]), text)


def in_docstring(text: str, table: CommandTable) -> str:
    """`text` from the docstring of a command, where inline code that begins with a command's name is a command line."""
    return _CODE.sub(lambda span: span[0] if table.match(span[1]) is None else command_line(span[1]), text)


def from_shell(text: str, table: CommandTable) -> str:
    """`text` of a module that knows no doors and names commands as a shell has them: those that `table` has, and so
    every door, are command lines."""

    def mark(span: re.Match[str]) -> str:
        line = span[1].removeprefix(SHELL)
        return span[0] if line == span[1] or table.match(line) is None else command_line(line)

    return _CODE.sub(mark, text)


def named_in(text: str, table: CommandTable) -> list[str]:
    """Return the command lines that `text`, of a module that knows no doors, names; each once."""
    lines = [found.removeprefix(SHELL) for found in _CODE.findall(text) if found.startswith(SHELL)]
    return [command_line(line) for line in dict.fromkeys(lines) if table.match(line) is not None]


def prefix_of(door: str, chat: str) -> str:
    """Return what commands begin with at `door`; in chat with `chat`."""
    return {"chat": chat, "cli": SHELL}.get(door, "")
