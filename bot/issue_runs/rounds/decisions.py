"""What operators decide about runs of issues by commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.issue_runs.rounds import text
from bot.issue_runs.rounds.round_state import named
from bot.issue_runs.services import IssueServices
from bot.runs.run_lookup import LISTED, ambiguous, similar
from bot.text import markdown
from bot.text.errors import UserError
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun, IssueWake


@dataclass(frozen=True, slots=True)
class IssueRunOwner:
    """Repeats and begins runs of issues (`bot.runs.ports.RunOwner`)."""

    services: IssueServices

    async def retry(self, ctx: Context[Any], wanted: str) -> Reply | None:
        """Begin another round of a run that waits for a decision; None if `wanted` names no such run."""
        async with self.services.store.read() as tx:
            found = await _matching(tx, wanted)
        if not found:
            return None
        run = _only(found, wanted)
        if run.state in ACTIVE:
            # It waits for a forge that refuses something: that is tried again at once.
            self.services.rounds.look_again(run.id)
            return Reply(f"What {text.reference(run)} waits for is tried again.", {"id": run.id, "state": run.state})
        if run.is_held:
            await ctx.commit("queue", lambda tx: issue_runs.change(tx, run.id, only=["queued"], detail=None))
            self.services.rounds.wake()
            return Reply(f"{text.reference(run)} is in the queue again.", {"id": run.id, "state": "queued"})
        _check_waits(run)
        await ctx.commit("retry", lambda tx: _wake(tx, ctx, run))
        self.services.rounds.wake()
        return Reply(f"{text.reference(run)} goes on.", {"id": run.id, "state": "queued"})

    async def begin(self, tx: AsyncConnection, run: IssueRun) -> bool:
        """Begin the next round of a run, however many go on; False if it does not wait. `wake` follows the commit."""
        return await self.services.rounds.begin(tx, run, places=None)

    def wake(self) -> None:
        """Act on what was begun."""
        self.services.rounds.wake()


async def allow(ctx: Context[IssueServices], wanted: str, mark: str) -> Reply:
    """Declare that a finding is no secret.

    Raises:
        UserError: no run has this finding.
    """
    services = ctx.services
    async with services.store.read() as tx:
        found = await _matching(tx, wanted)
        near = "" if found else await similar(tx, named(wanted))
    if not found:
        _refuse_unknown(wanted, near)
    run = _only(found, wanted)
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
        await _wake(tx, ctx, run)

    await ctx.commit("allow", act)
    services.rounds.wake()
    return Reply(
        f"{markdown.code(given)} counts as no secret for {text.reference(run)}; its commits are published again.",
        {"id": run.id, "mark": given},
    )


async def _wake(tx: AsyncConnection, ctx: Context[Any], run: IssueRun) -> None:
    wake = IssueWake(
        run=run.id,
        cause=f"retry/{ctx.run_id}",
        kind="retry",
        author=ctx.identity,
        is_member=True,
        text="",
        at=ctx.services.clock(),
    )
    await issue_runs.add_wake(tx, wake)


async def _matching(tx: AsyncConnection, wanted: str) -> list[IssueRun]:
    begins = named(wanted)
    found = await issue_runs.begins_with(tx, begins, limit=LISTED) if begins else []
    return [run for run in found if run.id == begins] or found


def _only(found: list[IssueRun], wanted: str) -> IssueRun:
    if len(found) > 1:
        raise ambiguous(wanted, found)
    return found[0]


def _check_waits(run: IssueRun) -> None:
    if run.state != "failed":
        raise UserError(
            f"Run {markdown.code(run.id)} does not wait for a decision ({run.state}); nothing was changed.",
            code="issue.not_waiting",
        )


def _refuse_unknown(wanted: str, near: str) -> NoReturn:
    raise UserError(
        f"No run of an issue is called {markdown.one_line(wanted, 20)!r}.{near} {command_line('runs')} lists the runs.",
        code="run.unknown",
    )
