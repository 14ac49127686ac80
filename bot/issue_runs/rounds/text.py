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
from database.queries.forge.issue_runs import IssueRun, IssueWake
from forge.runs.round import PublishResult

#: Findings that are listed in one message.
_LISTED: Final = 10

Redact = Callable[[str], str]


def reference(run: IssueRun) -> str:
    """Return the issue's name, as code: chat systems would make links of it."""
    return markdown.code(run.reference)


def woken(run: IssueRun, wakes: Sequence[IssueWake]) -> str:
    """Return why a run goes on."""
    why = dict.fromkeys(_reason(wake) for wake in wakes if wake.is_member)
    return f"▶ Round {run.round} of {reference(run)}: {markdown.some(list(why)) or 'an operator'}."


def _reason(wake: IssueWake) -> str:
    author = markdown.code(markdown.one_line(wake.author, 60))
    match wake.kind:
        case "comment":
            return f"{author} commented"
        case "mend" | "retry":
            return f"{author} has the agent go on"
        case "checks":
            return "a check failed"
        case "conflict":
            return "the pull request conflicts with its base"
        case _:
            return f"the forge has news ({wake.kind})"


def settled(run: IssueRun, work: AgentRun | None, redact: Redact, *, published: str | None, is_new: bool) -> str:
    """Return the report about a round that left something at the forge, or had nothing new for it.

    Args:
        run: the run.
        work: what its agent did in the round.
        redact: masks secrets.
        published: the outcome of the step *publish*.
        is_new: whether the pull request was opened in this round.
    """
    where = "no pull request yet"
    if run.pull_request is not None:
        where = f"{'a pull request' if is_new else 'new commits in pull request'} #{run.pull_request}"
        if published == PublishResult.UNCHANGED:
            where = f"no new commits in pull request #{run.pull_request}"
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
        shown = ", ".join(command_line(f"runs allow {run.id} {mark}") for mark in marks[:_LISTED])
        allow = f"\n\nIf it is no secret: {shown}"
    return f"🛑 The commits for {reference(run)} were not pushed.{_cost(work)}\n\n" + "\n".join(lines) + allow


def nothing(run: IssueRun, work: AgentRun | None) -> str:
    """Return the question about a round in which the agent committed nothing."""
    return (
        f"🛑 {reference(run)}: {_ended(run)}, and it committed nothing.{_cost(work)} "
        "A comment of a member on the issue has it go on."
    )


def stopped_short(run: IssueRun, organization: str) -> str:
    """Return what the issue is told of the same."""
    how = _ended(run)
    return (
        f"{how[:1].upper()}{how[1:]}, and there is no change yet. When a member of {organization} comments here, it "
        "goes on."
    )


def _ended(run: IssueRun) -> str:
    match (run.signal or {}).get("status"):
        case "blocked":
            return "the agent is blocked"
        case "failed":
            return "the agent gave up"
        case _:
            return "the agent's turn is over"


def invitation(organization: str) -> str:
    """Return what a new pull request is told besides its record."""
    return f"When a member of {organization} comments here, the agent goes on. To end its work, merge or close this."


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
