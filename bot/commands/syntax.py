"""Command lines inside texts of Muster.

Each interface writes a command differently: ``!ps`` in chat, with the configured prefix, ``muster ps`` in a shell,
``ps`` on the gateway. The author of a text does not know which interface will show it. So the text contains the mark
`command_line("ps")`, and the interface renders it with `written`. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.commands.registry import CommandTable

#: Prefix of commands in a shell.
SHELL = "muster "
#: Default prefix of commands in chat.
CHAT = "!"

# Noncharacters, which are for use inside a program (The Unicode Standard, section 23.7). Quoted text cannot pass for a
# mark, because `bot.text.markdown.shown` removes them.
_BEGIN, _END = "\ufdd0", "\ufdd1"
_MARKED = re.compile(f"{_BEGIN}([^{_BEGIN}{_END}]*){_END}")
#: Single backticks, also inside a longer span with more of them, as quoted errors of runtimes have.
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def command_line(line: str) -> str:
    """Return a mark for the command line `line`, such as ``launch NAME``, for use in a sentence."""
    return f"{_BEGIN}{line}{_END}"


def written(text: str, prefix: str) -> str:
    """Return `text` with its command lines as inline code, with commands prefixed by `prefix`."""
    from bot.text.markdown import code

    return _MARKED.sub(lambda mark: code(prefix + mark[1]), text)


def in_docstring(text: str, table: CommandTable) -> str:
    """Return `text` from a command's docstring; inline code that begins with a command's name is a command line."""
    return _CODE.sub(lambda span: span[0] if table.match(span[1]) is None else command_line(span[1]), text)


def from_shell(text: str, table: CommandTable) -> str:
    """Return `text` with the commands of `table` as command lines, wherever it names them as a shell does.

    Such texts come from modules that know no interfaces.
    """

    def mark(span: re.Match[str]) -> str:
        line = span[1].removeprefix(SHELL)
        return span[0] if line == span[1] or table.match(line) is None else command_line(line)

    return _CODE.sub(mark, text)


def named_in(text: str, table: CommandTable) -> list[str]:
    """Return each command line that `text` names as a shell does, once."""
    lines = [found.removeprefix(SHELL) for found in _CODE.findall(text) if found.startswith(SHELL)]
    return [command_line(line) for line in dict.fromkeys(lines) if table.match(line) is not None]


def prefix_of(door: str, chat: str) -> str:
    """Return the prefix of commands at the interface `door`; `chat` is the prefix in chat."""
    return {"chat": chat, "cli": SHELL}.get(door, "")
