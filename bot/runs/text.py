"""What people read about runs. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.commands.syntax import command_line
from bot.read_models.runs import IssueRunLine, RunLine
from bot.text import markdown
from budget import amounts
from database.queries.agents.runs import AgentRun

#: A mark for each state.
MARKS: Final = {
    "queued": "⏳", "running": "▶", "done": "✅", "failed": "✖", "stopped": "⏹", "timed_out": "⏰", "limit": "⛔",
}  # fmt: skip
_ENDED_AS: Final = {
    "done": "is done",
    "failed": "failed",
    "stopped": "was stopped",
    "timed_out": "timed out",
    "limit": "met a limit",
}


def title(run_id: str, color: str | None) -> str:
    """Return what the thread of a run's agent is called, after the agent's name."""
    return f"{markdown.color_mark(color)} run {run_id}".strip()


def used(tokens: float | None, usd: float | None) -> str:
    """Return what was used, as far as known; empty if nothing is."""
    if tokens is None:
        return ""
    return amounts.amount(tokens, "tokens") + ("" if usd is None else f", {amounts.money(usd)}")


def projected(tokens: float | None, usd: float | None) -> str:
    """Return what is or was projected; empty if nothing is known."""
    about = used(tokens, usd)
    return f"about {about}" if about else ""


def cost(line: RunLine | IssueRunLine) -> str:
    """Return what a run used or, before that is known, what is projected; empty if nothing is."""
    about = projected(line.projected_tokens, line.projected_usd)
    return used(line.tokens, line.usd) or (f"{about} projected" if about else "")


def it_used(tokens: float | None, usd: float | None) -> str:
    """Return a sentence about what was used, after a space; empty if nothing is known."""
    spent = used(tokens, usd)
    return f" It used {spent}." if spent else ""


def over(run: AgentRun, *, frozen: bool, redact: Callable[[str], str]) -> str:
    """Return the note about the end of a run."""
    head, _, number = run.id.rpartition("-")
    if head:
        # What follows says what the round came to, and what it used.
        then = "Muster checks what it committed." if run.state == "done" else "What follows says how to go on."
        return f"{MARKS[run.state]} Round {number}: the agent's work {_ENDED_AS[run.state]}. {then}"
    why = f": {markdown.gist(run.detail, redact, 300).rstrip('.')}" if run.detail else ""
    spent = it_used(run.tokens, run.usd)
    back = command_line(f"resume {run.agent}")
    kept = f" {run.agent} is frozen; {back} brings it back." if frozen else ""
    return f"{MARKS[run.state]} Run {markdown.code(run.id)} {_ENDED_AS[run.state]}{why}.{spent}{kept}"


def begun(run: AgentRun, base: str) -> str:
    """Return the answer to a request for a run."""
    other = f" The name {base} is taken." if run.agent != base else ""
    show, stop = command_line(f"runs {run.id}"), command_line(f"runs stop {run.id}")
    how = "goes on with" if run.resumes else "begins with"
    return f"Run {markdown.code(run.id)} {how} the agent {run.agent}.{other} {show} shows it, and {stop} ends it."


def kept(why: str) -> str:
    """Return why the agent of a run that ended long ago is not forgotten."""
    return f"kept: {why.rstrip('.')}"[:500]
