"""Projects of muster.yaml, and where plain words go in each chat room.

A project is a sandbox profile, too (`profile_of`): its pool bounds all topics of the project, and its usage is counted
by the egress, which knows nothing of projects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema

from bot.config.approvals import PresetName
from bot.config.limits import LimitBlock, Limits
from bot.config.sandbox_profiles import ProfileBlock
from bot.config.types import Block, Duration
from budget.scope_names import PROJECT_PROFILE
from fleet.name_rules import AGENT_NAME
from fleet.roster import loader
from fleet.sandbox.profiles import DEFAULT
from fleet.sandbox.profiles import NAME as PROFILE_NAME

#: Names become parts of agents' names (``web-3``) and of sandbox profiles (``project-web``).
PROJECT_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,22}[a-z0-9]|[a-z]")
#: The word for rooms in which plain words open a topic, and the one for rooms in which the orchestrator reads them.
TOPIC: Final = "topic"
ORCHESTRATOR: Final = "orchestrator"
_SCHEMES: Final = ("https", "ssh", "git", "http")
_SCP: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:-][^:]*")


def is_url(repo: str) -> bool:
    """Return whether a repository is named by a URL, not by a folder."""
    return "://" in repo or _SCP.fullmatch(repo) is not None


def read_url(value: str) -> str:
    """Check a URL that git can clone from.

    Raises:
        ValueError: it is none, or holds a password.
    """
    if not value.isprintable() or len(value) > 1000:
        raise ValueError(f"found {value[:80]!r}; expected a URL.")
    if _SCP.fullmatch(value):
        return value
    parts = urlsplit(value)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.hostname.startswith("-"):
        raise ValueError(f"found {value[:80]!r}; expected a URL that begins with {'://, '.join(_SCHEMES)}://.")
    if parts.password is not None:
        raise ValueError("the URL has a password in it. Leave it out, and let git's credential helper keep it.")
    return value


def _repository(value: str) -> str:
    if is_url(value):
        raise ValueError("found a URL; expected a folder. `muster project add NAME --repo URL` clones it into one.")
    if not value.startswith(("/", "~/")) or not value.isprintable():
        raise ValueError(f"found {value[:80]!r}; expected an absolute path, or one that begins with ~/.")
    return value


def read_room(value: str) -> str:
    """Check the form of a room: ``CONNECTOR:ROOM``.

    Raises:
        ValueError: it has another form.
    """
    connector, colon, room = value.partition(":")
    if not colon or not connector or not room.strip() or not value.isprintable():
        raise ValueError(f"found {value[:80]!r}; expected CONNECTOR:ROOM, such as matrix:!abc:example.org.")
    return value


def _runtime(value: str) -> str:
    if value not in loader.RUNTIMES or value == "custom":
        known = [name for name in loader.RUNTIMES if name != "custom"]
        raise ValueError(f"found {value[:60]!r}; allowed are {', '.join(known)}.")
    return value


def _words(value: str) -> str:
    if not AGENT_NAME.fullmatch(value):
        raise ValueError(f"found {value[:60]!r}; expected topic, orchestrator, or the name of an agent.")
    return value


class ProjectBlock(Block):
    """A repository that people work on in topics: threads, each with an agent of its own."""

    repo: Annotated[str, AfterValidator(_repository)] = Field(
        description="The folder of the git repository, such as ~/web. Each topic gets a clone of it, and a branch."
    )
    room: Annotated[str, AfterValidator(read_room)] | None = Field(
        default=None,
        description=(
            "The project's own chat room, as CONNECTOR:ROOM. Plain words in it open a topic. Default: none; then "
            "@NAME and words open one in any room of the fleet."
        ),
    )
    role: str | None = Field(default=None, description="The role of its agents. Default: coder.")
    runtime: Annotated[str, AfterValidator(_runtime)] | None = Field(
        default=None, description="The runtime of its agents. Default: that of all agents."
    )
    model: str | None = Field(default=None, description="The model of its agents, by the runtime's name for it.")
    sandbox: Annotated[str, Field(pattern=f"^{PROFILE_NAME.pattern}$")] | None = Field(
        default=None, description="The sandbox profile of its agents. Default: that of all agents."
    )
    approvals: PresetName | None = Field(
        default=None,
        description=(
            "The preset of approval rules for its agents: careful, standard or sandboxed. Default: that of its role, "
            "or of the fleet."
        ),
    )
    budget: Limits = Field(default=(), description="The limit for all its topics together, in one or several windows.")
    topics: int = Field(default=4, ge=1, le=1000, description="How many of its topics may run at a time. Others wait.")
    idle: Duration = Field(
        default=1800.0,
        description="How long a topic may be idle before its agent is frozen. A reply in its thread wakes it.",
    )


class TopicsBlock(Block):
    """Bounds for the topics of all projects together."""

    at_once: int = Field(default=8, ge=1, le=10_000, description="How many topics may run at a time. Others wait.")


class RoomBlock(Block):
    """Where plain words in a chat room go."""

    words: Annotated[
        str, AfterValidator(_words), WithJsonSchema({"type": "string", "pattern": f"^{AGENT_NAME.pattern}$"})
    ] = Field(
        default=ORCHESTRATOR,
        description="topic opens a topic, orchestrator is the orchestrator agent, anything else an agent's name.",
    )
    project: str | None = Field(
        default=None, description="With words: topic, the project. Default: the one whose own room this is."
    )


def profile_of(project: str) -> str:
    """Return the name of a project's sandbox profile."""
    return f"{PROJECT_PROFILE}{project}"


def is_profile(sandbox: str) -> bool:
    """Return whether a sandbox profile of this name would be a project's."""
    return sandbox.startswith(PROJECT_PROFILE)


def profiles(
    projects: Mapping[str, ProjectBlock], default: str | None, written: Mapping[str, ProfileBlock]
) -> dict[str, ProfileBlock]:
    """Return the sandbox profile of each project: its sandbox, with the project's budget as a pool.

    Args:
        projects: the projects by name.
        default: the sandbox of agents that name none; None for the built-in default.
        written: the profiles in muster.yaml, which are kept.
    """
    made = {
        profile_of(name): ProfileBlock(extends=(project.sandbox or default or DEFAULT,), pool=project.budget)
        for name, project in projects.items()
    }
    return {**written, **made}


def presets(projects: Mapping[str, ProjectBlock]) -> dict[str, PresetName]:
    """Return the presets of approval rules, by project, of those that name one."""
    return {name: project.approvals for name, project in projects.items() if project.approvals is not None}


def limits(projects: Mapping[str, ProjectBlock]) -> Iterator[tuple[tuple[str | int, ...], LimitBlock]]:
    """Yield each limit of a project with its place in the file."""
    for name, project in projects.items():
        for at, limit in enumerate(project.budget):
            yield ("projects", name, "budget", at), limit


def read_budget(text: str) -> dict[str, object]:
    """Return the limit that a command names: ``2M`` or ``2M/day`` in tokens, ``20usd`` or ``20usd/month`` in dollars.

    Raises:
        ValueError: it is no limit.
    """
    amount, _, window = text.strip().partition("/")
    usd = re.fullmatch(r"\$?(\d+(?:\.\d+)?)(?:usd)?", amount.casefold())
    money = usd is not None and (amount.startswith("$") or amount.casefold().endswith("usd"))
    written: dict[str, object] = {"usd": float(usd[1])} if money and usd is not None else {"tokens": amount}
    if window:
        written["window"] = window
    LimitBlock.model_validate(written)
    return written
