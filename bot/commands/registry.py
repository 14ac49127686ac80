"""The command table: each command is declared once, and every interface is derived from its declaration.

    @command("launch", permission=OPERATOR, help_section="fleet")
    async def launch(ctx: Context[CommandServices], name: AgentName, *, task: str | None = None) -> Reply:
        \"\"\"Start an agent.

        Args:
            name: the agent's name.
            task: its first task.
        \"\"\"

Parameters before ``*`` are positional, and those after it are options. Names, types, defaults and help come from the
annotations and the docstring. Modules that declare commands import a command's dependencies inside its body, so that
listing the commands stays cheap.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, get_type_hints

from bot.auth.permission import ADMIN, Permission
from bot.commands.argument_types import value_type
from bot.commands.doors import EVERYWHERE, Door, checked
from bot.text.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from bot.commands.argument_types import ValueType
    from connectors.contract.messages import File

_NONE: Mapping[str, Collection[Door]] = MappingProxyType({})
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer of a command."""

    text: str
    """Markdown for people; it names commands by `bot.commands.syntax.command_line`. Empty if the command has already
    answered in the conversation of the command; then nothing more is said there."""
    data: Any = None
    """The same as JSON data for programs, printed by ``--json``."""
    ok: bool = True
    """Whether the command succeeded; False makes its state `failed`."""
    file: File | None = None
    """A file that follows the text in a chat room; the text is complete without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a person should know before they confirm a command."""

    note: str
    """Markdown; it follows the question."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Arguments that hold from now on, so that only what the person was told is done."""


#: A function that gets the services and the bound arguments; one that informs also gets what shows its progress.
Check: TypeAlias = "Callable[..., Awaitable[Checked | None]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a command."""

    name: str
    """Its name in JSON and in Python (``reset_at``)."""
    keyword: str
    """The name of the function's parameter; it differs from `name` if that is a Python keyword (``for_``)."""
    type: ValueType
    option: bool
    required: bool
    default: Any
    help: str = ""
    doors: frozenset[Door] = EVERYWHERE
    """Where it can be given."""

    @property
    def flag_name(self) -> str:
        """The written form of the option: ``--reset-at``."""
        return "--" + self.name.replace("_", "-")

    @property
    def usage(self) -> str:
        """The parameter in a usage line."""
        if not self.option:
            shown = self.type.label if self.type.choices else self.name.upper().replace("_", "-")
            return shown if self.required else f"[{shown}]"
        shown = self.flag_name if self.type.flag else f"{self.flag_name} {self.type.label}"
        return shown if self.required else f"[{shown}]"

    def read(self, given: object) -> Any:
        """Return the value for the function, from JSON: a boolean for a flag, else a text or a number.

        Raises:
            UsageError: the parameter does not take this value.
        """
        if given is None and not self.required:
            return self.default
        if self.type.flag:
            if isinstance(given, bool):
                return given
        elif isinstance(given, str | int | float) and not isinstance(given, bool):
            try:
                return self.type.read(given if isinstance(given, str) else str(given))
            except ValueError:
                pass
        raise UsageError(f"{self.title}: expected {self.type.expected}, not {_quoted(given)}.")

    def to_json(self, text: str) -> str | int | float:
        """Check typed text and return its stored form: numbers as numbers, everything else as text.

        Raises:
            UsageError: the parameter does not take this value.
        """
        value = self.read(text)
        if self.type.number:
            number: int | float = value
            return number
        return text

    @property
    def title(self) -> str:
        """The parameter as people write it: ``--role`` or ``NAME``."""
        return self.flag_name if self.option else self.name.upper().replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command, as all interfaces know it."""

    name: str
    """One word (``launch``), two (``grant revoke``) or three (``approvals rule add``)."""
    function: Callable[..., Awaitable[Reply]]
    permission: Permission
    help_section: str
    summary: str
    """The first paragraph of the docstring."""
    description: str
    """The rest of the docstring, up to ``Args:``."""
    parameters: tuple[Parameter, ...]
    confirm: bool | str = False
    """Whether a person must confirm it; the name of a flag: only with this flag."""
    undo: str | None = None
    """Of a command that is confirmed: how to undo it, as a sentence. None: it cannot be undone, or its check says
    it."""
    check: Check | None = None
    """A function that raises `UserError` for what would fail anyway, before a person is asked to confirm it."""
    informs: bool = False
    """Whether the check also tells the person what they confirm (`Checked`)."""
    effects: bool = True
    """Whether the command changes anything. A command that only reads is not recorded before it runs."""
    audited: bool = True
    doors: frozenset[Door] = EVERYWHERE
    """Where it can be given. Agents also need a permission for it (`bot.auth.agent_permissions`)."""

    @property
    def usage(self) -> str:
        """``launch NAME [RUNTIME] [--task TEXT]``; options precede a text that takes the rest of the line."""
        ordered = sorted(self.parameters, key=lambda parameter: parameter.type.rest)
        return " ".join([self.name, *(parameter.usage for parameter in ordered)])

    @property
    def positional(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if not parameter.option)

    @property
    def options(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if parameter.option)

    def asks(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether a person must confirm the command with these arguments."""
        return bool(arguments.get(self.confirm)) if isinstance(self.confirm, str) else self.confirm

    @property
    def undo_words(self) -> str:
        """Whether a command that is confirmed can be undone, and how; empty if its check says it."""
        return self.undo or ("" if self.informs else "This cannot be undone.")

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments for the function, from JSON by name.

        Raises:
            UsageError: an argument is missing, unknown or of the wrong type.
        """
        known = {parameter.name for parameter in self.parameters}
        unknown = [name for name in arguments if name not in known]
        if unknown:
            allowed = ", ".join(sorted(known)) or "none"
            raise UsageError(f"{self.name} has no argument {_quoted(unknown[0])}; it takes {allowed}.")
        bound = {}
        for parameter in self.parameters:
            given = arguments.get(parameter.name)
            if given is None and parameter.required:
                raise UsageError(f"{parameter.title} is missing.")
            bound[parameter.keyword] = parameter.read(given)
        return bound


@dataclass(frozen=True, slots=True)
class Match:
    """A command found at the beginning of a line."""

    command: Command
    rest: str
    """The text after the command's name, as it was typed."""


@dataclass(eq=False, slots=True)
class CommandTable:
    """Commands by name."""

    _commands: dict[str, Command] = field(default_factory=dict)

    def command(
        self,
        name: str,
        *,
        permission: Permission,
        help_section: str,
        confirm: bool | str = False,
        undo: str | None = None,
        check: Check | None = None,
        informs: bool = False,
        effects: bool = True,
        audited: bool = True,
        doors: Collection[Door] = EVERYWHERE,
        argument_doors: Mapping[str, Collection[Door]] = _NONE,
    ) -> Callable[[Callable[_P, Awaitable[Reply]]], Callable[_P, Awaitable[Reply]]]:
        """Declare an async function as a command. Wrong declarations fail here, at the import of the module.

        `argument_doors` has the doors of optional arguments that not all doors of the command take.
        """

        def declare(function: Callable[_P, Awaitable[Reply]]) -> Callable[_P, Awaitable[Reply]]:
            summary, description, argument_help = _docstring(function)
            self.add(
                Command(
                    name=name,
                    function=function,
                    permission=permission,
                    help_section=help_section,
                    summary=summary,
                    description=description,
                    parameters=_parameters(name, function, argument_help, argument_doors),
                    confirm=confirm,
                    undo=undo,
                    check=check,
                    informs=informs,
                    effects=effects,
                    audited=audited,
                    doors=checked(doors),
                )
            )
            return function

        return declare

    def add(self, command: Command) -> None:
        if not re.fullmatch(r"[a-z][a-z-]*( [a-z][a-z-]*){0,2}", command.name):
            raise ValueError(f"a command's name is one to three words of a to z and -, not {command.name!r}")
        if command.name in self._commands:
            raise ValueError(f"the command {command.name!r} is declared twice")
        self._commands[command.name] = command

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())

    def arrange(self, modules: Sequence[str]) -> None:
        """Put the commands in the order of the modules that declare them; those of other modules come last."""
        places = {module: place for place, module in enumerate(modules)}
        ordered = sorted(self._commands.items(), key=lambda item: places.get(item[1].function.__module__, len(places)))
        self._commands.clear()
        self._commands.update(ordered)

    def __len__(self) -> int:
        return len(self._commands)

    def __contains__(self, name: object) -> bool:
        return name in self._commands

    def get(self, name: str) -> Command | None:
        return self._commands.get(" ".join(name.casefold().split()))

    def visible(self, permission: Permission, door: Door | None = None) -> list[Command]:
        """Return the commands that `permission` may run, in the order of their declaration; those of `door`, or all."""
        return [
            command for command in self if command.permission <= permission and (door is None or door in command.doors)
        ]

    def match(self, line: str) -> Match | None:
        """Return the command with the longest name at the beginning of `line`, regardless of case, or None."""
        for words in (3, 2, 1):
            found = re.match(r"\s*" + r"\s+".join([r"(\S+)"] * words), line)
            if found is None:
                continue
            command = self._commands.get(" ".join(found.groups()).casefold())
            if command is not None:
                return Match(command, line[found.end() :])
        return None

    def longer(self, command: Command, rest: str) -> list[str]:
        """Return names that extend this command's and resemble the next word, the likeliest first."""
        from difflib import get_close_matches

        seconds = {name.split()[1]: name for name in self._commands if name.startswith(f"{command.name} ")}
        word = next(iter(rest.casefold().split()), "")
        return [seconds[close] for close in get_close_matches(word[:64], list(seconds), n=2, cutoff=0.6)]

    def suggestions(self, line: str, permission: Permission = ADMIN) -> list[str]:
        """Return up to three names that `line` may have meant, the likeliest first."""
        from difflib import get_close_matches

        words = line.casefold().split()[:2]
        if not words:
            return []
        names = [command.name for command in self.visible(permission)]
        found = [name for name in names if name.split()[0] == words[0]]
        found += [name for name in names if name.startswith(words[0]) and len(words[0]) >= 2]
        for attempt in (" ".join(words)[:64], words[0][:64]):
            found += get_close_matches(attempt, names, n=3, cutoff=0.6)
        return list(dict.fromkeys(found))[:3]


#: The commands of Muster. `bot.commands.sections.load` fills it.
TABLE = CommandTable()
command = TABLE.command


def _parameters(
    name: str,
    function: Callable[..., Any],
    argument_help: Mapping[str, str],
    argument_doors: Mapping[str, Collection[Door]],
) -> tuple[Parameter, ...]:
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{name}: a command is an async function")
    signature = list(inspect.signature(function).parameters.values())
    if not signature:
        raise TypeError(f"{name}: the first parameter of a command is its context")
    # The context's types are only for the type checker, so declaring a command must not import them.
    given = {key: value for key, value in function.__annotations__.items() if key not in (signature[0].name, "return")}
    hints = get_type_hints(SimpleNamespace(__annotations__=given), function.__globals__)
    parameters: list[Parameter] = []
    for item in signature[1:]:
        if item.kind not in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY):
            raise TypeError(f"{name}: {item.name}: only plain parameters, no * or ** ones")
        kind, optional = value_type(hints[item.name])
        option = item.kind is item.KEYWORD_ONLY
        required = item.default is item.empty
        if kind.flag and (not option or required or optional):
            raise TypeError(f"{name}: {item.name}: a flag is an option with True or False as its default")
        if kind.rest and (option or any(not p.option and p.type.rest for p in parameters)):
            raise TypeError(f"{name}: {item.name}: Rest is for the last parameter before the options")
        if not option and parameters and parameters[-1].type.rest:
            raise TypeError(f"{name}: {item.name}: nothing can follow a parameter that takes the rest of the line")
        parameters.append(
            Parameter(
                name=item.name.rstrip("_"),
                keyword=item.name,
                type=kind,
                option=option,
                required=required,
                default=None if required else item.default,
                help=argument_help.get(item.name, ""),
                doors=checked(argument_doors.get(item.name, EVERYWHERE)),
            )
        )
        if required and parameters[-1].doors != EVERYWHERE:
            raise TypeError(f"{name}: {item.name}: without it the command cannot be given, so it has its doors")
    if unknown := argument_doors.keys() - {parameter.keyword for parameter in parameters}:
        raise TypeError(f"{name}: {sorted(unknown)[0]!r} has doors, and is no parameter")
    strangers = argument_help.keys() - {parameter.keyword for parameter in parameters}
    if strangers:
        raise TypeError(f"{name}: the docstring explains {sorted(strangers)[0]!r}, which is no parameter")
    return tuple(parameters)


def _docstring(function: Callable[..., Any]) -> tuple[str, str, dict[str, str]]:
    """Return the summary, the description and the help of each argument, from a Google style docstring."""
    documentation = inspect.getdoc(function)
    if not documentation:
        raise TypeError(f"{function.__qualname__}: a command has a docstring, from which its help is made")
    text, _, block = documentation.partition("\nArgs:\n")
    summary, _, description = text.partition("\n\n")
    arguments: dict[str, str] = {}
    current = ""
    for line in block.splitlines():
        if line and not line.startswith(" "):
            break
        entry = re.match(r" {4}(\w+):\s*(.*)", line)
        if entry is not None:
            current = entry[1]
            arguments[current] = entry[2].strip()
        elif current and line.strip():
            arguments[current] += " " + line.strip()
    return " ".join(summary.split()), description.strip(), arguments


def _quoted(given: object) -> str:
    shown = given if isinstance(given, str) else repr(given)
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}..."'
