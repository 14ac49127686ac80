"""Commands in the menus of chat systems, such as Discord's slash commands.

The menus are generated from the command table, so they are complete. A choice becomes a line as if it were typed, with
each value quoted. So no value can pass for another argument or command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bot.auth.permission import ADMIN, NONE, Permission
from bot.auth.permissions import Operators
from bot.commands.completion import CONFIRMING
from bot.commands.help import CHAT_WORDS
from bot.commands.parser import line_of
from bot.commands.registry import Command, CommandTable, Parameter
from connectors.contract.messages import CommandReading, Text
from connectors.contract.slash_command_forms import Asker, Form, Option, OptionKind, Value

#: Command that sends a message to an agent, for chat systems that show us no messages.
SAY = "say"
#: Second word for a command of one word that is also the first word of others, since menus allow no such name.
_ITSELF = "show"

#: Answer to people without permission for any command.
TURNED_AWAY = "Only operators can command this fleet. Ask an admin to add you."


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandMenu:
    """The menu of commands for one connector; a `connectors.contract.slash_command_forms.Commands`."""

    connector: str
    table: CommandTable
    operators: Operators
    words_of: Callable[[str], Awaitable[Sequence[str]]]
    """Source of current completions (bot.commands.completion)."""

    def forms(self) -> Sequence[Form]:
        """Return a form for every command, and for the words that exist only in chat."""
        made = [_form(name, command) for name, command in named(self.table).items()]
        made += [
            Form(name=word, description=meaning, options=(Option(name="id", description=_WHICH, completes=True),))
            for word, meaning in CHAT_WORDS.items()
        ]
        text = Option(name="text", description="what to say.", required=True)
        return [
            Form(name=SAY, description="Say something to the agent whose thread this is.", options=(text,)),
            *made,
        ]

    def words(self, name: str, values: Mapping[str, Value]) -> Text:
        """Return the line that a person chose, or the message that they wrote."""
        if name == SAY:
            return Text(text=str(values.get("text", "")), reading=CommandReading.TALK)
        command = named(self.table).get(name)
        if command is None:
            line = " ".join([name, *(_plain(values[key]) for key in ("id",) if key in values)])
        else:
            known = {parameter.name.replace("_", "-"): parameter.name for parameter in command.parameters}
            given = {known[key]: _typed(value) for key, value in values.items() if key in known}
            line = line_of(command, given)
        return Text(text=line, reading=CommandReading.COMMAND)

    async def complete(self, asker: Asker, name: str, option: str, typed: str) -> Sequence[str]:
        """Return the current completions; those that begin with the typed text come first."""
        if name in CHAT_WORDS:
            return _sought(await self.words_of(f"{CONFIRMING}{self.connector}:{asker.sender}"), typed)
        command = named(self.table).get(name)
        if command is None or await self._permission(asker) < command.permission:
            return ()
        parameter = next((each for each in command.parameters if each.name.replace("_", "-") == option), None)
        if parameter is None:
            return ()
        words: Sequence[str] = parameter.type.choices
        if parameter.type.source is not None:
            words = await self.words_of(parameter.type.source)
        return _sought(words, typed)

    async def refusal(self, asker: Asker) -> str | None:
        """Return the answer to people without permission, or None."""
        return TURNED_AWAY if await self._permission(asker) is NONE else None

    async def _permission(self, asker: Asker) -> Permission:
        return await self.operators.permission(f"{self.connector}:{asker.sender}", asker.groups)


_WHICH = "which, when several wait; otherwise the newest."


def _sought(words: Sequence[str], typed: str) -> Sequence[str]:
    sought = typed.casefold().strip()
    found = [word for word in words if sought in word.casefold()]
    return sorted(found, key=lambda word: not word.casefold().startswith(sought))


def named(table: CommandTable) -> dict[str, Command]:
    """Return the commands by their names in menus."""
    commands = [command for command in table if "chat" in command.doors]
    groups = {command.name.split()[0] for command in commands if " " in command.name}
    found = {}
    for command in commands:
        first, *others = command.name.split()
        # Menus have names of at most two words.
        name = " ".join([first, "-".join(others)] if others else [first])
        if command.name in groups:
            name = f"{command.name} {_ITSELF}"
        # If the name exists already, both commands do the same.
        if command.name not in groups or name not in table:
            found[name] = command
    return found


def _form(name: str, command: Command) -> Form:
    return Form(
        name=name,
        description=_spoken(command.summary),
        options=tuple(_option(parameter) for parameter in command.parameters if "chat" in parameter.doors),
        restricted=command.permission >= ADMIN,
    )


def _option(parameter: Parameter) -> Option:
    kind = parameter.type
    number = OptionKind.INTEGER if kind.schema.get("type") == "integer" else OptionKind.NUMBER
    return Option(
        name=parameter.name.replace("_", "-"),
        description=_spoken(parameter.help) or parameter.name.replace("_", " "),
        kind=OptionKind.FLAG if kind.flag else number if kind.number else OptionKind.TEXT,
        required=parameter.required,
        choices=kind.choices,
        completes=kind.source is not None,
    )


def _spoken(text: str) -> str:
    return text.replace("`", "")


def _typed(value: Value) -> Value:
    # The parser accepts no exponents in numbers.
    return f"{value:.15f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _plain(value: Value) -> str:
    """Return a value as a single word; anything else is quoted so that no part of it is a word of its own."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)
