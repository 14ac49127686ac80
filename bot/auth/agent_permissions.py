"""The commands that an agent may run, and the arguments that it may give. Pure.

Both the agent's role (`fleet.roles`) and the list in this module must allow a command; no role can extend this list.
Anything not listed is refused. So an agent never answers a permission request, changes a person's permission, raises a
budget, chooses a sandbox or a folder, or deletes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from budget.dispatch.next_task import URGENCIES
from budget.windows.pace_admission import Urgency
from fleet.roles import Library, Role

#: Commands that agents may run, with the arguments that they may give.
MAY: Final[Mapping[str, frozenset[str]]] = {
    "ps": frozenset({"all"}),
    "tail": frozenset({"name", "entries"}),
    "roster": frozenset(),
    "roles": frozenset({"name"}),
    "launch": frozenset({"name", "role", "runtime", "model", "task"}),
    "stop": frozenset({"name", "now"}),
    "restart": frozenset({"name", "now"}),
    # A roster's rules also bind agents: its only orchestrator and its only enhancer cannot be removed
    # (`fleet.roster.required_roles`).
    "add": frozenset({"name", "role", "runtime", "model", "prompt"}),
    "remove": frozenset({"name", "now"}),
    "send": frozenset({"name", "text"}),
    "steer": frozenset({"name", "text"}),
    "cancel": frozenset({"name"}),
    "budget": frozenset(),
    "spend": frozenset({"by", "since"}),
    "pace": frozenset(),
    "estimate": frozenset({"text", "role", "runtime", "model", "kind"}),
    "dead-letters": frozenset(),
    "task add": frozenset({"text", "role", "urgency", "estimate"}),
    "task cancel": frozenset({"id"}),
    # For tasks of agents that cannot report themselves that a task is done (`bot.tasks.service`).
    "task close": frozenset({"id", "failed"}),
    "tasks": frozenset(),
    "health": frozenset(),
    "help": frozenset({"name"}),
}


def commands_of(role: str, roles: Library) -> frozenset[str]:
    """Return the commands that an agent of this role may run; none for an unknown role."""
    known = roles.get(role)
    return frozenset() if known is None else frozenset(known.commands) & MAY.keys()


def withheld(role: Role) -> tuple[str, ...]:
    """Return the commands that the role's page names but that no agent may run."""
    return tuple(name for name in role.commands if name not in MAY)


def urgency(role: str, wanted: Urgency, roles: Library) -> Urgency:
    """Return the urgency of a task from an agent of this role: `wanted`, capped at what the role allows."""
    known = roles.get(role)
    return min(wanted, "normal" if known is None else known.urgency, key=URGENCIES.index)


def refusal(role: str, command: str, arguments: Mapping[str, Any], roles: Library) -> str | None:
    """Return why an agent of this role may not run this command, as a sentence, or None if it may."""
    own = commands_of(role, roles)
    if command not in own:
        return f"An agent of the role {role} may not use {command}. Ask your operator for it, in words."
    strange = sorted(name for name, given in arguments.items() if given is not None and name not in MAY[command])
    if strange:
        return f"An agent may not give {command} the argument {strange[0]}; that is for people to decide."
    wanted = arguments.get("role")
    if command in {"launch", "add"} and isinstance(wanted, str) and (more := commands_of(wanted, roles) - own):
        return (
            f"An agent of the role {wanted} could do what you may not ({', '.join(sorted(more))}); only people "
            "launch or add it."
        )
    return None
