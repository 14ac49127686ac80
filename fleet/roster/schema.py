"""What may be in ``roster.yaml``, key by key.

A key that is absent keeps its meaning for ever. Keys that this version reads and does nothing with yet are listed in
`NOT_IN_EFFECT`, so that no one takes them for working.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)

from core import durations
from core.secret_references import Reference
from core.validation_errors import suggestion
from fleet import runtimes
from fleet.name_rules import is_agent_name
from fleet.roles import ROLE_NAME
from fleet.sandbox.profiles import BUILT_IN
from fleet.sandbox.profiles import NAME as PROFILE_NAME

#: What an agent's runtime can be.
RUNTIMES = tuple(runtimes.RUNTIMES)

Preset: TypeAlias = Literal["minimal", "general", "coding", "research", "hybrid"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
#: The preset whose rosters need neither an orchestrator nor an enhancer.
MINIMAL: Preset = "minimal"

#: Keys that are read and kept, with what they are going to do.
NOT_IN_EFFECT: Mapping[str, str] = {
    "skills": "the agent is given none",
    "host": "the agent runs on this machine anyway",
    "ssh": "the agent runs on this machine anyway",
}

_TOKENS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)\s*([kM]?)")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SSH = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,63}@)?([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?"
)
_SOCKET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Folders of a skill's name, each a plain one: no ``..``, no hidden one, none that is empty or ends with a dot.
_SKILL_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9_-])?"
_SKILL = re.compile(rf"{_SKILL_PART}(?:/{_SKILL_PART})*")
_LONGEST_SKILL = 100
#: Characters that are no persona's: what would break a line, a table or a mention.
_NOT_IN_ALIAS = re.compile(r"[`*_~|<>\[\]\\@#:\"]")
LONGEST_ALIAS = 40
#: Tokens that a conversation can be bound to.
LEAST_CONTEXT, MOST_CONTEXT = 20_000, 10_000_000


def _name(value: str) -> str:
    if not is_agent_name(value):
        raise ValueError(
            f"not a name for an agent: {value[:60]!r}. It is a lower-case letter, then lower-case letters, digits and "
            "dashes; at most 40."
        )
    return value


def _role(value: str) -> str:
    if not ROLE_NAME.fullmatch(value):
        raise ValueError(f"not a role: {value[:60]!r}. Write it in lower-case letters, digits and dashes, like coder.")
    return value


def _runtime(value: str) -> str:
    if value not in RUNTIMES:
        raise ValueError(f"found {value[:60]!r}; allowed are {', '.join(RUNTIMES)}.{suggestion(value, RUNTIMES)}")
    return value


def _sandbox(value: str) -> str:
    if not PROFILE_NAME.fullmatch(value):
        raise ValueError(
            f"found {value[:60]!r}; wanted is bubblewrap, none, or a profile under `sandboxes` of muster.yaml."
            f"{suggestion(value, tuple(BUILT_IN))}"
        )
    return value


def _folder(value: str) -> str:
    path = Path(value)
    if value.startswith("~/"):
        with contextlib.suppress(RuntimeError):
            path = path.expanduser()
    if not path.is_absolute() or not value.isprintable():
        raise ValueError(f"found {value[:80]!r}; expected an absolute path, or one that begins with ~/.")
    return os.path.normpath(path)


def _word(value: str) -> str:
    if not value.strip() or not value.isprintable() or value.startswith("-"):
        raise ValueError(f"found {value[:60]!r}; expected a name.")
    return value


def _alias(value: str) -> str:
    if not value.strip() or value != value.strip() or not value.isprintable() or _NOT_IN_ALIAS.search(value):
        raise ValueError(f"found {value[:60]!r}; expected a name to show: letters, digits and spaces, like Ada.")
    return value


def _room(value: str) -> str:
    connector, colon, room = value.partition(":")
    if not colon or not connector or not room.strip() or not value.isprintable():
        raise ValueError(
            f"found {value[:80]!r}; expected a connector's name, a colon and the room, like matrix:!abc:example.org."
        )
    return value


def _tokens(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        tokens = float(value)
    else:
        match = _TOKENS.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"found {str(value)[:40]!r}; expected a number of tokens, like 500000, 500k or 2M.")
        tokens = float(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[2]]
    if not 1 <= tokens <= 10**12:
        raise ValueError(f"found {value!r}; from one token to 10^12 are allowed.")
    return round(tokens)


def _context(value: object) -> object:
    tokens = _tokens(value)
    if not isinstance(tokens, int) or not LEAST_CONTEXT <= tokens <= MOST_CONTEXT:
        raise ValueError(f"found {value!r}; from {LEAST_CONTEXT // 1000}k to {MOST_CONTEXT // 10**6}M are allowed.")
    return tokens


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise ValueError(f"found {value[:60]!r}; expected the name of a machine, like build1.example.org.")
    return value


def _ssh(value: str) -> str:
    if not _SSH.fullmatch(value):
        raise ValueError(
            f"found {value[:60]!r}; expected user@host, host or host:port. Options belong in ~/.ssh/config."
        )
    return value


def _socket(value: str) -> str:
    if not _SOCKET.fullmatch(value):
        raise ValueError(f"found {value[:60]!r}; expected the name of a tmux server, as `tmux -L NAME` takes it.")
    return value


def _skill(value: str) -> str:
    if len(value) > _LONGEST_SKILL or not _SKILL.fullmatch(value):
        raise ValueError(
            f"found {value[:60]!r}; expected the name of a skill, like review or python/review: letters, digits, `_`, "
            f"`-`, `.`, `:` and no `..`; at most {_LONGEST_SKILL} characters."
        )
    return value


def _command(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not value[0].strip() or any("\0" in part for part in value):
        raise ValueError("found no program; expected a list of a program and its arguments, like [my-agent, --acp].")
    return value


def _value(value: object, info: ValidationInfo) -> str | Reference:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, Reference):
        return value
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("expected text, or env:NAME, file:PATH, keyring:NAME. Put the value between quotes.")
    if re.match(r"(env|file|keyring):", value):
        return Reference.parse(value, folder=(info.context or {}).get("folder"))
    return value


Value: TypeAlias = Annotated[
    str | Reference,
    PlainValidator(_value, json_schema_input_type=str | int),
    WithJsonSchema({"type": ["string", "integer"]}),
]
"""The value of an environment variable, or where it is."""

Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(durations.of_setting),
    WithJsonSchema({"type": ["string", "number"], "description": "A length of time: 30s, 15m, 2h."}),
]
"""Seconds, written ``30s``."""

Folder: TypeAlias = Annotated[str, AfterValidator(_folder)]
"""An absolute path, written so or from ``~/`` on."""


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Common(_Block):
    role: Annotated[str, AfterValidator(_role)] | None = Field(
        default=None, description="Its role; `muster roles` lists them. Default: coder."
    )
    runtime: Annotated[str, AfterValidator(_runtime), WithJsonSchema({"enum": list(RUNTIMES)})] | None = Field(
        default=None, description="The agent program to run. Default: the one in muster.yaml, or claude."
    )
    model: Annotated[str, Field(max_length=200), AfterValidator(_word)] | None = Field(
        default=None, description="The model, by the runtime's name for it. Default: the runtime's own."
    )
    sandbox: (
        Annotated[
            str,
            AfterValidator(_sandbox),
            WithJsonSchema({"type": "string", "pattern": f"^{PROFILE_NAME.pattern}$", "examples": list(BUILT_IN)}),
        ]
        | None
    ) = Field(
        default=None,
        description=(
            "bubblewrap, none, or a profile from muster.yaml. Default: bubblewrap. With none, the agent"
            " can do all that you can, including commands to Muster."
        ),
    )
    account: Annotated[str, AfterValidator(_word)] | None = Field(
        default=None,
        description=(
            "The account from muster.yaml that it uses. Default: the one with the most left of those that serve it."
        ),
    )
    budget: (
        Annotated[
            int,
            BeforeValidator(_tokens),
            WithJsonSchema({"type": ["integer", "string"], "pattern": f"^{_TOKENS.pattern}$"}),
        ]
        | None
    ) = Field(default=None, description="Tokens that each launch may use, such as 500k or 2M.")
    persistent: bool | None = Field(
        default=None,
        description="true: started by `muster up`. Default: a worker, launched when needed.",
    )
    skills: tuple[Annotated[str, AfterValidator(_skill)], ...] | None = Field(
        default=None, max_length=200, description="Skills for the agent. Has no effect in this version."
    )
    prompt: Annotated[str, Field(max_length=100_000)] | None = Field(
        default=None, description="Instructions before its first message, after its role's page."
    )
    host: Annotated[str, AfterValidator(_host)] | None = Field(
        default=None,
        description="The machine that it runs on. This version refuses any other machine.",
    )
    ssh: Annotated[str, AfterValidator(_ssh)] | None = Field(
        default=None, description="The SSH address of another machine, such as ana@build1. This version refuses it."
    )
    hosting: Literal["process", "tmux", "systemd"] | None = Field(
        default=None,
        description=(
            "Where it runs: as a process, in a tmux session that `muster attach` shows, or as a systemd"
            " user unit that starts at boot. Default: process."
        ),
    )
    tmux_socket: Annotated[str, AfterValidator(_socket)] | None = Field(
        default=None, description="With hosting: tmux, the tmux server. Default: tmux's own default."
    )
    room: Annotated[str, AfterValidator(_room)] | None = Field(
        default=None,
        description=(
            "The room for its thread, unless it is launched from another one: connector, colon, room, "
            "such as matrix:!abc:example.org. Default: the main room."
        ),
    )
    heartbeat: Duration | None = Field(
        default=None, description="How often its runtime is asked for a sign of life. Default: from muster.yaml."
    )
    freshness: Duration | None = Field(
        default=None, description="How long after its last sign of life its state becomes unknown."
    )
    clone: bool | None = Field(
        default=None,
        description=("false: work in the git repository itself. Default: work in a clone of it."),
    )
    context: (
        Annotated[
            int,
            BeforeValidator(_context),
            WithJsonSchema({"type": ["integer", "string"], "pattern": f"^{_TOKENS.pattern}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description=(
            "Size of its conversation, in tokens, at which the runtime compacts it, such as 200k. "
            "Default: 200k with claude, and the runtime's own with others."
        ),
    )
    auto_continue: bool | None = Field(
        default=None,
        description=(
            "Whether it continues by itself when a limit that stopped it resets. Default: `pacing` in "
            "muster.yaml, or true."
        ),
    )
    env: dict[str, Value] = Field(
        default_factory=dict,
        description="Its environment variables; secrets as env:NAME, file:PATH or keyring:NAME.",
    )


class RosterDefaults(Common):
    """What holds for agents whose entry does not say otherwise."""


class AgentEntry(Common):
    """An agent as roster.yaml describes it."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="A lower-case letter, then lower-case letters, digits and dashes; at most 40. Like coder0.",
        json_schema_extra={"pattern": "^[a-z][a-z0-9-]{0,39}$"},
    )
    alias: Annotated[str, Field(max_length=LONGEST_ALIAS), AfterValidator(_alias)] | None = Field(
        default=None, description="A name that chat shows beside its own. Commands take only the name."
    )
    workspace: Folder | None = Field(
        default=None, description="The folder that it works in. Default: one of its own in Muster's state."
    )
    command: Annotated[tuple[str, ...], AfterValidator(_command)] | None = Field(
        default=None, description="The command line of an ACP agent, for the runtime custom only."
    )


class RosterFile(_Block):
    """The fleet (roster.yaml)."""

    version: Literal[1] = Field(default=1, description="The version of this file's format.")
    preset: Preset | None = Field(
        default=None,
        description="The preset that the roster was made from. A minimal one needs no orchestrator and no enhancer.",
    )
    workspace_roots: tuple[Folder, ...] = Field(
        default=(), max_length=100, description="Folders outside your home that may hold agents' workspaces."
    )
    defaults: RosterDefaults = RosterDefaults()
    agents: tuple[AgentEntry, ...] = ()
