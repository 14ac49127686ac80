"""The command `pickup`: a pick-up that an operator asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import ADMIN
from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake.pickups import BY_COMMAND, Configured, Wanted, pick_ups_of
from bot.issue_runs.services import IssueServices
from bot.text import markdown
from bot.text.errors import NotPermitted, UsageError, UserError
from core.validation_errors import suggestion, there_are
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from fleet.errors import FleetError
from fleet.sandbox.profiles import JOINS
from forge.model.errors import ForgeError
from forge.model.references import IssueReference
from forge.model.values import ForgeUser, Issue
from forge.targeting import SANDBOX_LABEL, TARGET_LABEL, PickUp, PickUpDecision, PickUpRules, decide

_NUMBER: Final = re.compile(r"#?[1-9][0-9]{0,17}")


class NotPickedUp(UserError):
    """The issue cannot be picked up. Nothing was begun."""

    code = "pickup.refused"


async def pick_up(ctx: Context[IssueServices], issue: str, *, role: str | None, sandbox: str | None) -> Reply:
    """Queue a run for an issue.

    Raises:
        UserError: it cannot be; the message says what is missing.
    """
    link = ctx.services.forge
    if link is None:
        raise UserError(
            "muster.yaml names no forge, so there are no issues. Add the block `forge:` and restart Muster.",
            code="forge.absent",
        )
    at = _reference(link, issue)
    if sandbox is not None and JOINS in sandbox and ctx.permission < ADMIN:
        raise NotPermitted(
            f"several sandbox profiles together could allow what none of them does, so only an admin joins them; you "
            f"are {ctx.permission}. Name one."
        )
    async with ctx.services.store.read() as tx:
        _refuse_second(at, await issue_runs.of_issue(tx, link.host, str(at.repository), at.number))
    source = Configured(ctx.services.planner, link)
    try:
        rules = await source.rules()
        _refuse_unknown(rules, role, _split(sandbox))
        found = await link.client.read_issue(at)
        decision = as_asked(at, found, rules, role=role, sandboxes=_split(sandbox))
        problem = source.sandbox_problem(decision.sandboxes) if decision.outcome is PickUp.PICK_UP else None
        comments = await link.client.read_comments(at) if decision.outcome is PickUp.PICK_UP else ()
    except (ForgeError, FleetError) as error:
        raise UserError(f"{error} Nothing was begun.", code=error.code) from error
    if decision.outcome is not PickUp.PICK_UP:
        more = " Add one at the forge, or give --role ROLE." if decision.reason == "no_label" else ""
        raise NotPickedUp(f"{decision.sentence}{more} Nothing was begun.")
    if problem is not None:
        raise NotPickedUp(f"{problem} Nothing was begun.")
    assert decision.target is not None
    wanted = Wanted(
        reference=at,
        issue=found,
        comments=comments,
        role=decision.target,
        sandboxes=decision.sandboxes,
        picked_by=ctx.identity,
        picked_how=BY_COMMAND,
    )
    pick_ups = pick_ups_of(ctx.services, link)

    async def act(tx: AsyncConnection) -> dict[str, str]:
        run = await pick_ups.add(tx, wanted)
        return {} if run is None else {"id": run.id, "agent": run.agent, "state": run.state, "issue": str(at)}

    done = await ctx.commit("pickup", act)
    if not done:
        raise NotPickedUp(f"{at} was picked up by somebody else meanwhile. Nothing was begun.")
    ctx.services.rounds.wake()
    ctx.services.delivery.wake()
    how = f"{decision.target}, sandbox {' and '.join(decision.sandboxes)}"
    return Reply(f"{at} is picked up: {done['agent']} ({how}) begins when there is room, in its thread.", done)


def as_asked(
    at: IssueReference, issue: Issue, rules: PickUpRules, *, role: str | None, sandboxes: Sequence[str]
) -> PickUpDecision:
    """Decide about an issue as if its labels said what an operator did, and a member were assigned (pure)."""
    labels = issue.labels
    if role is not None:
        labels = (*(each for each in labels if not _is_for(each, TARGET_LABEL)), f"{TARGET_LABEL}{role}")
    if sandboxes:
        kept = (each for each in labels if not _is_for(each, SANDBOX_LABEL))
        labels = (*kept, *(f"{SANDBOX_LABEL}{each}" for each in sandboxes))
    operator = ForgeUser(1, "operator")
    asked = replace(issue, labels=labels, assignees=(operator,))
    return decide(at, asked, rules, memberships={operator.id: True}, has_run=False)


def _is_for(label: str, prefix: str) -> bool:
    head, colon, _ = label.lower().partition(":")
    return f"{head.strip()}{colon}" == prefix


def _split(sandbox: str | None) -> list[str]:
    return [] if sandbox is None else [each.strip() for each in sandbox.split(JOINS)]


def _reference(link: ForgeLink, issue: str) -> IssueReference:
    if _NUMBER.fullmatch(issue):
        raise UsageError(f"{issue} names no repository. Write it as {link.repositories[0]}#{issue.lstrip('#')}.")
    try:
        at = IssueReference.of_issue(issue, link.settings.address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    repository = link.configured(str(at.repository))
    if repository is None:
        known = ", ".join(map(str, link.repositories[:10]))
        raise UserError(
            f"{at.repository} is no repository of `forge: repositories` in muster.yaml. There are: {known}.",
            code="forge.unknown_repository",
        )
    return IssueReference(repository, at.number)


def _refuse_unknown(rules: PickUpRules, role: str | None, sandboxes: Sequence[str]) -> None:
    """Refuse what an operator asked for and is not there, before the issue's labels come into it.

    Raises:
        NotPickedUp: there is none of that name.
    """
    if role is not None and role.lower() not in rules.targets:
        known = sorted(rules.targets)
        raise NotPickedUp(
            f"No role and no agent is called {markdown.one_line(role, 40)!r}.{suggestion(role.lower(), known)} "
            f"{there_are(known)}. Nothing was begun."
        )
    for each in sandboxes:
        if each.lower() not in rules.sandboxes:
            known = sorted(rules.sandboxes)
            raise NotPickedUp(
                f"No sandbox profile for issues is called {markdown.one_line(each, 40)!r}."
                f"{suggestion(each.lower(), known)} {there_are(known)}. Nothing was begun."
            )


def _refuse_second(at: IssueReference, run: IssueRun | None) -> None:
    if run is None:
        return
    again = "" if run.state != "destroyed" else " Its work has ended: reopen its pull request, or open a new issue."
    raise NotPickedUp(f"{at} has a run already: {run.agent} ({run.state}).{again} Nothing was begun.")
