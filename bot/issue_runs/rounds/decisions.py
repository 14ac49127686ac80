"""What operators decide about runs of issues by commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.issue_runs.rounds import text
from bot.issue_runs.rounds.round_state import named
from bot.issue_runs.services import IssueServices
from bot.runs import run_lookup
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun, IssueWake


@dataclass(frozen=True, slots=True)
class IssueRunOwner:
    """Repeats and begins runs of issues (`bot.runs.ports.RunOwner`)."""

    services: IssueServices

    async def retry(self, ctx: Context[Any], run_id: str) -> Reply | None:
        """Begin another round of a run that waits for a decision; None if this is no id of such a run or its round."""
        async with self.services.store.read() as tx:
            run = await issue_runs.get(tx, named(run_id))
        if run is None:
            return None
        if run.state in ACTIVE:
            # It waits for a forge that refuses something: that is tried again at once.
            self.services.rounds.look_again(run.id)
            return Reply(f"What {text.reference(run)} waits for is tried again.", {"id": run.id, "state": run.state})
        if run.is_held:
            await ctx.commit("queue", lambda tx: issue_runs.change(tx, run.id, only=["queued"], detail=None))
            self.services.rounds.wake()
            return Reply(f"{text.reference(run)} is in the queue again.", {"id": run.id, "state": "queued"})
        _check_waits(run)
        await ctx.commit("retry", lambda tx: _wake(tx, ctx, run, f"retry/{ctx.run_id}"))
        self.services.rounds.wake()
        return Reply(f"{text.reference(run)} goes on.", {"id": run.id, "state": "queued"})

    async def begin(self, tx: AsyncConnection, run: IssueRun) -> bool:
        """Begin the next round of a run, however many go on; False if it does not wait. `wake` follows the commit."""
        return await self.services.rounds.begin(tx, run, most=None)

    def wake(self) -> None:
        """Act on what was begun."""
        self.services.rounds.wake()


async def allow(ctx: Context[IssueServices], wanted: str, mark: str) -> Reply:
    """Declare that a finding is no secret.

    Raises:
        UserError: no run has this finding.
    """
    services = ctx.services
    run = await _of_issue(ctx, wanted, "nothing is in the way of a push")
    marks = [str(each["mark"]) for each in run.findings or () if each.get("mark")]
    given = mark.strip().strip("`")
    if given not in marks:
        listed = ", ".join(map(markdown.code, dict.fromkeys(marks))) or "none"
        raise UserError(
            f"Run {markdown.code(run.id)} has no finding with the mark {markdown.one_line(given, 40)!r}; it has "
            f"{listed}. Nothing was changed.",
            code="issue.unknown_mark",
        )
    _check_waits(run)

    async def act(tx: AsyncConnection) -> None:
        current = await issue_runs.get(tx, run.id)
        allowed = [] if current is None else list(current.allowed)
        await issue_runs.change(tx, run.id, only=["failed"], allowed=list(dict.fromkeys([*allowed, given])))
        await _wake(tx, ctx, run, f"{issue_runs.ALLOWED}{given}/{ctx.run_id}")

    await ctx.commit("allow", act)
    services.rounds.wake()
    return Reply(
        f"{markdown.code(given)} counts as no secret for {text.reference(run)}; its commits are published again.",
        {"id": run.id, "mark": given},
    )


async def end(ctx: Context[IssueServices], wanted: str) -> Reply:
    """End a run that has no open pull request, as the end of one would.

    Raises:
        UserError: it has one, or its round goes on.
    """
    services = ctx.services
    run = await _of_issue(ctx, wanted, "it ends with its turn")
    link = services.forge
    if link is None or run.forge != link.host:
        raise UserError(
            f"muster.yaml does not name the forge {markdown.code(run.forge)}; nothing was changed.", code="forge.absent"
        )
    if run.state == "destroyed":
        return Reply(f"{text.reference(run)} has ended.", {"id": run.id, "state": run.state})
    if run.pull_request is not None and run.pull_state in (None, "open"):
        why = f"Merge or close #{run.pull_request} to end it"
    elif run.state in ACTIVE:
        why = f"{command_line(f'runs stop {run.id}')} ends its round first"
    else:
        why = None
    if why is not None:
        raise UserError(f"{text.reference(run)} ({run.state}): {why}; nothing was changed.", code="issue.not_ended")

    async def act() -> str:
        await services.rounds.destroy(run.id)
        return "ending"

    state = await ctx.once("end", act)
    return Reply(
        f"{text.reference(run)} ends. Its agent and its clone are removed; what was committed is kept for "
        f"{markdown.span(link.settings.keep_commits)}.",
        {"id": run.id, "state": state},
    )


async def _of_issue(ctx: Context[IssueServices], wanted: str, otherwise: str) -> IssueRun:
    """Return the run of an issue that a person names, also by one of its rounds.

    Raises:
        UserError: there is none.
    """
    async with ctx.services.store.read() as tx:
        found = await run_lookup.find(tx, wanted)
        run = found if isinstance(found, IssueRun) else await issue_runs.get(tx, named(found.id))
    if run is None:
        raise UserError(
            f"Run {markdown.code(found.id)} is of no issue, so {otherwise}. Nothing was changed.",
            code="run.of_no_issue",
        )
    return run


async def _wake(tx: AsyncConnection, ctx: Context[Any], run: IssueRun, cause: str) -> None:
    wake = IssueWake(
        run=run.id,
        cause=cause,
        kind="retry",
        author=ctx.identity,
        is_member=True,
        text="",
        at=ctx.services.clock(),
    )
    await issue_runs.add_wake(tx, wake)


def _check_waits(run: IssueRun) -> None:
    if run.state != "failed":
        raise UserError(
            f"Run {markdown.code(run.id)} does not wait for a decision ({run.state}); nothing was changed.",
            code="issue.not_waiting",
        )
