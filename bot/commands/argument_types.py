"""Types of command arguments, and their parsing from typed text.

Commands name these types in their annotations. A `ValueType` describes one to the interfaces: its parser, its label in
a usage line, its completions and its JSON schema.
"""

from __future__ import annotations

import re
import types
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, NewType, Union, get_args, get_origin

from core import durations
from fleet.name_rules import AGENT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The name of an agent of the fleet, completed by `agents`.
AgentName = NewType("AgentName", str)
#: The name of a runtime (``claude``), completed by `runtimes`.
RuntimeName = NewType("RuntimeName", str)
#: The name of a role, completed by `roles`.
RoleName = NewType("RoleName", str)
#: ``bubblewrap`` or ``none``.
SandboxName = NewType("SandboxName", str)
#: The name of an account in muster.yaml, completed by `accounts`.
AccountName = NewType("AccountName", str)
#: The id of a waiting permission request, completed by `approvals`.
ApprovalId = NewType("ApprovalId", str)
#: The id of a waiting question, completed by `questions`.
QuestionId = NewType("QuestionId", str)
#: The id of a permanent grant, completed by `grants`.
GrantId = NewType("GrantId", str)
#: The id of an approval rule that was added by command, completed by `approval-rules`.
RuleId = NewType("RuleId", str)
#: The id of an undeliverable message, completed by `dead-letters`.
LetterId = NewType("LetterId", str)
#: The id of a message that waits for an agent.
MessageId = NewType("MessageId", str)
#: The scope of a budget, completed by `scopes`.
BudgetScope = NewType("BudgetScope", str)
#: The name of a project in muster.yaml, completed by `projects`.
ProjectName = NewType("ProjectName", str)
#: ``base``, or at least four digits of a commit's hash.
DiffBase = NewType("DiffBase", str)
#: At least four digits of a commit's hash.
CommitHash = NewType("CommitHash", str)
#: The id of a task, completed by `tasks`.
TaskId = NewType("TaskId", str)
#: The id of a run, completed by `runs`.
RunId = NewType("RunId", str)
#: One of the 16 colors of terminals (ECMA-48).
ColorName = NewType("ColorName", str)
#: A duration in seconds, written ``90``, ``30s``, ``15m``, ``2h``, ``1h30m`` or ``7d``.
Duration = NewType("Duration", float)
#: The rest of the line verbatim, with its spaces, line breaks and quotes.
Rest = NewType("Rest", str)

#: What a color is called; each also as a bright one.
_COLORS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
COLORS = (*_COLORS, *(f"bright-{color}" for color in _COLORS))

#: The rest of the line as the name of a role or a command.
RoleWords = NewType("RoleWords", Rest)
CommandWords = NewType("CommandWords", Rest)

_DIFF_BASE = re.compile(r"base|[0-9a-f]{4,64}")
_COMMIT_HASH = re.compile(r"[0-9a-f]{4,64}")
_RUNTIME_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueType:
    """The parsing, label and completion of one kind of argument."""

    label: str
    """Its placeholder in a usage line: ``NAME``, ``N``, ``agent|role``."""
    expected: str
    """The allowed values, to follow "expected" in an error."""
    read: Callable[[str], Any]
    """Parser from text to the value. It raises `ValueError` for invalid text."""
    schema: Mapping[str, Any]
    """JSON schema of the value in the gateway."""
    choices: tuple[str, ...] = ()
    source: str | None = None
    """Source of completions at run time: ``agents``, ``runtimes``, ``roles``, ..."""
    flag: bool = False
    rest: bool = False
    number: bool = False
    """Whether its JSON form is a number; otherwise it is text."""


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("empty")
    return text


def _rest(text: str) -> Rest:
    return Rest(_text(text))


def _integer(text: str) -> int:
    digits = text.replace("_", "")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", digits):
        raise ValueError(text)
    return int(digits)


def _number(text: str) -> float:
    if not re.fullmatch(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})", text):
        raise ValueError(text)
    return float(text)


def _agent_name(text: str) -> AgentName:
    name = text.casefold()
    if not AGENT_NAME.fullmatch(name):
        raise ValueError(text)
    return AgentName(name)


def _runtime_name(text: str) -> RuntimeName:
    name = text.casefold()
    if not _RUNTIME_NAME.fullmatch(name):
        raise ValueError(text)
    return RuntimeName(name)


def _diff_base(text: str) -> DiffBase:
    given = text.casefold()
    if not _DIFF_BASE.fullmatch(given):
        raise ValueError(text)
    return DiffBase(given)


def _commit_hash(text: str) -> CommitHash:
    given = text.casefold()
    if not _COMMIT_HASH.fullmatch(given):
        raise ValueError(text)
    return CommitHash(given)


def read_duration(text: str) -> Duration:
    """Return the seconds of ``90``, ``30s``, ``15m``, ``2h``, ``1h30m`` or ``7d``.

    Raises:
        ValueError: the text is none of these.
    """
    return Duration(durations.read(text))


def _never(text: str) -> bool:
    raise ValueError(text)


TEXT = ValueType(label="TEXT", expected="some text", read=_text, schema={"type": "string", "minLength": 1})
# These accept any text, and the command reports errors in it. The types only add completions.
ROLE = replace(TEXT, label="ROLE", source="roles")
SANDBOX = replace(TEXT, label="SANDBOX", source="sandboxes")
ACCOUNT = replace(TEXT, label="ACCOUNT", source="accounts")
APPROVAL = replace(TEXT, label="ID", source="approvals")
QUESTION = replace(TEXT, label="ID", source="questions")
GRANT = replace(TEXT, label="ID", source="grants")
RULE = replace(TEXT, label="ID", source="approval-rules")
LETTER = replace(TEXT, label="ID", source="dead-letters")
SCOPE = replace(TEXT, label="SCOPE", source="scopes")
PROJECT = replace(TEXT, label="PROJECT", source="projects")
TASK = replace(TEXT, label="ID", source="tasks")
RUN = replace(TEXT, label="ID", source="runs")
WORDS = ValueType(label="TEXT", expected="some text", read=_rest, schema={"type": "string", "minLength": 1}, rest=True)
FLAG = ValueType(label="", expected="true or false", read=_never, schema={"type": "boolean"}, flag=True)

_KNOWN: dict[Any, ValueType] = {
    str: TEXT,
    int: ValueType(label="N", expected="a whole number", read=_integer, schema={"type": "integer"}, number=True),
    float: ValueType(label="NUMBER", expected="a number", read=_number, schema={"type": "number"}, number=True),
    bool: FLAG,
    RoleName: ROLE,
    SandboxName: SANDBOX,
    AccountName: ACCOUNT,
    ApprovalId: APPROVAL,
    QuestionId: QUESTION,
    GrantId: GRANT,
    RuleId: RULE,
    LetterId: LETTER,
    MessageId: replace(TEXT, label="ID"),
    TaskId: TASK,
    RunId: RUN,
    ProjectName: PROJECT,
    BudgetScope: SCOPE,
    AgentName: ValueType(
        label="NAME",
        expected="an agent's name (a letter, then a to z, digits and -; at most 40)",
        read=_agent_name,
        schema={"type": "string", "pattern": f"^{AGENT_NAME.pattern}$"},
        source="agents",
    ),
    RuntimeName: ValueType(
        label="RUNTIME",
        expected="a runtime's name, such as claude, codex, opencode, pi or sim",
        read=_runtime_name,
        schema={"type": "string", "pattern": f"^{_RUNTIME_NAME.pattern}$"},
        source="runtimes",
    ),
    DiffBase: ValueType(
        label="base|COMMIT",
        expected="base, or at least 4 digits of a commit's hash",
        read=_diff_base,
        schema={"type": "string", "pattern": f"^({_DIFF_BASE.pattern})$"},
    ),
    CommitHash: ValueType(
        label="COMMIT",
        expected="at least 4 digits of a commit's hash",
        read=_commit_hash,
        schema={"type": "string", "pattern": f"^{_COMMIT_HASH.pattern}$"},
    ),
    Duration: ValueType(
        label="DURATION",
        expected="a length of time such as 30s, 15m, 2h, 1h30m or 7d",
        read=read_duration,
        schema={"type": ["string", "number"], "description": "30s, 15m, 2h, 1h30m, 7d, or seconds"},
    ),
    Rest: WORDS,
    RoleWords: replace(WORDS, source="roles"),
    CommandWords: replace(WORDS, source="commands"),
}


def _one_of(choices: Mapping[str, Any]) -> ValueType:
    folded = {choice.casefold(): value for choice, value in choices.items()}
    if len(folded) != len(choices):
        raise TypeError(f"choices that differ only in case: {', '.join(choices)}")

    def read(text: str) -> Any:
        try:
            return folded[text.casefold()]
        except KeyError:
            raise ValueError(text) from None

    names = tuple(choices)
    schema = {"type": "string", "enum": list(names)}
    return ValueType(label="|".join(names), expected=", ".join(names), read=read, schema=schema, choices=names)


_KNOWN[ColorName] = replace(_one_of({color: color for color in COLORS}), label="COLOR")


def value_type(annotation: Any) -> tuple[ValueType, bool]:
    """Return the type of an annotation, and whether the argument may be None.

    Raises:
        TypeError: commands cannot take such an argument.
    """
    if get_origin(annotation) in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1 and len(get_args(annotation)) == 2:
            return value_type(members[0])[0], True
    elif get_origin(annotation) is Literal:
        values = get_args(annotation)
        if all(isinstance(value, str) for value in values):
            return _one_of({value: value for value in values}), False
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        return _one_of({str(member.value): member for member in annotation}), False
    else:
        known = _KNOWN.get(annotation)
        if known is not None:
            return known, False
    raise TypeError(f"a command cannot take an argument of type {annotation!r}; see bot/commands/argument_types.py")
