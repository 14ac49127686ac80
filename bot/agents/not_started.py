"""Agents of the roster that were never started: why they could not start, for the commands that name them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from bot.commands.syntax import command_line
from bot.read_models.fleet import BlockedAgent
from bot.setup import agent_readiness
from bot.tasks.services import TaskServices
from bot.text.errors import UserError
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow
from fleet.name_rules import is_agent_name
from fleet.roster.schema import AgentEntry


async def blocked(services: TaskServices, registered: Collection[str]) -> list[BlockedAgent]:
    """Return the persistent agents of the roster that never started and cannot start now.

    Args:
        services: the services.
        registered: the names of the agents that were started at some time.
    """
    await services.roster.refresh()
    waiting = [each for each in services.roster.entries if each.persistent and each.name not in registered]
    return await asyncio.to_thread(_blocked, services, waiting) if waiting else []


async def get(services: TaskServices, name: str) -> AgentRow:
    """Return the agent called `name`.

    Raises:
        UserError: there is none; if the roster has it, the message says why it did not start.
    """
    try:
        return await services.agents.get(name)
    except UserError as unknown:
        told = await why(services, name)
        if told is None:
            raise
        raise UserError(told, code="agent.not_launched") from unknown


async def why(services: TaskServices, name: str) -> str | None:
    """Return that an agent of the roster was not started, why, and what to do; None if the roster has no such agent."""
    await services.roster.refresh()
    entry = services.roster.entry(name)
    if entry is None:
        return None
    found = await asyncio.to_thread(_blocked, services, [entry])
    if found:
        return f"{name} is in the roster, but could not start. {found[0].reason}"
    return f"{name} is in the roster, but was not started. {command_line(f'launch {name}')} starts it."


async def orchestrator(services: TaskServices) -> str | None:
    """Return why the roster's orchestrator was not started; None if the roster has none."""
    await services.roster.refresh()
    name = next((each.name for each in services.roster.entries if each.role == "orchestrator"), None)
    return None if name is None else await why(services, name)


async def addressed(services: TaskServices, word: str) -> str | None:
    """Return how to write to an agent whose name was written as a command, or None if `word` is no agent's name."""
    name = word.casefold()
    if not is_agent_name(name):
        return None
    async with services.store.read() as tx:
        row = await agents.get(tx, name)
    if row is not None:
        return f"{name} is an agent, not a command. {command_line(f'send {name} TEXT')} writes to it."
    return await why(services, name)


def _blocked(services: TaskServices, entries: Collection[AgentEntry]) -> list[BlockedAgent]:
    settings = services.settings
    names = [entry.name for entry in entries]
    found = {
        each.name: each
        for each in agent_readiness.blocked(services.planner, names, services.paths, settings, services.environ)
    }
    for entry in entries:
        # A room is needed only by those that nobody launches from one.
        if entry.name not in found and entry.persistent and (reason := agent_readiness.no_room(settings, entry.room)):
            found[entry.name] = BlockedAgent(name=entry.name, reason=reason)
    return [found[name] for name in names if name in found]
