"""Words that can replace the last one of a command line: names of commands, options and values of arguments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from bot.commands.help import CHAT_WORDS
from bot.commands.registry import Command, CommandTable, Parameter
from bot.commands.syntax import CHAT


async def candidates(
    table: CommandTable, text: str, words_of: Callable[[str], Awaitable[Sequence[str]]], prefix: str = CHAT
) -> list[str]:
    """Return the words that can replace the last one.

    Args:
        table: the commands.
        text: the line up to the cursor. Its last word follows its last space, and may be empty.
        words_of: returns the words of a source: ``agents``, ``runtimes``, ``roles``, ...
        prefix: the prefix of commands.
    """
    if not text.startswith(prefix):
        return []
    before, _, last = text[len(prefix) :].rpartition(" ")
    words = before.split()
    if not words:
        names = dict.fromkeys([*(command.name.split()[0] for command in table), *CHAT_WORDS])
        return [prefix + name for name in names if name.startswith(last.casefold())]
    longer = [name for name in (command.name.split() for command in table) if name[: len(words)] == words]
    following = dict.fromkeys(name[len(words)] for name in longer if len(name) > len(words))
    found = [word for word in following if word.startswith(last)]
    match = table.match(before)
    if match is not None:
        found += await _arguments(match.command, match.rest.split(), last, words_of)
    return found


async def _arguments(
    command: Command, given: list[str], last: str, words_of: Callable[[str], Awaitable[Sequence[str]]]
) -> list[str]:
    options = {parameter.flag_name: parameter for parameter in command.options}
    if given and (option := options.get(given[-1])) is not None and not option.type.flag:
        return await _values(option, last, words_of)
    if last.startswith("-"):
        return [name for name in options if name.startswith(last) and name not in given]
    place = 0
    values = iter(given)
    for word in values:
        if not word.startswith("--"):
            place += 1
        elif (taken := options.get(word)) is not None and not taken.type.flag:
            next(values, None)
    positional = command.positional
    return await _values(positional[place], last, words_of) if place < len(positional) else []


async def _values(parameter: Parameter, last: str, words_of: Callable[[str], Awaitable[Sequence[str]]]) -> list[str]:
    words = parameter.type.choices
    if parameter.type.source is not None:
        words = tuple(await words_of(parameter.type.source))
    return [word for word in words if word.startswith(last)]
