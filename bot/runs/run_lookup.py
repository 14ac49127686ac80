"""Find the run that a person names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UserError
from core.validation_errors import suggestion
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun

#: Maximum number of ids that are listed if several match.
LISTED: Final = 5
#: Number of runs among which a similar id is looked for.
_KNOWN: Final = 100


async def find(tx: AsyncConnection, wanted: str) -> AgentRun | IssueRun:
    """Return the run whose id begins with `wanted`: of an issue, of an agent, or one round (``ID-2``).

    Raises:
        UserError: none does, or several do.
    """
    begins = wanted.strip().strip("`").casefold()
    found: list[AgentRun | IssueRun] = []
    if begins:
        found += await issue_runs.begins_with(tx, begins, limit=LISTED)
        found += await runs.begins_with(tx, begins, limit=LISTED, rounds="-" in begins)
    found = [each for each in found if each.id == begins] or found
    if len(found) == 1:
        return found[0]
    if found:
        raise ambiguous(wanted, found)
    raise UserError(
        f"No run is called {markdown.one_line(wanted, 20)!r}.{await similar(tx, begins)} {command_line('runs')} lists "
        "the runs.",
        code="run.unknown",
    )


def ambiguous(wanted: str, found: Sequence[AgentRun | IssueRun]) -> UserError:
    """Return the refusal of an id with which several runs begin."""
    listed = ", ".join(markdown.code(each.id) for each in found[:LISTED])
    return UserError(
        f"Several runs begin with {markdown.one_line(wanted, 20)!r}: {listed}. Write more characters of the ID.",
        code="run.ambiguous",
    )


async def find_work(tx: AsyncConnection, wanted: str) -> AgentRun:
    """Return the agent's run whose id begins with `wanted`; of an issue's run that of its current round.

    Raises:
        UserError: there is none, or several match.
    """
    found = await find(tx, wanted)
    if isinstance(found, AgentRun):
        return found
    work = await runs.get(tx, f"{found.id}-{found.round}")
    if work is None:
        raise UserError(
            f"The agent of run {markdown.code(found.id)} is not at work ({found.state}); nothing was changed.",
            code="run.over",
        )
    return work


async def similar(tx: AsyncConnection, wanted: str) -> str:
    """Return the question whether a similar id is meant, with a space before it, or an empty text."""
    known = [each.id for each in await issue_runs.newest(tx, limit=_KNOWN)]
    known += [each.id for each in await runs.open_ones(tx)]
    known += [each.id for each in await runs.last_ended(tx, limit=_KNOWN, rounds=False)]
    return suggestion(wanted, known)
