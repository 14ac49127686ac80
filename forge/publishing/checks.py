"""What is wrong with the commits of a branch, apart from secrets. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Final

from fleet.workspace import merge_gate
from fleet.workspace.merge_gate import MergeGate
from forge.publishing import commit_messages
from forge.publishing.findings import FindingKind, PublishingFinding
from forge.publishing.listing import FILE_MODES, LINK_MODE, SUBMODULE_MODE, BranchCommit, BranchListing, PathChange
from forge.publishing.rules import PublishingRules

#: Findings that are told. More of them say nothing new.
MOST_FINDINGS: Final = 200
#: Header lines of an ordinary commit. A signature cannot be the agent's, because it holds no key that counts.
_USUAL_HEADERS: Final = frozenset({"tree", "parent", "author", "committer"})


def check(listing: BranchListing, rules: PublishingRules) -> tuple[PublishingFinding, ...]:
    """Return what is wrong with a branch; nothing if it may be pushed."""
    found = [*_of_branch(listing, rules)]
    gate = MergeGate(protected=(*rules.protected, *listing.protected))
    for commit in listing.commits:
        if len(found) >= MOST_FINDINGS:
            break
        found += _of_commit(commit, rules)
        found += _of_changes(commit, rules, gate)
    return tuple(found[:MOST_FINDINGS])


def _of_branch(listing: BranchListing, rules: PublishingRules) -> Iterator[PublishingFinding]:
    if not listing.descends:
        yield PublishingFinding(
            kind=FindingKind.UNRELATED,
            sentence=f"The branch does not descend from {listing.base[:12]}, on which the work began. Rebase it onto "
            "that commit.",
        )
    if not listing.commits and not listing.cut:
        yield PublishingFinding(kind=FindingKind.EMPTY, sentence="There are no commits to push.")
    elif not listing.cut and not any(commit.changes for commit in listing.commits):
        yield PublishingFinding(kind=FindingKind.EMPTY, sentence="The commits change no file.")
    if listing.cut or len(listing.commits) > rules.commits:
        yield PublishingFinding(
            kind=FindingKind.SIZE,
            sentence=f"The branch has more than {rules.commits} commits, or more files than can be listed. Combine "
            "commits, or divide the work.",
        )
    changes = [change for commit in listing.commits for change in commit.changes]
    if len(changes) > rules.files:
        yield PublishingFinding(
            kind=FindingKind.SIZE,
            sentence=f"The commits change {len(changes):,} files, and {rules.files:,} are allowed. Divide the work.",
        )
    if (total := sum(change.size for change in changes)) > rules.total_bytes:
        yield PublishingFinding(
            kind=FindingKind.SIZE,
            sentence=f"The changed files have {_megabytes(total)} together, and {_megabytes(rules.total_bytes)} are "
            "allowed. Leave generated files out of all commits.",
        )


def _of_commit(commit: BranchCommit, rules: PublishingRules) -> Iterator[PublishingFinding]:
    def found(kind: FindingKind, sentence: str) -> PublishingFinding:
        return PublishingFinding(kind=kind, sentence=sentence, commit=commit.sha)

    if len(commit.parents) > 1:
        yield found(FindingKind.MERGE, "This is a merge. Rebase onto the base instead, so that the branch is a line.")
    for role, who in (("author", commit.author), ("committer", commit.committer)):
        if who != rules.identity:
            yield found(
                FindingKind.IDENTITY,
                f"The {role} is {shown(str(who))}, and not {rules.identity}. Set user.name and user.email to that, and "
                "make the commit again with --reset-author.",
            )
    if unusual := sorted(set(commit.headers) - _USUAL_HEADERS):
        yield found(
            FindingKind.IDENTITY,
            f"The commit has the header {shown(', '.join(unusual))}. Make it again, without a signature and in UTF-8.",
        )
    for sentence in commit_messages.trailers(commit.message, rules):
        yield found(FindingKind.TRAILER, sentence)
    for sentence in commit_messages.sayings(commit.message, rules):
        yield found(FindingKind.MESSAGE, sentence)


def _of_changes(commit: BranchCommit, rules: PublishingRules, gate: MergeGate) -> Iterator[PublishingFinding]:
    for change in commit.changes:
        path = change.path

        def found(kind: FindingKind, sentence: str, path: str = path) -> PublishingFinding:
            return PublishingFinding(kind=kind, sentence=sentence, commit=commit.sha, path=path)

        if _protects(gate, (path,)):
            yield found(
                FindingKind.PROTECTED,
                f"{shown(path)} is protected, and agents may not add, change, rename or remove it. Take the change out "
                "of every commit, also where a later one undoes it.",
            )
        if change.mode == LINK_MODE:
            if (why := _wrong_link(change, gate)) is not None:
                yield found(FindingKind.LINK, f"The symbolic link {shown(path)} {why}. Remove it from every commit.")
        elif change.mode == SUBMODULE_MODE:
            yield found(FindingKind.LINK, f"{shown(path)} is a submodule. Remove it from every commit.")
        elif change.mode is not None and change.mode not in FILE_MODES:
            yield found(FindingKind.LINK, f"{shown(path)} has the unusual mode {change.mode}. Make it a plain file.")
        if not _plain_path(path):
            yield found(FindingKind.LINK, f"{shown(path)} has characters that are not seen. Rename it in every commit.")
        if change.size > rules.file_bytes:
            yield found(
                FindingKind.SIZE,
                f"{shown(path)} has {_megabytes(change.size)}, and {_megabytes(rules.file_bytes)} are allowed. Remove "
                "it from every commit.",
            )


def _wrong_link(change: PathChange, gate: MergeGate) -> str | None:
    """Return what is wrong with a symbolic link, or None."""
    target = change.link_target
    if target is None:
        return "has a target that is too long"
    if target.startswith("/") or "\\" in target or "\0" in target:
        return "leads out of the repository"
    parts: list[str] = [part for part in posixpath.dirname(change.path).split("/") if part]
    for part in target.split("/"):
        if part == "..":
            if not parts:
                return "leads out of the repository"
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        return "leads to the whole repository"
    # Of a link to a folder above a protected path, the gate says so, too: what it lists are paths of files.
    return "leads to a protected path" if _protects(gate, ("/".join(parts),)) else None


def _protects(gate: MergeGate, paths: Iterable[str]) -> bool:
    return bool(merge_gate.touched(gate, paths))


def _plain_path(path: str) -> bool:
    return path.isprintable() and "\\" not in path


def shown(text: str) -> str:
    """Return an untrusted name as it is shown: bounded, with escapes for what is not seen."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text[:200])


def _megabytes(count: int) -> str:
    return f"{count / 1000**2:.1f} MB"
