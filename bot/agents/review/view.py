"""What people and programs see of an agent's changes. Pure.

All names and lines are the agent's, and are shown, not obeyed (`bot.text.markdown`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.commands.syntax import command_line
from bot.text import markdown
from fleet.workspace.agent_changes import AgentCommit, AgentCommits, AgentDiff, BranchState, ChangedFile

#: Lines of a diff that are shown in a message: where it can also be a file, and where it cannot.
INLINE: Final = 12
INLINE_WITHOUT_FILES: Final = 120
#: Characters of a line in a message; longer ones are for a file.
_LONGEST_LINE: Final = 400
_LONGEST_NAME: Final = 160
#: Files and commits that a message lists, and files for programs.
_LISTED: Final = 20
_FILES_FOR_PROGRAMS: Final = 2_000
_SHORT: Final = 10
_STATUSES: Final = {
    "added": "added",
    "deleted": "deleted",
    "modified": "",
    "renamed": "renamed",
    "retyped": "other kind of file",
    "repository": "a repository of its own",
}


def diff_text(agent: str, found: AgentDiff) -> str:
    """Return the summary of what an agent changed: the files with their lines."""
    state = found.state
    if not found.files:
        return " ".join([f"{agent} changed nothing since {_base(state)}.", *_notes(agent, state)])
    added, removed = sum(each.added or 0 for each in found.files), sum(each.removed or 0 for each in found.files)
    first = f"{agent} changed {_count(len(found.files), 'file')} since {_base(state)}: +{added:,} -{removed:,} lines."
    notes = _notes(agent, state)
    if found.truncated:
        notes.append("The diff is too long, so only its beginning is shown.")
    rows = [[_name(each), _lines(each.added, "+"), _lines(each.removed, "-"), _kind(each)] for each in found.files]
    table = markdown.table(["File", "+", "-", "What"], rows[:_LISTED])
    return "\n\n".join([" ".join([first, *notes]), table + _more(len(rows))])


def commits_text(agent: str, found: AgentCommits, now: float, redact: Callable[[str], str]) -> str:
    """Return the commits of an agent's branch, the newest first.

    Args:
        agent: the agent's name.
        found: its commits.
        now: seconds since the epoch.
        redact: masks secrets in what is cut.
    """
    state = found.state
    notes = " ".join([*_notes(agent, state), _uncommitted_command(agent, state)]).strip()
    if not found.total:
        return f"{markdown.code(state.branch)} has no commits since {_base(state)}. {notes}".strip()
    first = f"{markdown.code(state.branch)} has {_count(found.total, 'commit')} since {_base(state)}. {notes}".strip()
    rows = [_commit_row(each, now, redact) for each in found.commits[:_LISTED]]
    table = markdown.table(["Commit", "Age", "Subject", "Files", "+", "-"], rows)
    return f"{first}\n\n{table}{_more(found.total)}"


def inline(diff: str, *, most: int) -> str | None:
    """Return a short diff as a block for a message; None: it has more lines than `most`, or very long ones."""
    lines = diff.rstrip("\n").split("\n")
    if len(lines) > most or any(len(line) > _LONGEST_LINE for line in lines):
        return None
    return markdown.code_block(diff, "diff")


def beginning(diff: str, agent: str) -> str:
    """Return the beginning of a long diff, where a chat system takes no files."""
    lines = [line[:_LONGEST_LINE] for line in diff.rstrip("\n").split("\n")]
    block = markdown.code_block("\n".join(lines[:INLINE_WITHOUT_FILES]), "diff")
    more = len(lines) - INLINE_WITHOUT_FILES
    return f"{block}\n\n{more:,} more lines: {command_line(f'diff {agent}')} in a shell." if more > 0 else block


def caption(agent: str, diff: str, *, truncated: bool) -> str:
    """Return what is said of the file with a diff."""
    lines = _count(diff.count("\n"), "line")
    return f"The beginning of what {agent} changed, {lines}." if truncated else f"What {agent} changed, {lines}."


def _base(state: BranchState) -> str:
    if state.base is None:
        return "its repository was empty"
    commit = markdown.code(state.base[:_SHORT])
    return commit if state.left is None else f"{commit}, where its branch left {markdown.code(state.left)}"


def _notes(agent: str, state: BranchState) -> list[str]:
    notes = []
    if state.uncommitted:
        have = "has" if state.uncommitted == 1 else "have"
        notes.append(f"{_count(state.uncommitted, 'file')} {have} changes that are not committed.")
    if state.elsewhere:
        notes.append(
            f"{agent} has something else checked out than its branch {markdown.code(state.branch)}, as during a rebase."
        )
    if state.unlisted:
        notes.append("It has more untracked files than Muster looks at.")
    return notes


def _uncommitted_command(agent: str, state: BranchState) -> str:
    return f"{command_line(f'diff {agent}')} shows them." if state.uncommitted else ""


def _name(each: ChangedFile) -> str:
    return _path(each.path) if each.was is None else f"{_path(each.was)} → {_path(each.path)}"


def _path(path: str) -> str:
    return markdown.code(markdown.one_line(path.replace("\n", "␊").replace("\t", "␉"), _LONGEST_NAME))


def _kind(each: ChangedFile) -> str:
    words = [_STATUSES[each.status], "binary" if each.binary else ""]
    if each.modes is not None and each.status != "retyped":
        words.append(f"mode {each.modes[0]} → {each.modes[1]}")
    return ", ".join(filter(None, words))


def _lines(count: int | None, sign: str) -> str:
    return f"{sign}{count:,}" if count else ""


def _commit_row(each: AgentCommit, now: float, redact: Callable[[str], str]) -> list[str]:
    subject = markdown.gist(each.subject, redact, 80)
    return [
        markdown.code(each.commit[:_SHORT]),
        markdown.span(now - each.at),
        f"{markdown.code(subject)}{' (merge)' if each.merge else ''}" if subject else "",
        f"{each.files:,}" if each.files else "",
        _lines(each.added, "+"),
        _lines(each.removed, "-"),
    ]


def _more(count: int) -> str:
    return f"\n\nand {count - _LISTED:,} more." if count > _LISTED else ""


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


# --- for programs ------------------------------------------------------------------------------------------------


def diff_as_json(found: AgentDiff, diff: str) -> dict[str, object]:
    """Return what an agent changed for programs; `diff` is without secrets."""
    return {
        **_state_as_json(found.state),
        "files": [_file_as_json(each) for each in found.files[:_FILES_FOR_PROGRAMS]],
        "file_count": len(found.files),
        "truncated": found.truncated or found.state.unlisted or len(found.files) > _FILES_FOR_PROGRAMS,
        "diff": diff,
    }


def commits_as_json(found: AgentCommits, timestamp: Callable[[float | None], str | None]) -> dict[str, object]:
    """Return the commits of an agent's branch for programs."""
    return {
        **_state_as_json(found.state),
        "commits": [_commit_as_json(each, timestamp) for each in found.commits],
        "commit_count": found.total,
        "truncated": found.total > len(found.commits),
    }


def _state_as_json(state: BranchState) -> dict[str, object]:
    return {
        "branch": state.branch,
        "base": state.base,
        "head": state.head,
        "dirty": state.uncommitted > 0,
        "uncommitted": state.uncommitted,
        "on_branch": not state.elsewhere,
    }


def _file_as_json(each: ChangedFile) -> dict[str, object]:
    return {
        "path": each.path,
        "was": each.was,
        "status": each.status,
        "added": each.added,
        "removed": each.removed,
        "binary": each.binary,
        "modes": each.modes,
    }


def _commit_as_json(each: AgentCommit, timestamp: Callable[[float | None], str | None]) -> dict[str, object]:
    return {
        "commit": each.commit,
        "at": timestamp(each.at),
        "author": each.author,
        "subject": each.subject,
        "files": each.files,
        "added": each.added,
        "removed": each.removed,
        "merge": each.merge,
    }
