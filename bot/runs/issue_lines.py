"""Runs of issues as surfaces show them, from the rows of the register. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bot.read_models.runs import IssueFinding, IssueRound, IssueRunLine, RunLine
from bot.read_models.tasks import TaskLine
from bot.runs.pull_lines import plain, pull_of
from database.queries.agents.runs import AgentRound, AgentRun, forecast_of
from database.queries.forge.issue_runs import IssueRun
from forge.pull_sight import PullSight

#: Findings and operations of a run that are shown.
LISTED: Final = 50
#: Characters of what failed checks are called.
_LONGEST_CHECKS: Final = 2_000


def line_of(
    run: IssueRun,
    rounds: Sequence[AgentRound],
    *,
    url: str | None,
    wakes: tuple[int, int] = (0, 0),
    checks: str | None = None,
    sight: PullSight | None = None,
    queued: TaskLine | None = None,
) -> IssueRunLine:
    """Return a run of an issue as surfaces show it.

    Args:
        run: the run.
        rounds: the runs of its agent; those of others are left out.
        url: the issue's address.
        wakes: how many reasons to go on it had, and how many of them wait.
        checks: the checks that failed last.
        sight: what was seen last of its pull request.
        queued: its line in the queue; None: it neither waits there nor works.
    """
    pull = None
    if sight is not None and run.pull_state == "open" and run.state != "destroyed":
        pull = pull_of(sight, run.pushed_sha, run.base_branch, quote=plain)
    those = tuple(filter(None, (_round(run.id, each) for each in rounds)))
    ended = [each for each in those if each.tokens is not None]
    findings = run.findings or ()
    return IssueRunLine(
        id=run.id,
        reference=run.reference,
        title=run.title,
        number=run.number,
        url=url,
        pull_request=run.pull_request,
        pull_url=run.pull_url or None,
        pull_state=run.pull_state,
        state=run.state,
        detail=run.detail,
        is_held=run.is_held,
        waits=None if queued is None or queued.state != "queued" or run.is_held else queued.reason,
        round=run.round,
        role=run.role,
        agent=run.agent,
        sandboxes=tuple(run.sandboxes),
        picked_by=run.picked_by,
        picked_how=run.picked_how,
        connector=run.connector,
        room=run.room,
        branch=run.branch,
        pushed_sha=run.pushed_sha,
        wakes=wakes[0],
        waiting_wakes=wakes[1],
        checks=None if checks is None else checks[:_LONGEST_CHECKS],
        pull=pull,
        findings=tuple(_finding(each, run.allowed) for each in findings[:LISTED]),
        more_findings=max(0, len(findings) - LISTED),
        operations=tuple(run.operations[-LISTED:]),
        more_operations=max(0, len(run.operations) - LISTED),
        rounds=those,
        projected_tokens=None if queued is None else queued.projected_tokens,
        projected_usd=None if queued is None else queued.projected_usd,
        tokens=sum(each.tokens or 0.0 for each in ended) if ended else None,
        usd=_dollars([each.usd for each in ended]),
        created_at=run.created_at,
        active_at=run.active_at,
        ended_at=run.ended_at,
    )


def _dollars(each: Sequence[float | None]) -> float | None:
    """Return the sum of what rounds cost; None if nothing or not everything is known."""
    known = [usd for usd in each if usd is not None]
    return sum(known) if known and len(known) == len(each) else None


def _round(run_id: str, work: AgentRound) -> IssueRound | None:
    head, _, number = work.id.rpartition("-")
    if head != run_id or not number.isdecimal():
        return None
    return IssueRound(number=int(number), **row_values(work, IssueRound))


def row_values(work: AgentRun | AgentRound, shown: type[RunLine | IssueRound]) -> dict[str, Any]:
    """Return what surfaces show of a row, by the names of their fields, with what was projected."""
    forecast = forecast_of(work.settings)
    values = {name: getattr(work, name) for name in shown.__dataclass_fields__ if hasattr(work, name)}
    if forecast is not None:
        values |= {"projected_tokens": forecast.tokens, "projected_usd": forecast.usd}
    return values


def _finding(finding: Mapping[str, Any], allowed: Sequence[str]) -> IssueFinding:
    mark = str(finding["mark"]) if finding.get("mark") else None
    return IssueFinding(sentence=sentence_of(finding), mark=mark, is_allowed=mark in allowed)


def issue_url(address: str, repository: str, number: int) -> str:
    """Return where people see an issue. It is made from the configured address, and not from what the forge says."""
    return f"{address.rstrip('/')}/{repository}/issues/{number}"


def sentence_of(finding: Mapping[str, Any]) -> str:
    """Return what was found, and where."""
    commit, path, line = finding.get("commit"), finding.get("path"), finding.get("line")
    place = "" if path is None else f"{path!a}" + ("" if line is None else f", line {line}")
    within = "" if commit is None else f"in commit {commit[:12]}"
    where = ", ".join(filter(None, (place, within)))
    return f"{finding['sentence']}" + (f" ({where})" if where else "")
