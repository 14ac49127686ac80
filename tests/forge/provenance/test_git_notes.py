"""Records are kept in a repository's notes, though runs push at the same time and repositories are hostile."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.workspace.sandboxed_git import Done, GitFailed
from forge.provenance import git_notes
from forge.provenance.git_notes import NotesBusy, UnknownCommits
from forge.provenance.verification import verify
from tests.forge.provenance.bare_forge import KEY, BareForge


@pytest.fixture
def forge(tmp_path: Path) -> BareForge:
    return BareForge(tmp_path)


def test_a_record_is_published_once_and_read_from_any_clone(forge: BareForge) -> None:
    for _ in range(2):
        forge.publish(forge.folder / "first", forge.line("run-1"))
    assert forge.note() == [forge.line("run-1")]
    other = forge.clone("other")
    forge.git(other, "fetch", "--quiet", "origin", "refs/notes/muster:refs/notes/muster")
    repository = forge.repository(other)
    commits = git_notes.commits_of(repository, "main~2..main")
    found = verify(git_notes.read(repository, commits), commits, {KEY.public})
    assert [[fault.code for fault in each.faults] for each in found] == [[], ["note_missing"]]


def test_two_writers_at_once_keep_both(forge: BareForge) -> None:
    folders = [forge.folder / "first", forge.clone("second")]
    lines = [forge.line(f"run-{number}") for number in range(6)]
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(forge.publish, folders[i % 2], each, tries=50) for i, each in enumerate(lines)]:
            done.result()
    assert forge.note() == sorted(lines)


def test_a_run_that_is_overtaken_adds_its_line_to_the_others(forge: BareForge) -> None:
    """Whenever ours is about to be pushed, another one was faster, twice."""
    overtaken: list[str] = []

    def run(git_dir: Path, words: Sequence[str]) -> Done:
        if words[0] == "push" and len(overtaken) < 2:
            overtaken.append(forge.line(f"other-{len(overtaken)}"))
            forge.publish(forge.folder / "first", overtaken[-1])
        return git_notes.run_local(git_dir, words)

    pauses: list[float] = []
    forge.publish(forge.folder / "first", forge.line("ours"), run=run, sleep=pauses.append, rng=lambda: 0.5)
    assert forge.note() == sorted([*overtaken, forge.line("ours")])
    assert len(pauses) == 2


def test_retries_end(forge: BareForge) -> None:
    count = 0

    def run(git_dir: Path, words: Sequence[str]) -> Done:
        nonlocal count
        if words[0] == "push":
            count += 1
            forge.publish(forge.folder / "first", forge.line(f"other-{count}"))
        return git_notes.run_local(git_dir, words)

    with pytest.raises(NotesBusy):
        forge.publish(forge.folder / "first", forge.line("ours"), run=run, tries=3, sleep=lambda _: None)
    assert count == 3
    assert len(forge.note()) == 3


def test_notes_of_others_stay(forge: BareForge) -> None:
    first = forge.folder / "first"
    forge.git(first, "notes", "--ref=muster", "add", "-m", "a person's words\n\nmore", forge.commit)
    forge.git(first, "push", "--quiet", "origin", "refs/notes/muster")
    forge.publish(first, forge.line("ours"))
    assert set(forge.note()) == {"a person's words", "more", forge.line("ours")}


def test_settings_and_hooks_of_a_hostile_repository_are_not_obeyed(forge: BareForge) -> None:
    first, trap = forge.folder / "first", forge.folder / "trap"
    script = forge.folder / "script"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    settings = {
        "core.fsmonitor": script, "core.hooksPath": forge.folder / "hooks", "core.editor": script,
        "core.pager": script,
        "gpg.program": script, "push.gpgSign": "true", f"remote.{forge.remote}.receivepack": script,
        "core.askPass": script,
        f"remote.{forge.remote}.uploadpack": script, f"url.{forge.folder}/elsewhere.insteadOf": forge.remote,
        "diff.external": script,
        "notes.displayRef": "refs/notes/*", "core.alternateRefsCommand": script,
    }  # fmt: skip
    for name, value in settings.items():
        forge.git(first, "config", name, str(value))
    (forge.folder / "hooks").mkdir()
    for hook in ("pre-push", "reference-transaction", "post-commit"):
        (forge.folder / "hooks" / hook).symlink_to(script)
        (first / ".git" / "hooks" / hook).unlink(missing_ok=True)
        (first / ".git" / "hooks" / hook).symlink_to(script)
    forge.publish(first, forge.line("run-1"))
    repository = forge.repository(first)
    assert git_notes.read(repository, git_notes.commits_of(repository, "main~1..main")) == {}
    assert not trap.exists()
    assert forge.note() == [forge.line("run-1")]


def test_a_remote_that_is_not_there_is_said(forge: BareForge) -> None:
    with pytest.raises(GitFailed, match="Looking for notes failed"):
        git_notes.publish(
            forge.repository(forge.folder / "first"), str(forge.folder / "nowhere"), forge.commit, forge.line("run-1")
        )


@pytest.mark.parametrize("name", ["nowhere", "--all", "main..nowhere", "main..main", "main...HEAD", "a\0b", "x" * 5000])
def test_unknown_commits_are_refused(forge: BareForge, name: str) -> None:
    with pytest.raises(UnknownCommits):
        git_notes.commits_of(forge.repository(forge.folder / "first"), name)
