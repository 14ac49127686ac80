"""What people read in chat and on issues about pick-ups (pure). Titles and names in it are other people's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bot.runs.pull_lines import pull_of
from bot.text import markdown
from database.queries.forge.issue_runs import IssueRun
from forge.model.errors import ForgeRefused
from forge.model.references import IssueReference
from forge.pull_sight import PullSight

_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]{1,300}")


def thread_title(run: IssueRun) -> str:
    """Return the title of a run's thread."""
    return markdown.one_line(f"{run.agent} {run.title}", 80)


def opener(run: IssueRun, url: str) -> str:
    """Return the message that opens a run's thread."""
    where = f"[{run.reference}]({url})" if _PLAIN_URL.fullmatch(url) else f"**{run.reference}**"
    how = (
        f"asked for by {markdown.code(run.picked_by)}"
        if run.picked_how == "pickup"
        else f"assigned to {markdown.code(run.picked_by)}, label {markdown.code(run.picked_how)}"
    )
    title = markdown.code(markdown.one_line(run.title, 120) or "(no title)")
    return f"{where} is picked up for **{run.agent}**: {title}. It is {how}; sandbox {' and '.join(run.sandboxes)}."


def refused(reference: IssueReference, sentence: str) -> str:
    """Return the line in the room about an issue that could not be picked up."""
    return f"🟠 **{reference}** was not picked up. {sentence}"


def changed(reference: IssueReference, sentences: Sequence[str]) -> str:
    """Return what a thread is told of a changed issue."""
    return f"**{reference}**: {' '.join(sentences)}"


def edited(reference: IssueReference, author: str) -> str:
    """Return what a thread is told of an edited comment."""
    return (
        f"A comment of {markdown.code(markdown.one_line(author, 40))} on **{reference}** was edited. The agent keeps "
        "what it was given; a new comment reaches it."
    )


def pull_seen(run: IssueRun, sight: PullSight, base: str) -> str:
    """Return what a thread is told of the checks of its pull request, and of whether it can be merged."""
    seen = pull_of(sight, run.pushed_sha, base, quote=lambda text: markdown.code(markdown.one_line(text, 60)))
    mark = "🔴" if seen.failed or seen.merge == "conflict" else "🟡" if seen.pending else "🟢"
    return f"{mark} **{run.repository}#{run.pull_request}**: {seen.said}"


def too_many(reference: IssueReference, most: int) -> str:
    """Return what a thread is told of more comments than are kept."""
    return (
        f"More than {most} comments on **{reference}** wait. The agent is given no more of them; it can read them at "
        "the forge."
    )


def ended(run: IssueRun) -> str:
    """Return the answer to a comment after the end of a run."""
    again = "Open a new issue for more."
    if run.pull_request is not None and run.pull_state != "merged":
        again = f"Reopen #{run.pull_request} to go on with it, or open a new issue."
    return f"The work on #{run.number} has ended, so no agent reads this. {again}"


def pull_changed(run: IssueRun, state: str) -> str:
    """Return what a thread is told of its pull request."""
    number = f"{run.repository}#{run.pull_request}"
    match state:
        case "merged":
            return f"✔ The pull request **{number}** was merged. The run ends."
        case "closed":
            return f"The pull request **{number}** was closed. The run ends; reopening the pull request resumes it."
        case _:
            return f"The pull request **{number}** was reopened. The run is resumed."


def trouble(doing: str, error: Exception) -> str:
    """Return what the room is told of an error of the forge."""
    shown = markdown.one_line(str(error), 1_000)
    said = (
        f" (status {error.status}, {markdown.one_line(error.body, 300)!r})" if isinstance(error, ForgeRefused) else ""
    )
    return (
        f"🟠 The forge: {markdown.code(markdown.one_line(doing, 200))} did not work: {markdown.code(shown + said)} "
        "Nothing was decided; it is tried again. `muster forge check` says more."
    )
