"""What people read about issue runs in chat. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bot.commands.syntax import command_line
from bot.runs.issue_lines import sentence_of
from bot.runs.text import it_used
from bot.text import markdown
from database.queries.agents.runs import AgentRun
from database.queries.forge.issue_runs import IssueRun

#: Findings that are listed in one message.
_LISTED: Final = 10

Redact = Callable[[str], str]


def reference(run: IssueRun) -> str:
    """Return the issue's name, as code: chat systems would make links of it."""
    return markdown.code(run.reference)


def settled(run: IssueRun, work: AgentRun | None, redact: Redact) -> str:
    """Return the report about a round that ended with a pull request, or with nothing new."""
    where = f"pull request {run.pull_request}" if run.pull_request is not None else "no pull request yet"
    link = f": {run.pull_url}" if run.pull_url else ""
    signal = summary = ""
    if run.signal is None:
        signal = " Its agent did not signal, so the work may be incomplete."
    elif not run.is_done:
        said = markdown.code(str(run.signal.get("status")))
        signal = f" Its agent signalled {said}, so the work is not complete. A comment has it go on."
    if run.signal is not None:
        summary = f"\n\n{markdown.shown(redact(str(run.signal.get('summary', ''))[:1000]))}"
    return f"🔀 {reference(run)} has {where}{link}.{_cost(work)}{signal}{summary}".rstrip()


def failed(run: IssueRun, work: AgentRun | None, why: str, redact: Redact) -> str:
    """Return the report about a round for which a person has to decide."""
    retry = command_line(f"runs retry {run.id}")
    shown = markdown.gist(why, redact, 500).rstrip(".")
    return f"✖ {reference(run)} waits for you: {shown}.{_cost(work)} {retry} goes on."


def refused(run: IssueRun, work: AgentRun | None, redact: Redact) -> str:
    """Return the question about commits that were not pushed."""
    findings = run.findings or ()
    lines = [f"- {markdown.gist(sentence_of(each), redact, 500)}" for each in findings[:_LISTED]]
    if len(findings) > _LISTED:
        lines.append(f"- … and {len(findings) - _LISTED} more")
    marks = list(dict.fromkeys(str(each["mark"]) for each in findings if each.get("mark")))
    allow = ""
    if marks:
        shown = command_line(f"runs allow {run.id} {marks[0]}")
        allow = f"\n\nIf something is no secret, {shown} allows it (marks: {', '.join(map(markdown.code, marks))})."
    return f"🛑 The commits for {reference(run)} were not pushed.{_cost(work)}\n\n" + "\n".join(lines) + allow


def used_up(run: IssueRun, refusal: str) -> str:
    """Return the question about a run that somebody wants to go on, but that was woken as often as it may be."""
    return f"⏸ Somebody wants {reference(run)} to go on. {refusal} What was said waits, and nothing is lost."


def for_agent(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return what the agent is told to mend."""
    return "\n".join(f"- {sentence_of(each)}" for each in findings)


def _cost(work: AgentRun | None) -> str:
    return "" if work is None else it_used(work.tokens, work.usd)


def forge_refused(run: IssueRun, why: str, redact: Redact) -> str:
    """Return the report that the forge does not take what a round is to leave there."""
    return (
        f"⚠️ The forge does not take what {reference(run)} needs: {markdown.gist(why, redact, 500)} It is tried again."
    )


def broken(run: IssueRun, why: str) -> str:
    """Return the report that a run cannot go on now, though it should."""
    return f"⚠️ {reference(run)} cannot go on now: {why} It is tried again."


def unreadable(run_id: str) -> str:
    """Return the report about a run whose row in the register cannot be read."""
    return (
        f"⚠️ The run {markdown.code(run_id)} is left out: its row in the register cannot be read. Restore a backup, or "
        "finish its work by hand."
    )


def kept(run: IssueRun, folder: Path, branch: str, for_s: float) -> str:
    """Return where the commits are that the forge does not have."""
    fetch = markdown.code(f"git fetch {folder} {branch}")
    return (
        f"🗄 {reference(run)} is over, and its agent committed what is not at the forge. Nobody checked it. It is kept "
        f"for {markdown.span(for_s)}; {fetch} gets it in a clone on this machine."
    )


def lost(run: IssueRun, why: str, redact: Redact) -> str:
    """Return the report that commits were deleted with their clone, because they could not be read for long."""
    return f"⚠️ The commits for {reference(run)} could not be kept, and were deleted: {markdown.gist(why, redact, 500)}"
