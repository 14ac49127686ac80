"""Parsing of chat messages: whether a message is a command, and which. Pure.

`bot.interfaces.chat.router` acts on the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from bot.auth.permission import Permission
from bot.commands import help as command_help
from bot.commands import parser
from bot.commands.registry import TABLE, CommandTable
from bot.commands.syntax import command_line
from bot.text.errors import UsageError
from connectors.contract.messages import CommandReading, Text
from core.redaction import begin_of_last_word

#: Characters of an invalid command line that are kept for the audit log.
_KEPT_LINE = 500
_CONFIRMATION = re.compile(r"\s*(confirm|decline)(?:\s+(\S{1,80}))?\s*", re.IGNORECASE)
#: Chat clients put a mention first: one or two words or an address, with or without a colon or comma.
_MENTIONS = [re.compile(name) for name in (r"\S+\s+", r"[^\s:,]+[:,]\s*", r"\S+\s+\S+\s+", r"\S+\s+[^\s:,]+[:,]\s*")]


@dataclass(frozen=True, slots=True)
class Talk:
    """A message for an agent."""

    text: str


@dataclass(frozen=True, slots=True)
class CommandInput:
    """A command line without its prefix or mention."""

    line: str


Said: TypeAlias = "Talk | CommandInput"


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The answer to a confirmation request: ``!confirm`` or ``!decline``, with or without the run's id."""

    run_id: str | None
    yes: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """A parsed line: a command with its arguments, or the refusal of an invalid one."""

    name: str
    arguments: Mapping[str, parser.Json] = field(default_factory=dict)
    refusal: str | None = None
    """The answer to an invalid line."""
    reason: str | None = None
    """usage or unknown, if there is a refusal."""


def said(body: Text, *, prefix: str) -> Said:
    """Classify a message. A choice from a menu already says whether it is a command."""
    match body.reading:
        case CommandReading.COMMAND:
            return CommandInput(body.text)
        case CommandReading.TALK:
            return Talk(body.text)
        case CommandReading.PLAIN:
            return interpret(body.text, prefix=prefix, mentioned=body.mentions_us)


def interpret(text: str, *, prefix: str, mentioned: bool, table: CommandTable = TABLE) -> Said:
    """Return whether a message is a command or talk for an agent.

    A command begins with `prefix` and a letter. A doubled prefix, or a prefix alone, is talk. A message that mentions
    the bot is a command if one follows the mention, and talk otherwise.
    """
    stripped = text.lstrip()
    line = _prefixed(stripped, prefix)
    if line is not None:
        return CommandInput(line)
    if mentioned:
        for rest in (stripped, *_without_mention(stripped)):
            line = _prefixed(rest, prefix)
            if line is not None:
                return CommandInput(line)
            if table.match(rest) is not None or _CONFIRMATION.fullmatch(rest):
                return CommandInput(rest)
    return Talk(text)


def confirmation(line: str) -> Confirmation | None:
    """Return the answer to a confirmation request, or None if `line` is not one."""
    found = _CONFIRMATION.fullmatch(line)
    return None if found is None else Confirmation(found[2], found[1].casefold() == "confirm")


def prepare(table: CommandTable, line: str, permission: Permission) -> Ready:
    """Parse a command line. Never raises: an invalid line becomes a refusal."""
    match = table.match(line)
    if match is None:
        words = line.split(maxsplit=1)
        sentence = command_help.unknown(table, words[0] if words else "", permission)
        close = [word for word in command_help.CHAT_WORDS if words and _near(words[0], word)]
        if close:
            sentence += f" To answer a question of mine, write {command_line(close[0])} and nothing else, or its id."
        return Ready(words[0][:40] if words else "?", {"line": _kept(line)}, sentence, "unknown")
    command = match.command
    try:
        return Ready(command.name, parser.parse(command, match.rest))
    except UsageError as error:
        meant = " or ".join(command_line(name) for name in table.longer(command, match.rest))
        refusal = parser.with_usage(f"{error} Did you mean {meant}?" if meant else error, command)
        return Ready(command.name, {"line": _kept(line)}, refusal, "usage")


def _kept(line: str) -> str:
    """Return the part of a line to keep, without a partial last word: half a secret would not be masked."""
    return line if len(line) <= _KEPT_LINE else line[: begin_of_last_word(line[:_KEPT_LINE])]


def _prefixed(text: str, prefix: str) -> str | None:
    if not text.startswith(prefix):
        return None
    line = text[len(prefix) :].lstrip(" \t")
    return line if line[:1].isalpha() else None


def _without_mention(text: str) -> list[str]:
    matches = (pattern.match(text) for pattern in _MENTIONS)
    return [text[match.end() :] for match in matches if match is not None]


def _near(word: str, known: str) -> bool:
    from difflib import SequenceMatcher

    return SequenceMatcher(None, word.casefold()[:40], known).ratio() >= 0.75
