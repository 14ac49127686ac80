"""The completions of input, by source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bot.commands.completion import CONFIRMING
from bot.reports.services import ReportServices


def words_of(services: ReportServices) -> Callable[[str], Awaitable[Sequence[str]]]:
    """Return a function that lists the current completions of a source; an unknown source has none."""

    async def words(source: str) -> Sequence[str]:
        match source:
            case "agents":
                launched: Sequence[str] = await services.agents.names()
                return list(
                    dict.fromkeys([*launched, *await asyncio.to_thread(_in_roster, services.paths.roster_yaml)])
                )
            case "runtimes":
                from fleet.runtimes import RUNTIMES

                return sorted(RUNTIMES)
            case "roles":
                from fleet import roles

                return (await asyncio.to_thread(roles.library, services.paths.roles)).names
            case "commands":
                return list(dict.fromkeys(command.name.split()[0] for command in services.table))
            case "sandboxes":
                return sorted(services.planner.profiles)
            case "accounts":
                return sorted(services.settings.accounts)
            case "projects":
                return sorted(services.settings.projects)
            case "approvals" | "questions" | "grants" | "approval-rules" | "dead-letters":
                return await _ids(services, source)
            case "scopes":
                from bot.spending.scopes import offered

                return await offered(services)
            case "tasks":
                return await _open_tasks(services)
            case "runs":
                from database.queries.agents import runs
                from database.queries.forge import issue_runs

                async with services.store.read() as tx:
                    issues = [each.id for each in await issue_runs.newest(tx, limit=20)]
                    ended = await runs.last_ended(tx, limit=20, rounds=False)
                    return [*issues, *(each.id for each in [*await runs.open_ones(tx), *ended])]
            case _ if source.startswith(CONFIRMING):
                return await _confirming(services, source.removeprefix(CONFIRMING))
            case _:
                return ()

    return words


def _in_roster(file: Path) -> list[str]:
    from fleet.errors import RosterError
    from fleet.roster.loader import load

    try:
        return [entry.name for entry in load(file).agents]
    except RosterError:
        return []


async def _ids(services: ReportServices, source: str) -> list[str]:
    from bot.agents.messages.outgoing import SHORT
    from connectors.delivery import outbox
    from database.queries.agents import agent_messages
    from database.queries.chat import approval_rules, approvals, questions

    async with services.store.read() as tx:
        if source == "approvals":
            return [each.id for each in await approvals.in_states(tx, ["pending"])]
        if source == "approval-rules":
            return [each.id for each in await approval_rules.every(tx, services.clock())]
        if source == "questions":
            return [each.id for each in await questions.pending(tx)]
        if source == "grants":
            return [each.id for each in await approvals.list_grants(tx)]
        inward, outward = await agent_messages.stranded(tx), await outbox.dead_letters(tx)
    return [*(each.id[:SHORT] for each in inward), *(each.key for each in outward)]


async def _confirming(services: ReportServices, identity: str) -> list[str]:
    from database.queries.operations import command_runs

    async with services.store.read() as tx:
        runs = await command_runs.in_states(tx, ("confirming",))
    now = services.clock()
    return [run.id for run in reversed(runs) if run.identity == identity and (run.confirm_until or 0) > now]


async def _open_tasks(services: ReportServices) -> list[str]:
    from database.queries import tasks

    async with services.store.read() as tx:
        return [each.id for each in await tasks.listing(tx)]
