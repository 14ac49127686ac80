"""Scopes of approval rules: the whole fleet, a role, a project, an agent, or a workspace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.config.projects import profile_of
from fleet.approval_rules.rules import ApprovalRule
from fleet.name_rules import is_agent_name

FLEET: Final = "fleet"
#: The forms of a scope, for people.
FORMS: Final = "fleet, role:NAME, agent:NAME or workspace:PATH"

_ROLE = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RuledAgent:
    """What decides which rules hold for an agent."""

    name: str
    role: str
    workspace: Path
    """The folder that was named for it, or its own; not its clone of that folder."""
    sandbox: str = ""
    """Its sandbox profile, which tells its project."""


def read(text: str) -> str:
    """Return a scope in its stored form.

    Raises:
        ValueError: it is no scope; the message says what is one.
    """
    sort, colon, name = text.strip().partition(":")
    if sort == FLEET and not colon:
        return FLEET
    if sort == "role" and _ROLE.fullmatch(name):
        return f"role:{name}"
    if sort == "agent" and is_agent_name(name):
        return f"agent:{name}"
    if sort == "workspace" and name.isprintable() and Path(name).expanduser().is_absolute():
        return f"workspace:{Path(name).expanduser()}"
    raise ValueError(f"{text[:80]!r} is no scope of an approval rule; there are {FORMS}")


def holds(scope: str, agent: RuledAgent) -> bool:
    """Return whether a scope includes an agent. A workspace includes the folders in it."""
    sort, _, name = scope.partition(":")
    match sort:
        case "fleet":
            return True
        case "role":
            return name == agent.role
        case "agent":
            return name == agent.name
        case "workspace":
            return agent.workspace.resolve().is_relative_to(Path(name).resolve())
        case "project":
            return agent.sandbox == profile_of(name)
        case _:
            return False


def of_agent(rules: Iterable[ApprovalRule], agent: RuledAgent) -> tuple[ApprovalRule, ...]:
    """Return the rules whose scopes include an agent."""
    return tuple(rule for rule in rules if holds(rule.scope, agent))
