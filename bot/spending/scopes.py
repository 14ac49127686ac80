"""Scopes of budgets: syntax checks, and checks that the named object exists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bot.commands.syntax import command_line
from bot.pacing.services import PacingServices
from bot.text.errors import UsageError
from bot.text.markdown import some
from budget.limits.scopes import Scope
from budget.scope_names import EACH_AGENT, shown_scope, stored_scope
from core.validation_errors import closest, suggestion
from database.queries.agents import agents
from egress.provider_endpoints import PROVIDERS
from fleet.name_rules import is_agent_name
from fleet.sandbox import profiles

#: Scopes without a name.
_NAMELESS = ("host", EACH_AGENT)
_SCOPES = "agent, agent:NAME, role:NAME, project:NAME, host, account:NAME, provider:NAME, profile:NAME"


def read_scope(scope: str) -> str:
    """Return the scope in its stored form.

    Raises:
        UsageError: the scope is invalid.
    """
    if scope == EACH_AGENT:
        return scope
    try:
        found = Scope.parse(stored_scope(scope))
    except ValueError:
        found = None
    if found is None or found.sort == "launch":
        near = closest(scope, [EACH_AGENT, "host"])
        meant = f" Did you mean {near or f'agent:{scope}'}?" if near or is_agent_name(scope) else ""
        raise UsageError(f"{scope[:60]!r} is no scope of a budget; there are {_SCOPES}.{meant}")
    return str(found)


async def known_scope(scope: str, services: PacingServices) -> str:
    """Return the scope in its stored form if the named object exists. A limit on a wrong name would seem effective.

    Raises:
        UsageError: the scope is invalid, or nothing has this name; the message lists the existing names.
    """
    scope = read_scope(scope)
    if scope in _NAMELESS:
        return scope
    found = Scope.parse(scope)
    there = (await _there(services))[found.sort]
    if found.name in there:
        return scope
    shown = shown_scope(scope)
    if shown != scope:
        projects = list(services.settings.projects)
        listed = some(projects) or "none"
        raise UsageError(
            f"There is no project {shown.partition(':')[2][:60]!r}; there {'are' if len(projects) > 1 else 'is'} "
            f"{listed}. Nothing was set."
        )
    listed = some(there) or "none"
    first = ""
    if found.sort == "agent" and is_agent_name(found.name):
        first = f" To set a limit for a new agent, add it to the roster first: {command_line(f'add {found.name}')}."
    raise UsageError(
        f"There is no {found.sort} {found.name[:60]!r}; there {'are' if len(there) > 1 else 'is'} {listed}."
        f"{suggestion(found.name, there)}{first} Nothing was set."
    )


async def offered(services: PacingServices) -> list[str]:
    """Return every scope that is possible now."""
    there = await _there(services)
    return [*_NAMELESS, *(shown_scope(f"{sort}:{name}") for sort, names in there.items() for name in names)]


async def _there(services: PacingServices) -> dict[str, Sequence[str]]:
    """Return the existing names for each sort of scope that has a name."""
    return {
        "account": list(services.settings.accounts),
        "role": sorted((await asyncio.to_thread(services.planner.roles)).names),
        "agent": await _agents(services),
        "provider": list(PROVIDERS),
        "profile": [*profiles.BUILT_IN, *services.settings.sandboxes],
    }


async def _agents(services: PacingServices) -> list[str]:
    """Return the agents of the roster, and those that were launched without it."""
    async with services.store.read() as tx:
        names = {row.name for row in await agents.every(tx)}
    latest = services.roster
    await latest.refresh()
    return sorted(names | (latest.names or frozenset()))
