"""Parser of typed lines into command arguments, and the reverse.

Quotes work as in a shell. Single quotes keep everything. In double quotes, a backslash escapes ``"`` and the backslash.
Elsewhere, a backslash keeps the next character. Options are ``--name value`` or ``--name=value``, and flags are
``--now`` and ``--no-now``; ``--`` ends the options. A parameter of type `Rest` takes the rest of the line verbatim, so
options precede it. The parser also accepts what phone keyboards insert: curly quotes, and a dash instead of ``--``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from bot.commands.syntax import command_line
from bot.text.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bot.commands.registry import Command, Parameter

#: An argument in its stored form, which is also the gateway's.
Json: TypeAlias = "str | int | float | bool"

_DASHES = "\u2014\u2013\u2015\u2212"
_OPTION = re.compile(rf"(?:--|[{_DASHES}])(?P<name>[A-Za-z][\w-]*)")
_END_OF_OPTIONS = re.compile(rf"(?:--|[{_DASHES}])(?=\s|\Z)")
_SHORT_OPTION = re.compile(r"-[A-Za-z]")
#: Closing quotes by opening quote. A straight quote may close a curly one, as some keyboards insert it.
_DOUBLE = {'"': '"', "\u201c": '\u201d\u201c"', "\u201d": '\u201d\u201c"', "\u201e": '\u201c\u201d"'}
_SINGLE = {"'": "'"}
#: Curly single quotes are also apostrophes: they open only at the beginning of a word and close only at its end.
_CURLY_SINGLE = {"\u2018": "\u2019\u2018'", "\u2019": "\u2019'", "\u201a": "\u2018\u2019'"}
_UNQUOTED = re.compile(r"[A-Za-z0-9_./:@%+,][A-Za-z0-9_./:@%+,-]*")
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}


def parse(command: Command, text: str) -> dict[str, Json]:
    """Return the arguments of `command` by name, from the line after the command's name.

    Raises:
        UsageError: the line is wrong; the message is a sentence about the error.
    """
    line = _Line(text)
    arguments: dict[str, Json] = {}
    waiting = list(command.positional)
    options_over = False
    while not line.at_end():
        if not options_over and line.take(_END_OF_OPTIONS):
            options_over = True
            continue
        option = None if options_over else line.peek(_OPTION)
        if option is not None and not _is_text(command, option, waiting):
            _take_option(command, line, option["name"], arguments)
        elif not waiting:
            raise UsageError(left_over(command, line.rest()))
        elif waiting[0].type.rest:
            arguments[waiting.pop(0).name] = line.rest()
            break
        else:
            word = line.word()
            if word.bare and not options_over and _SHORT_OPTION.match(word.text):
                raise UsageError(f'"{_clipped(word.text)}" is no option: options have two dashes and a whole word.')
            parameter = waiting.pop(0)
            arguments[parameter.name] = parameter.to_json(word.text)
    for parameter in (*waiting, *command.options):
        if parameter.required and parameter.name not in arguments:
            raise UsageError(f"{parameter.title} is missing.")
    return arguments


def line_of(command: Command, arguments: Mapping[str, Json]) -> str:
    """Return the line that `parse` reads as `arguments`, after the command's name."""
    words = [command.name]
    rest = ""
    for parameter in (*(p for p in command.positional if not p.type.rest), *command.options):
        given = arguments.get(parameter.name)
        if given is None:
            continue
        if parameter.type.flag:
            words.append(parameter.flag_name if given else f"--no-{parameter.flag_name[2:]}")
        elif parameter.option:
            words.append(f"{parameter.flag_name}={quote(str(given))}")
        else:
            words.append(quote(str(given)))
    for parameter in command.positional:
        if parameter.type.rest and parameter.name in arguments:
            rest = str(arguments[parameter.name])
    if rest:
        if rest.lstrip().startswith(("-", *_DASHES)):
            words.append("--")
        words.append(rest)
    return " ".join(words)


def quote(text: str) -> str:
    """Return `text` as one word of a line."""
    if _UNQUOTED.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def with_usage(error: Exception | str, command: Command) -> str:
    """Return the text of `error` and the command's usage."""
    return f"{error}\n\nUsage: {command_line(command.usage)}"


def _take_option(command: Command, line: _Line, name: str, arguments: dict[str, Json]) -> None:
    parameter, value = _option_named(command, name)
    start = line.at
    line.take(_OPTION)
    if parameter.name in arguments:
        raise UsageError(f"{parameter.flag_name} is given twice.")
    if line.take(_EQUALS):
        given = line.word(attached=True).text
        arguments[parameter.name] = _flag_value(parameter, given) if parameter.type.flag else parameter.to_json(given)
        return
    if not line.at_space():
        raise UsageError(f'"{_clipped(line.text[start:].split()[0])}" is no option; {_options_of(command)}')
    if parameter.type.flag:
        arguments[parameter.name] = value
        return
    if line.at_end() or line.peek(_OPTION) is not None or line.peek(_END_OF_OPTIONS) is not None:
        raise UsageError(
            f"{parameter.flag_name} needs a value: {parameter.type.expected}."
            + ("" if line.at_end() else f' If the value begins with dashes, write {parameter.flag_name}="--...".')
        )
    arguments[parameter.name] = parameter.to_json(line.word().text)


_EQUALS = re.compile("=")


def _flag_value(parameter: Parameter, given: str) -> bool:
    word = given.casefold()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UsageError(f'{parameter.flag_name} is on or off; it takes no value such as "{_clipped(given)}".')


def _find(command: Command, name: str) -> tuple[Parameter, bool] | None:
    written = "--" + name.casefold().replace("_", "-")
    for parameter in command.options:
        if written == parameter.flag_name:
            return parameter, True
        if parameter.type.flag and written == f"--no-{parameter.flag_name[2:]}":
            return parameter, False
    return None


def _option_named(command: Command, name: str) -> tuple[Parameter, bool]:
    found = _find(command, name)
    if found is None:
        from difflib import get_close_matches

        names = [parameter.flag_name for parameter in command.options]
        close = get_close_matches("--" + name.casefold()[:64], names, n=1)
        hint = f"did you mean {close[0]}?" if close else _options_of(command)
        if any(parameter.type.rest for parameter in command.positional):
            hint += " Write -- before a text that begins with dashes."
        raise UsageError(f'"--{_clipped(name)}" is no option of {command.name}; {hint}')
    return found


def _is_text(command: Command, option: re.Match[str], waiting: list[Parameter]) -> bool:
    """Return whether a seeming option begins free text: a typographic dash without a known option."""
    free = bool(waiting) and waiting[0].type.rest
    return free and option.group()[0] in _DASHES and _find(command, option["name"]) is None


def _options_of(command: Command) -> str:
    names = ", ".join(parameter.flag_name for parameter in command.options)
    return f"it takes {names}." if names else "it takes no options."


def left_over(command: Command, rest: str) -> str:
    """Return the text about words that no argument takes."""
    texts = any(not parameter.type.flag and parameter.type.label == "TEXT" for parameter in command.parameters)
    hint = " Put quotes around a text of several words." if texts else ""
    return f'Unexpected argument: "{_clipped(rest)}".{hint}'


def _clipped(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


@dataclass(slots=True)
class _Word:
    text: str
    bare: bool
    """Whether it begins without a quote."""


class _Line:
    """A line that is read from left to right."""

    def __init__(self, text: str) -> None:
        self.text = text.rstrip()
        self.at = 0

    def _skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def at_end(self) -> bool:
        self._skip_space()
        return self.at == len(self.text)

    def at_space(self) -> bool:
        return self.at == len(self.text) or self.text[self.at].isspace()

    def peek(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        self._skip_space()
        return pattern.match(self.text, self.at)

    def take(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match is not None

    def rest(self) -> str:
        """Return the rest of the line, as it was typed."""
        self._skip_space()
        rest, self.at = self.text[self.at :], len(self.text)
        return rest

    def word(self, *, attached: bool = False) -> _Word:
        """Return the next word without its quotes. With `attached`, it begins right here and may be empty."""
        if not attached:
            self._skip_space()
        start = self.at
        parts: list[str] = []
        bare = self.at < len(self.text) and self.text[self.at] not in {*_DOUBLE, *_SINGLE, *_CURLY_SINGLE}
        while not self.at_space():
            character = self.text[self.at]
            if character in _DOUBLE:
                parts.append(self._quoted(_DOUBLE[character], escapes=character == '"'))
            elif character in _SINGLE:
                parts.append(self._quoted(_SINGLE[character], escapes=False))
            elif character in _CURLY_SINGLE and self.at == start:
                parts.append(self._quoted(_CURLY_SINGLE[character], escapes=False, at_word_end=True))
            elif character == "\\" and self.at + 1 < len(self.text):
                parts.append(self.text[self.at + 1])
                self.at += 2
            else:
                parts.append(character)
                self.at += 1
        return _Word("".join(parts), bare)

    def _quoted(self, closing: str, *, escapes: bool, at_word_end: bool = False) -> str:
        opened = self.at
        self.at += 1
        parts: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character in closing and (not at_word_end or self.at_space()):
                return "".join(parts)
            if escapes and character == "\\" and self.text[self.at : self.at + 1] in {'"', "\\"}:
                character = self.text[self.at]
                self.at += 1
            parts.append(character)
        mark, begun = self.text[opened], _clipped(self.text[opened + 1 : opened + 40])
        raise UsageError(f'The quote {mark} before "{begun}" is never closed. Close it, or put a \\ before it.')
