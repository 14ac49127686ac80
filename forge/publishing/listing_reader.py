"""Reading what a fetched branch has that its base has not: commits, paths, sizes and contents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from fleet.workspace import merge_gate
from forge.publishing.errors import PublishingError
from forge.publishing.incoming import IncomingBranch
from forge.publishing.listing import FILE_MODES, LINK_MODE, BranchCommit, BranchListing, CommitIdentity, PathChange
from forge.publishing.rules import PublishingRules

BASELINE: Final = ".secrets.baseline"
_BASELINE_BYTES: Final = 4 * 1024**2
#: Bytes of a commit without its files, and of a symbolic link's target.
_COMMIT_BYTES: Final = 64 * 1024
_TARGET_BYTES: Final = 4096
#: Bytes of a list of paths.
_LIST_BYTES: Final = 8 * 1024**2
#: Bytes of a file that is searched, and of content that is read at once.
MOST_SEARCHED: Final = 8 * 1024**2
_NO_MODE: Final = "000000"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedContent:
    """A file of a commit, with its content before and after."""

    commit: str
    path: str
    old: bytes
    """Empty if the file is new, or if the old one was too long to be read."""
    new: bytes


def read(branch: IncomingBranch, rules: PublishingRules) -> BranchListing:
    """List a branch. What is above the rules' bounds is cut off, and the listing says so.

    Raises:
        PublishingError: git cannot read it.
        InvalidGate: ``.muster/merge.yaml`` of the base is not valid.
        FleetError: git took too long, or the sandbox is not there.
    """
    descends = branch.git("merge-base", "--is-ancestor", branch.base, branch.tip).status == 0
    listed = branch.output(
        *("rev-list", "--topo-order", f"--max-count={rules.commits + 1}", branch.tip, f"^{branch.base}", "--")
    )
    names = listed.decode().split()[::-1]
    sizes = _sizes(branch, names)
    cut = len(names) > rules.commits or any(sizes[name] > _COMMIT_BYTES for name in names)
    names = [name for name in names if sizes[name] <= _COMMIT_BYTES][: rules.commits]
    contents = _contents(branch, names)
    commits = [_commit(name, contents[name]) for name in names]
    changes, all_listed = _changes(branch, commits, rules)
    return BranchListing(
        base=branch.base,
        tip=branch.tip,
        descends=descends,
        commits=tuple(replace(commit, changes=tuple(changes.get(commit.sha, ()))) for commit in commits),
        cut=cut or not all_listed,
        baseline=_of_base(branch, branch.base, BASELINE, _BASELINE_BYTES),
        protected=_gate_paths(branch),
    )


def changed_contents(branch: IncomingBranch, listing: BranchListing, *, longest: int) -> Iterator[ChangedContent]:
    """Yield the content of each file that is added or changed, some at a time. Files above `longest` bytes are left
    out, and at most 8 MB are read of any.

    Raises:
        PublishingError: git cannot read them.
        FleetError: git took too long, or the sandbox is not there.
    """
    longest = min(longest, MOST_SEARCHED)
    changes = [
        (commit.sha, change)
        for commit in listing.commits
        for change in commit.changes
        if change.blob is not None and change.mode in (*FILE_MODES, LINK_MODE) and change.size <= longest
    ]
    old = _sizes(branch, [change.old_blob for _, change in changes if change.old_blob is not None])
    batch: list[tuple[str, PathChange]] = []
    held = 0
    for commit, change in changes:
        count = change.size + (size if (size := old.get(change.old_blob or "", 0)) <= longest else 0)
        if batch and held + count > MOST_SEARCHED:
            yield from _batch(branch, batch, old, longest)
            batch, held = [], 0
        batch.append((commit, change))
        held += count
    yield from _batch(branch, batch, old, longest)


def _batch(
    branch: IncomingBranch, changes: Sequence[tuple[str, PathChange]], old: Mapping[str, int], longest: int
) -> Iterator[ChangedContent]:
    wanted = {change.blob for _, change in changes if change.blob is not None}
    wanted |= {change.old_blob for _, change in changes if change.old_blob and old[change.old_blob] <= longest}
    contents = _contents(branch, sorted(wanted))
    for commit, change in changes:
        yield ChangedContent(
            commit=commit,
            path=change.path,
            old=contents.get(change.old_blob or "", b""),
            new=contents.get(change.blob or "", b""),
        )


def _sizes(branch: IncomingBranch, names: Iterable[str]) -> dict[str, int]:
    """Return the sizes of objects in bytes."""
    names = list(dict.fromkeys(names))
    if not names:
        return {}
    told = "".join(f"{name}\n" for name in names).encode()
    said = branch.output("cat-file", "--batch-check=%(objectname) %(objectsize)", "--buffer", told=told)
    sizes = {}
    for line in said.decode().splitlines():
        name, _, size = line.partition(" ")
        if not size.isdigit():
            raise PublishingError(f"The branch lacks the object {name[:80]}. Have the agent make its commits again.")
        sizes[name] = int(size)
    return sizes


def _contents(branch: IncomingBranch, names: Sequence[str]) -> dict[str, bytes]:
    """Return the content of objects, whose sizes are known to be bounded."""
    if not names:
        return {}
    told = "".join(f"{name}\n" for name in names).encode()
    said = branch.output("cat-file", "--batch", "--buffer", told=told)
    contents = {}
    at = 0
    while at < len(said):
        end = said.index(b"\n", at)
        name, _, size = said[at:end].decode().split(" ")
        contents[name] = said[end + 1 : end + 1 + int(size)]
        at = end + 1 + int(size) + 1
    return contents


def _commit(sha: str, content: bytes) -> BranchCommit:
    """Read a commit object as it is stored, so that no setting and no encoding hides a part of it."""
    head, _, message = content.partition(b"\n\n")
    parents, names = [], []
    identities = dict.fromkeys(("author", "committer"), CommitIdentity(name="", email=""))
    for line in head.decode("utf-8", "replace").split("\n"):
        if line.startswith(" "):
            continue
        name, _, value = line.partition(" ")
        names.append(name)
        if name == "parent":
            parents.append(value)
        elif name in identities:
            who, _, rest = value.partition(" <")
            identities[name] = CommitIdentity(name=who, email=rest.rpartition(">")[0])
    return BranchCommit(
        sha=sha,
        parents=tuple(parents),
        author=identities["author"],
        committer=identities["committer"],
        message=message.decode("utf-8", "replace"),
        headers=tuple(names),
    )


def _changes(
    branch: IncomingBranch, commits: Sequence[BranchCommit], rules: PublishingRules
) -> tuple[dict[str, list[PathChange]], bool]:
    """Return what each commit changes from its first parent, and whether that is all."""
    if not commits:
        return {}, True
    told = "".join(f"{' '.join((commit.sha, *commit.parents[:1]))}\n" for commit in commits).encode()
    words = ("diff-tree", "--stdin", "-r", "-z", "--root", "--raw", "--no-abbrev", "--no-renames", "--no-ext-diff")
    done = branch.git(*words, told=told, cut_at=_LIST_BYTES)
    if done.status != 0:
        # A few small trees can stand for any number of files: git keeps the list in memory, which is bounded.
        return {}, False
    tokens = done.output.split(b"\0")
    tokens.pop()
    changes: dict[str, list[PathChange]] = {}
    commit, count = "", 0
    whole = not done.cut
    words_of = iter(tokens)
    for token in words_of:
        if not token.startswith(b":"):
            commit = token.decode()
            continue
        path = next(words_of, None)
        if path is None or count > rules.files:
            whole = whole and path is not None
            break
        count += 1
        old_mode, mode, old_blob, blob, _ = token[1:].decode().split(" ")
        gone = mode == _NO_MODE
        changes.setdefault(commit, []).append(
            PathChange(
                path=path.decode("utf-8", "surrogateescape"),
                mode=None if gone else mode,
                blob=None if gone else blob,
                # The commit of a submodule is no object of this repository.
                old_blob=old_blob if old_mode in (*FILE_MODES, LINK_MODE) else None,
            )
        )
    return _sized(branch, changes), whole


def _sized(branch: IncomingBranch, changes: Mapping[str, list[PathChange]]) -> dict[str, list[PathChange]]:
    files = (*FILE_MODES, LINK_MODE)
    every = [change for listed in changes.values() for change in listed]
    sizes = _sizes(branch, [change.blob for change in every if change.blob is not None and change.mode in files])
    links = [
        change.blob
        for change in every
        if change.mode == LINK_MODE and change.blob is not None and sizes[change.blob] <= _TARGET_BYTES
    ]
    targets = _contents(branch, list(dict.fromkeys(links)))
    return {
        commit: [
            replace(
                change,
                size=sizes.get(change.blob or "", 0),
                link_target=targets[change.blob].decode("utf-8", "surrogateescape")
                if change.mode == LINK_MODE and change.blob in targets
                else None,
            )
            for change in listed
        ]
        for commit, listed in changes.items()
    }


def _gate_paths(branch: IncomingBranch) -> tuple[str, ...]:
    paths: list[str] = []
    for base in dict.fromkeys((branch.base, branch.newest_base or branch.base)):
        content = _of_base(branch, base, merge_gate.PATH, merge_gate.LONGEST)
        paths += () if content is None else merge_gate.read(content).protected
    return tuple(dict.fromkeys(paths))


def _of_base(branch: IncomingBranch, base: str, path: str, most: int) -> bytes | None:
    """Return a file of a base; None if there is none, or something else, or a longer one."""
    entry = branch.output("ls-tree", "-l", base, "--", path).decode("utf-8", "replace")
    words = entry.partition("\t")[0].split()
    if not words or words[0] not in FILE_MODES or not words[3].isdigit() or int(words[3]) > most:
        return None
    return branch.output("cat-file", "blob", words[2])
