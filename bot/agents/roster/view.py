"""Formatting of the roster, its roles and its unapplied changes, as text and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bot.agents.status_view import named
from bot.auth import agent_permissions
from bot.commands.syntax import command_line
from bot.config.loader import Check
from bot.messaging.fleet_port import AgentView
from bot.text import markdown
from bot.text.markdown import code
from core.validation_errors import Problem
from fleet.roles import ENHANCER, ORCHESTRATOR, Library, Role
from fleet.roster.drift import RosterChange
from fleet.roster.loader import Roster
from fleet.roster.schema import AgentEntry

#: Maximum number of agents in the table; of the others, only the number is given.
_ROWS = 100
#: Maximum number of problems and changes listed one by one.
_LISTED = 20
#: Maximum number of characters of a changed value.
_VALUE = 60


def problems(found: Check) -> list[str]:
    """Return the problems of the roster and the roles, one line each."""
    return [str(problem) for problem in _of_the_roster(found)]


def _of_the_roster(found: Check) -> list[Problem]:
    return [problem for problem in found.problems if not problem.file.startswith("muster.yaml")]


def text(
    fleet: Roster | None, views: Mapping[str, AgentView], changes: Sequence[RosterChange], wrong: Sequence[str]
) -> str:
    """Return the reply of `roster`; `fleet` is None if the file could not be read."""
    if fleet is None:
        head = "**The roster** cannot be read. Running agents continue, and none can start until this is fixed:"
        return f"{head}\n{_listed(wrong)}"
    parts = [_headline(fleet)]
    if fleet.agents:
        rows = [_row(entry, views.get(entry.name)) for entry in fleet.agents[:_ROWS]]
        parts.append(markdown.table(("agent", "role", "runs on", "state"), rows))
        if len(fleet.agents) > _ROWS:
            parts.append(f"... and {len(fleet.agents) - _ROWS:,} more.")
    if wrong:
        parts.append("⚠️ Muster applies none of it until this is fixed:\n" + _listed(wrong))
    if changes:
        lines = [f"{change_line(change_as_json(change))}: {_FOLLOWS[change.kind]}" for change in changes]
        parts.append(f"✏️ Not applied yet; {command_line('roster apply')} applies it:\n" + _listed(lines))
    if fleet.not_in_effect:
        parts.append("Set without effect:\n" + _listed([str(problem) for problem in fleet.not_in_effect]))
    return "\n\n".join(parts)


def _headline(fleet: Roster) -> str:
    if not fleet.agents:
        return (
            f"The roster is empty. {command_line('add NAME')} writes an agent into it, {command_line('launch NAME')} "
            "starts it as well."
        )
    count = len(fleet.agents)
    core = sum(entry.persistent is True for entry in fleet.agents)
    kind = f", preset {fleet.preset}" if fleet.preset else ""
    return f"**The roster**: {count:,} agent{'' if count == 1 else 's'}, {core:,} of them persistent{kind}."


def _row(entry: AgentEntry, view: AgentView | None) -> tuple[str, str, str, str]:
    state = "not launched" if view is None else view.liveness.state
    return (
        named(entry.name, entry.alias),
        entry.role or "coder",
        " ".join(word for word in (entry.runtime, entry.model) if word) or "-",
        f"{state}{', persistent' if entry.persistent else ''}",
    )


def _listed(lines: Sequence[str]) -> str:
    more = f"\n- ... and {len(lines) - _LISTED:,} more" if len(lines) > _LISTED else ""
    return "\n".join(f"- {markdown.one_line(line, 400)}" for line in lines[:_LISTED]) + more


#: The effect of applying a change, by its kind.
_FOLLOWS = {"start": "it starts", "stop": "it stops", "restart": "it restarts"}


def change_line(change: Mapping[str, Any]) -> str:
    """Return a change, as `change_as_json` formats it, in one line."""
    what = {
        "start": "is persistent, and never ran",
        "stop": "is not in the roster",
        "restart": f"has {', '.join(map(_difference, change['differences']))}",
    }
    return f"**{change['agent']}** {what[change['kind']]}"


def _difference(each: Mapping[str, Any]) -> str:
    key, before, after = each["key"], each["before"], each["after"]
    if before is None and after is None:
        return f"another {key}"
    now = f"{key} {code(markdown.one_line(after, _VALUE))}" if after is not None else f"no {key}"
    return f"{now} (it was {code(markdown.one_line(before, _VALUE))})" if before is not None else now


def applied_text(done: Sequence[Mapping[str, Any]]) -> str:
    """Return the reply of `roster apply`: each change, as `change_as_json` formats it, and its result in `said`."""
    return "\n".join(f"- {change_line(each)}. {each['said']}" for each in done)


# --- JSON --------------------------------------------------------------------------------------------------------


def as_json(
    path: Path, fleet: Roster, views: Mapping[str, AgentView], changes: Sequence[RosterChange], found: Check
) -> dict[str, Any]:
    wrong = _of_the_roster(found)
    return {
        "path": str(path),
        "preset": fleet.preset,
        "valid": not wrong,
        "problems": [_problem(problem) for problem in wrong],
        "not_in_effect": [_problem(problem) for problem in fleet.not_in_effect],
        "agents": [{**entry_as_json(entry), "state": _state(views.get(entry.name))} for entry in fleet.agents],
        "drift": [change_as_json(change) for change in changes],
    }


def _state(view: AgentView | None) -> str | None:
    return None if view is None else view.liveness.state


def _problem(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key or None,
        "message": problem.message,
    }


def entry_as_json(entry: AgentEntry) -> dict[str, Any]:
    """Return an agent's entry with every key, null if unset. Its environment is reduced to the names."""
    keys = [name for name in type(entry).model_fields if name not in {"name", "env"}]
    said = {key: getattr(entry, key) for key in keys}
    return {
        "name": entry.name,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in said.items()},
        "persistent": bool(entry.persistent),
        "env": sorted(entry.env),
    }


def change_as_json(change: RosterChange) -> dict[str, Any]:
    return {
        "agent": change.agent,
        "kind": change.kind,
        "differences": [{"key": each.key, "before": each.before, "after": each.after} for each in change.differences],
    }


# --- roles -------------------------------------------------------------------------------------------------------


def roles_text(library: Library) -> str:
    """Return the reply of `roles`: a line per role, with its lenses."""
    lines = []
    for role in library:
        if role.lens is not None:
            continue
        own = "" if role.shipped else " *(your own page)*"
        lenses = f" Lenses: {', '.join(code(f'{role.name}-{lens}') for lens in role.lenses)}." if role.lenses else ""
        lines.append(f"- **{role.name}**{own}: {role.mandate}{lenses}")
    problems = [f"⚠️ {problem}" for problem in library.problems]
    floor = (
        f"A fleet has exactly one agent of the role {ORCHESTRATOR} and at least one of the role {ENHANCER}, unless its "
        f"roster is a minimal one. {command_line('roles NAME')} shows one in full."
    )
    return "\n\n".join(["\n".join(lines), floor, *problems])


def role_text(role: Role) -> str:
    """Return the reply of `roles NAME`."""
    source = "comes with Muster" if role.shipped else str(role.path)
    withheld = agent_permissions.withheld(role)
    return "\n\n".join(
        [
            f"**{role.title}** ({code(role.name)}, {source})",
            role.mandate,
            "**Limits**\n" + "\n".join(f"- {limit}" for limit in role.limits) if role.limits else "No limits are said.",
            f"**Commands**: {', '.join(code(name) for name in _commands(role)) or 'none'}",
            *(
                [f"**No agent may have** {', '.join(code(name) for name in withheld)}, which the page names."]
                if withheld
                else []
            ),
            "**Instructions**\n\n" + markdown.code_block(role.page, "markdown"),
        ]
    )


def _commands(role: Role) -> list[str]:
    """Return the commands that agents of this role may run, in the order of its page."""
    return [name for name in role.commands if name in agent_permissions.MAY]


def role_as_json(role: Role) -> dict[str, Any]:
    return {
        "name": role.name,
        "title": role.title,
        "mandate": role.mandate,
        "limits": list(role.limits),
        "commands": _commands(role),
        "lens": role.lens,
        "lenses": list(role.lenses),
        "shipped": role.shipped,
    }
