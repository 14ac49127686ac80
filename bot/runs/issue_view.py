"""Runs of issues as text and as JSON. Titles, operations and addresses in them are other people's. Pure."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from bot.commands.syntax import command_line
from bot.read_models import codec
from bot.read_models.runs import IssueRound, IssueRunLine
from bot.runs.text import cost, projected, used
from bot.text import markdown
from bot.text.timestamps import timestamp

#: A mark for each state.
ISSUE_MARKS: Final = {
    "queued": "⏳", "running": "▶", "checking": "🔎", "frozen": "🔀", "failed": "✖", "destroyed": "🏁",
}  # fmt: skip
#: What each state means to people.
ISSUE_STATES: Final = {
    "queued": "waits for a place",
    "running": "its agent works",
    "checking": "its commits are checked and pushed",
    "frozen": "waits for people at the forge",
    "failed": "waits for an operator",
    "destroyed": "is over",
}
_PLAIN_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]{1,300}")
_TIMES: Final = ("created_at", "started_at", "active_at", "ended_at", "since")
#: Characters of a title in a table.
_GIST: Final = 60
#: Operations at the forge that are listed in an answer.
_OPERATIONS: Final = 15

Redact = Callable[[str], str]


def issues_text(lines: Sequence[IssueRunLine], now: float, redact: Redact) -> str:
    """Return the table of runs of issues."""
    rows = [
        [
            markdown.code(each.id),
            f"{ISSUE_MARKS.get(each.state, '')} {each.state}{', waits' if each.waits else ''}",
            f"{_link(each.reference, each.url)} {markdown.code(markdown.gist(each.title, redact, _GIST) or '-')}",
            _pull(each),
            f"{each.agent}, round {each.round}",
            f"{markdown.span(now - (each.ended_at or each.active_at))} ago",
            cost(each),
        ]
        for each in lines
    ]
    return markdown.table(["Issue run", "State", "Issue", "Pull request", "Agent", "Active", "Used"], rows)


def issue_text(run: IssueRunLine, now: float, redact: Redact) -> str:
    """Return everything about one run of an issue."""
    mark = ISSUE_MARKS.get(run.state, "")
    meaning = "waits for an operator" if run.is_held else "waits" if run.waits else ISSUE_STATES.get(run.state)
    parts = [
        f"{mark} Run {markdown.code(run.id)} for {_link(run.reference, run.url)}: **{run.state}**"
        + (f", {meaning}" if meaning else "")
        + ".",
        markdown.code(markdown.gist(run.title, redact, 200) or "-"),
        _about(run, now),
    ]
    if run.waits:
        about = projected(run.projected_tokens, run.projected_usd)
        parts.append(markdown.code(markdown.gist(run.waits, redact, 500)) + (f" Projected: {about}." if about else ""))
    if run.detail:
        parts.append(markdown.code(markdown.gist(run.detail, redact, 500)))
    parts.append(_at_the_forge(run, redact))
    if run.findings:
        parts.append(_findings(run, redact))
    if run.rounds:
        rows = [
            [markdown.code(each.id), each.state.replace("_", " "), _took(each, now),
             projected(each.projected_tokens, each.projected_usd), used(each.tokens, each.usd),
             markdown.code(markdown.gist(each.detail, redact, 100)) if each.detail else ""]
            for each in run.rounds
        ]  # fmt: skip
        parts.append(markdown.table(["Round", "State", "Time", "Projected", "Used", "Detail"], rows))
    if run.operations:
        last = run.operations[-_OPERATIONS:]
        left_out = run.more_operations + len(run.operations) - len(last)
        earlier = f" ({left_out} earlier ones are left out)" if left_out else ""
        listed = "\n".join(f"- {markdown.code(markdown.gist(each, redact, 200))}" for each in last)
        parts.append(f"What its agent did at the forge{earlier}:\n\n{listed}")
    if spent := used(run.tokens, run.usd):
        parts.append(f"All rounds used {spent}.")
    parts.append(_next(run))
    return "\n\n".join(filter(None, parts))


def _about(run: IssueRunLine, now: float) -> str:
    sandboxes = markdown.some([markdown.code(each) for each in run.sandboxes]) or "none"
    label = "by command" if run.picked_how == "pickup" else f"label {markdown.code(run.picked_how)}"
    began = f"Picked up {markdown.span(now - run.created_at)} ago for {markdown.code(run.picked_by)} ({label})"
    waiting = f", {run.waiting_wakes} of them for the next round" if run.waiting_wakes else ""
    woken = f" Woken {'once' if run.wakes == 1 else f'{run.wakes} times'}{waiting}." if run.wakes else ""
    return (
        f"Agent {run.agent} ({run.role}), round {run.round}, sandbox {sandboxes}. {began}. "
        f"Its thread is in {markdown.code(run.room)} ({run.connector}).{woken}"
    )


def _at_the_forge(run: IssueRunLine, redact: Redact) -> str:
    pull = _pull(run)
    lines = [f"Pull request {pull}." if pull else "No pull request yet."]
    if run.branch:
        sha = f" at {markdown.code(run.pushed_sha[:12])}" if run.pushed_sha else ""
        lines.append(f"Branch {markdown.code(run.branch)}{sha}.")
    if run.pull is not None:
        lines.append(markdown.code(markdown.gist(run.pull.said, redact, 1_000)))
    elif run.checks:
        lines.append(f"Checks that failed last: {markdown.code(markdown.gist(run.checks, redact, 300))}.")
    return " ".join(lines)


def _findings(run: IssueRunLine, redact: Redact) -> str:
    lines = []
    for each in run.findings:
        allowed = ", allowed" if each.is_allowed else ""
        mark = f" (mark {markdown.code(each.mark)}{allowed})" if each.mark else ""
        lines.append(f"- {markdown.code(markdown.gist(each.sentence, redact, 500))}{mark}")
    if run.more_findings:
        lines.append(f"- … and {run.more_findings} more")
    return "In the way of a push:\n\n" + "\n".join(lines)


def _next(run: IssueRunLine) -> str:
    give_up = "" if run.pull_request is not None else f" {command_line(f'runs end {run.id}')} gives it up."
    if run.is_held:
        return f"{command_line(f'runs retry {run.id}')} puts it back into the queue.{give_up}"
    if run.state == "queued":
        now, stop = command_line(f"runs now {run.id}"), command_line(f"runs stop {run.id}")
        return f"{now} begins it now, and {stop} takes it off the queue."
    if run.state == "running":
        return f"{command_line(f'runs stop {run.id}')} ends the round."
    if run.state == "checking":
        return f"{command_line(f'runs retry {run.id}')} tries at once what it waits for."
    if run.state != "failed":
        return ""
    retry = f"{command_line(f'runs retry {run.id}')} goes on with what there is."
    if not run.open_findings:
        return retry + give_up
    allow = command_line(f"runs allow {run.id} {run.open_findings[0].mark}")
    return f"{retry} {allow} declares that a finding is no secret.{give_up}"


def _pull(run: IssueRunLine) -> str:
    if run.pull_request is None:
        return ""
    state = f" ({run.pull_state})" if run.pull_state else ""
    return f"{_link(f'#{run.pull_request}', run.pull_url)}{state}"


def _link(label: str, url: str | None) -> str:
    shown = markdown.code(label)
    return f"[{shown}]({url})" if url and _PLAIN_URL.fullmatch(url) else shown


def _took(each: IssueRound, now: float) -> str:
    began = each.started_at or each.created_at
    return markdown.span(now - began) if each.ended_at is None else f"took {markdown.span(each.ended_at - began)}"


def issue_json(run: IssueRunLine, redact: Redact) -> dict[str, Any]:
    """Return a run of an issue for programs."""
    found = dataclasses.asdict(codec.masked(run, redact))
    for each in (found, *found["rounds"], *filter(None, [found["pull"]])):
        each.update({name: timestamp(each[name]) for name in _TIMES if name in each})
    return found
