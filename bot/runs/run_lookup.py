"""Find the run that a person names."""

from __future__ import annotations

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
from forge.model.references import IssueReference

#: Maximum number of ids that are listed if several match.
_LISTED: Final = 5
#: Number of runs among which a similar id is looked for.
_KNOWN: Final = 100


async def find(tx: AsyncConnection, wanted: str) -> AgentRun | IssueRun:
    """Return the run whose id begins with `wanted`: of an issue, of an agent, or one round (``ID-2``).

    A run of an issue is also called by the issue or its pull request, ``owner/repo#17``.

    Raises:
        UserError: none does, or several do.
    """
    begins = wanted.strip().strip("`").casefold()
    found: list[AgentRun | IssueRun] = []
    if (reference := _reference(begins)) is not None:
        found += await issue_runs.about(tx, str(reference.repository), reference.number)
    elif begins:
        found += await issue_runs.begins_with(tx, begins, limit=_LISTED)
        found += await runs.begins_with(tx, begins, limit=_LISTED, rounds="-" in begins)
    found = [each for each in found if each.id == begins] or found
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(markdown.code(each.id) for each in found[:_LISTED])
        raise UserError(
            f"Several runs begin with {markdown.one_line(wanted, 20)!r}: {listed}. Write more characters of the ID.",
            code="run.ambiguous",
        )
    raise UserError(
        f"No run is called {markdown.one_line(wanted, 60)!r}.{await _similar(tx, begins)} {command_line('runs')} lists "
        "the runs.",
        code="run.unknown",
    )


def _reference(text: str) -> IssueReference | None:
    try:
        return IssueReference.parse(text)
    except ValueError:
        return None


async def find_work(tx: AsyncConnection, wanted: str) -> AgentRun:
    """Return the agent's run whose id begins with `wanted`; of an issue's run that of its current round.

    Raises:
        UserError: there is none, or several match.
    """
    found = await find(tx, wanted)
    if isinstance(found, AgentRun):
        return found
    work = await runs.get(tx, f"{found.id}-{found.round}")
    if work is None or work.state not in runs.OPEN:
        number = found.pull_request
        ends = ""
        if number is not None and found.pull_state == "open":
            ends = f" Merge or close #{number} to end the run."
        elif found.state != "destroyed":
            ends = f" {command_line(f'runs end {found.id}')} gives it up."
        raise UserError(
            f"The agent of run {markdown.code(found.id)} is not at work ({found.state}); nothing was changed.{ends}",
            code="run.over",
        )
    return work


async def _similar(tx: AsyncConnection, wanted: str) -> str:
    """Return the question whether a similar id is meant, with a space before it, or an empty text."""
    known = [each.id for each in await issue_runs.newest(tx, limit=_KNOWN)]
    known += [each.id for each in await runs.open_ones(tx)]
    known += [each.id for each in await runs.last_ended(tx, limit=_KNOWN, rounds=False)]
    return suggestion(wanted, known)
