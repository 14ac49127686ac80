"""What people read about a merge. Pure. Paths, and what tests say, are an agent's, and are shown, not obeyed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.commands.syntax import command_line
from bot.text import markdown
from fleet.errors import FleetError
from fleet.workspace.branch_merge import KEPT_DAYS, SetAside
from fleet.workspace.merge_trial import FailedTests, TriedMerge

#: The end of what tests said that is shown: lines, and characters of one.
_LINES: Final = 25
_LINE: Final = 300
_SHORT: Final = 10


def refusal(problem: FleetError, redact: Callable[[str], str]) -> str:
    """Return why a branch is not merged, with the end of what its tests said."""
    text = str(problem)
    if not isinstance(problem, FailedTests):
        return text
    lines = redact(markdown.shown(problem.said)).rstrip().split("\n")[-_LINES:]
    said = "\n".join(line[:_LINE] for line in lines).strip()
    return f"{text}\n\n{markdown.code_block(said)}" if said else f"{text} They said nothing."


def found(agent: str, done: TriedMerge, *, squash: bool, notes: list[str]) -> str:
    """Return what a person should know before the branch is merged."""
    branch, into = markdown.code(f"muster/{agent}"), markdown.code(done.into)
    commits = _count(done.commits, "commit")
    how = f"{commits} as one" if squash else commits
    text = (
        f"It brings {how} of {branch}, up to {markdown.code(done.tip[:_SHORT])}, into {into} and changes "
        f"{_count(done.files, 'file')} there. {tested(done.test, done.seconds)}"
    )
    return " ".join([text, *notes])


def tested(command: str | None, seconds: float | None) -> str:
    """Return how the tests went that had to succeed."""
    if command is None:
        return "No tests were run, because the branch names none."
    took = f" in {markdown.span(seconds)}" if seconds else ""
    return f"The tests succeeded{took}: {markdown.code(markdown.one_line(command, 120))}."


def is_kept(aside: SetAside, repository: str) -> str:
    """Return where discarded work is kept, and how to get it back."""
    if aside.commit is None or aside.name is None:
        return ""
    back = markdown.code(f"git branch NAME {aside.name}")
    return (
        f"Its last commit {markdown.code(aside.commit[:_SHORT])} is kept for {KEPT_DAYS} days as "
        f"{markdown.code(aside.name)} in {markdown.code(repository)}: {back} there brings it back."
    )


def still_works(agent: str) -> str:
    """Return the note about an agent that is in a turn."""
    return f"{agent} is at work; what it commits later is not merged."


def unsaved(agent: str, words: str) -> str:
    """Return the note about changes that are in no commit."""
    return f"Its clone has {words}, which is not merged: {command_line(f'diff {agent}')}."


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"
