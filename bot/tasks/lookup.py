"""The task that a person means by the beginning of its id."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.text import markdown
from bot.text.errors import UsageError, UserError
from database.queries import tasks
from database.queries.agents import runs
from database.queries.forge import issue_runs
from database.queries.tasks import Task


async def find(tx: AsyncConnection, wanted: str | None) -> Task:
    """Return the task whose id begins with `wanted`.

    Raises:
        UserError: no id was given, or no task or several tasks match.
    """
    if wanted is None:
        raise UsageError(f"ID is missing. {command_line('tasks')} lists the tasks; in a task's thread it is that one.")
    begins = wanted.strip().strip("`").casefold()
    found = await tasks.find(tx, begins) if begins else []
    exact = [task for task in found if task.id == begins]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        listed = ", ".join(f"`{task.id}`" for task in found)
        raise UserError(
            f"Several tasks begin with {markdown.one_line(wanted, 20)!r}: {listed}. Write more characters of the ID.",
            code="task.ambiguous",
        )
    if begins and (run := await _run(tx, begins)) is not None:
        show, now, stop = (command_line(f"runs {word}{run}") for word in ("", "now ", "stop "))
        raise UserError(
            f"{markdown.code(run)} is a run and no task: {show} shows it, {now} begins it if it waits, and {stop} ends "
            "it or takes it off the queue. Nothing was changed.",
            code="task.is_run",
        )
    listed = f"{command_line('tasks --all')} lists the tasks"
    raise UserError(f"No task is called {markdown.one_line(wanted, 20)!r}; {listed}.", code="task.unknown")


async def _run(tx: AsyncConnection, begins: str) -> str | None:
    """Return the run whose id begins so; None if there is none."""
    found = await issue_runs.begins_with(tx, begins, limit=1) or await runs.begins_with(tx, begins, limit=1)
    return found[0].id if found else None
