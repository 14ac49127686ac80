"""The branch of an agent is merged as a person would, or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fleet.workspace import branch_merge
from fleet.workspace.branch_merge import Merged
from fleet.workspace.merge_trial import MergeRequest, NotMerged
from tests.fleet.workspace.repository import Ground

BRANCH = "muster/coder0"


def committed(ground: Ground, name: str, text: str) -> None:
    """A commit of the agent, on its branch."""
    ground.git("checkout", "--quiet", "-B", BRANCH, BRANCH if _is_there(ground) else "main")
    ground.commit(name, text)
    ground.git("update-ref", "refs/muster-agents/coder0", "HEAD")
    ground.git("checkout", "--quiet", "main")


def request(ground: Ground, title: str = "it", **more: Any) -> MergeRequest:
    return MergeRequest(source=ground.project, agent="coder0", folder=ground.clone.folder, title=title, **more)


def merge(ground: Ground, title: str = "it", **more: Any) -> Merged | None:
    return branch_merge.merge(request(ground, title, **more))


def discard(ground: Ground) -> bool:
    return branch_merge.discard(ground.project, "coder0", branch_merge.set_aside(ground.project, "coder0").commit)


def _is_there(ground: Ground) -> bool:
    return bool(ground.git("branch", "--list", BRANCH))


def test_a_branch_that_is_ahead_is_taken_over_as_it_is(ground: Ground) -> None:
    committed(ground, "page", "one")
    committed(ground, "page", "two")
    merged = merge(ground, "two pages")
    assert merged is not None
    assert (merged.into, merged.words()) == ("main", "2 commits")
    assert (ground.project / "page").read_text() == "two"
    assert ground.git("rev-parse", "main") == ground.git("rev-parse", BRANCH)
    assert ground.git("status", "--porcelain") == ""
    assert merge(ground, "two pages") is None


def test_branches_that_went_apart_are_joined(ground: Ground) -> None:
    committed(ground, "page", "one")
    ground.commit("other", "mine")
    (ground.project / "notes").write_text("not committed")
    assert merge(ground, "a page") is not None
    assert (ground.project / "page").read_text() == "one"
    assert (ground.project / "other").read_text() == "mine"
    assert (ground.project / "notes").read_text() == "not committed"
    assert ground.git("log", "-1", "--format=%s") == f"Merge {BRANCH}: a page"
    assert len(ground.git("log", "-1", "--format=%P").split()) == 2


def test_conflicts_change_nothing(ground: Ground) -> None:
    committed(ground, "read.me", "theirs")
    ground.commit("read.me", "ours")
    before = ground.git("rev-parse", "HEAD")
    with pytest.raises(NotMerged, match=r"conflicts in `read\.me`"):
        merge(ground, "it")
    assert ground.git("rev-parse", "HEAD") == before
    assert ground.git("status", "--porcelain") == ""


def test_changes_of_the_person_are_not_written_over(ground: Ground) -> None:
    committed(ground, "read.me", "theirs")
    (ground.project / "read.me").write_text("not committed")
    with pytest.raises(NotMerged, match="Commit or stash"):
        merge(ground, "it")
    assert (ground.project / "read.me").read_text() == "not committed"


def test_without_a_checked_out_branch_nothing_is_merged(ground: Ground) -> None:
    committed(ground, "page", "one")
    ground.git("checkout", "--quiet", "--detach")
    with pytest.raises(NotMerged, match="no branch is checked out"):
        merge(ground, "it")


def test_only_the_branch_from_which_the_agent_began_gets_its_commits(ground: Ground) -> None:
    committed(ground, "page", "one")
    ground.git("checkout", "--quiet", "-b", "release")
    before = ground.git("rev-parse", "release")
    with pytest.raises(NotMerged, match=r"began from the branch `main`, but `release` is checked out in .*keep") as why:
        merge(ground, "it", began_on="main")
    assert len(str(why.value).splitlines()) == 1
    assert ground.git("rev-parse", "release") == before
    assert not (ground.project / "page").exists()
    ground.git("checkout", "--quiet", "main")
    assert merge(ground, "it", began_on="main") is not None
    # What is there already is no reason to complain about the branch.
    ground.git("checkout", "--quiet", "-B", "release", "main")
    assert merge(ground, "it", began_on="main") is None


def test_what_a_repository_names_runs_where_it_reaches_nothing(ground: Ground, tmp_path: Path) -> None:
    """An agent may have worked right in the repository once, and left settings and hooks."""
    proof = tmp_path / "proof"
    committed(ground, ".gitattributes", "page filter=evil\nread.me merge=evil\n")
    committed(ground, "page", "one")
    committed(ground, "read.me", "theirs\n")
    ground.commit("other", "mine")
    for hook in ("post-merge", "post-checkout", "pre-merge-commit", "reference-transaction"):
        file = ground.project / ".git" / "hooks" / hook
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\ntouch {proof}\n")
        file.chmod(0o755)
    ground.git("config", "filter.evil.smudge", f"touch {proof}; cat")
    ground.git("config", "merge.evil.driver", f"touch {proof}; exit 1")
    merge(ground, "it")
    assert not proof.exists()
    assert (ground.project / "page").exists()


def test_a_bare_repository_gets_the_merge_too(ground: Ground, tmp_path: Path) -> None:
    committed(ground, "page", "one")
    ground.commit("other", "mine")
    bare = tmp_path / "bare.git"
    ground.git("clone", "--quiet", "--bare", str(ground.project), str(bare))
    assert branch_merge.merge(dataclasses.replace(request(ground, "a page"), source=bare)) is not None
    assert ground.git("show", "main:page", cwd=bare) == "one"


def test_a_discarded_branch_is_gone_unless_it_is_checked_out(ground: Ground) -> None:
    committed(ground, "page", "one")
    ground.git("checkout", "--quiet", BRANCH)
    discard(ground)
    assert _is_there(ground)
    ground.git("checkout", "--quiet", "main")
    discard(ground)
    assert not _is_there(ground)
    discard(ground)


def test_a_branch_of_somebody_else_with_that_name_is_neither_merged_nor_deleted(ground: Ground) -> None:
    """A new installation counts its topics from 1 again."""
    committed(ground, "page", "one")
    ground.git("branch", "--quiet", "-f", BRANCH, "main")
    ground.git("checkout", "--quiet", BRANCH)
    ground.commit("other", "an earlier agent's")
    ground.git("checkout", "--quiet", "main")
    with pytest.raises(NotMerged, match=r"other commits than the agent's.*refs/muster-agents/coder0"):
        merge(ground, "it")
    discard(ground)
    assert _is_there(ground)


def test_what_a_person_added_to_the_branch_is_merged_and_not_discarded(ground: Ground) -> None:
    committed(ground, "page", "one")
    ground.git("checkout", "--quiet", BRANCH)
    ground.commit("page", "a person's")
    ground.git("checkout", "--quiet", "main")
    discard(ground)
    assert _is_there(ground)
    assert merge(ground, "it") is not None
    assert (ground.project / "page").read_text() == "a person's"
