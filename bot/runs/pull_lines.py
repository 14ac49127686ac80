"""What the forge shows of pull requests, as surfaces show it. Names of checks are other people's. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.read_models.runs import IssueCheck, IssuePull
from bot.text import markdown
from forge.model.values import CheckState, MergeState
from forge.pull_sight import PullSight

#: Checks of a kind that a sentence names.
_NAMED: Final = 8
_MERGE: Final = {
    MergeState.READY: "It can be merged.",
    MergeState.BLOCKED: "Git can merge it, and the forge requires more, such as a review.",
    MergeState.CONFLICT: "It cannot be merged: it conflicts with {base}.",
    MergeState.UNKNOWN: "The forge does not say whether it can be merged.",
}


def plain(text: str) -> str:
    """Return somebody's name for something in one line."""
    return markdown.one_line(text, 60)


def pull_of(sight: PullSight, pushed_sha: str | None, base: str | None, *, quote: Callable[[str], str]) -> IssuePull:
    """Return a pull request as surfaces show it.

    Args:
        sight: what was seen of it.
        pushed_sha: the commit that Muster pushed.
        base: the branch that it is for.
        quote: makes a name of somebody else's fit for the sentence.
    """
    return IssuePull(
        head=sight.head,
        merge=sight.merge.value,
        is_draft=sight.is_draft,
        checks=tuple(IssueCheck(name, state.value) for name, state in sight.checks),
        failed=sight.failed,
        pending=sight.pending,
        passed=sight.passed,
        since=sight.since,
        said=_said(sight, pushed_sha, base, quote),
    )


def _said(sight: PullSight, pushed_sha: str | None, base: str | None, quote: Callable[[str], str]) -> str:
    counts = (
        (CheckState.FAILURE, sight.failed, "failed"),
        (CheckState.PENDING, sight.pending, "not over"),
        (CheckState.SUCCESS, sight.passed, "passed"),
    )
    parts = []
    for state, count, word in counts:
        if count:
            names = [quote(name) for name, each in sight.checks if each is state][:_NAMED]
            more = [f"and {count - len(names)} more"] if count > len(names) else []
            listed = f" ({', '.join([*names, *more])})" if names else ""
            parts.append(f"{count} {word}{listed}")
    lines = [f"Checks of {quote((pushed_sha or sight.head)[:12])}: {', '.join(parts) or 'none'}."]
    if sight.is_draft:
        lines.append("It is a draft.")
    if sight.merge is MergeState.CONFLICT or not sight.is_draft:
        lines.append(_MERGE[sight.merge].format(base="its base" if base is None else quote(base)))
    if pushed_sha is not None and sight.head != pushed_sha:
        lines.append(f"Its newest commit {quote(sight.head[:12])} is not what Muster pushed.")
    return " ".join(lines)
