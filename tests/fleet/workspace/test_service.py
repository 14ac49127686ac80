"""An agent's clone of a repository, with the real git in the real sandbox."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet import workspace
from fleet.errors import FleetError
from fleet.workspace import Collected, NotClean, branch_update, clone_record
from fleet.workspace.branch_update import Branch
from tests.fleet.workspace.repository import Ground

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)


# --- making ------------------------------------------------------------------------------------------------------


def test_the_agent_works_in_a_clone_on_a_branch_of_its_own(ground: Ground) -> None:
    ground.git("branch", "other")
    ground.prepare()
    assert ground.agent("git branch --show-current; cat read.me; git status --porcelain") == "muster/coder0\nhello"
    assert ground.agent("git rev-parse origin/main origin/other").split() == [ground.git("rev-parse", "main")] * 2
    # It could not commit otherwise, and its commits are known for its own.
    ground.work()
    assert ground.agent("git log -1 --format='%an %ae'") == "coder0 coder0@muster.invalid"
    # The person's repository has no part in it.
    assert ground.git("status", "--porcelain") == ""
    assert ground.git("branch", "--show-current") == "main"


def test_a_clone_is_small_and_what_it_borrows_cannot_be_changed(ground: Ground) -> None:
    (ground.project / "large").write_bytes(b"".join(str(number).encode() for number in range(400_000)))
    ground.git("add", "large")
    ground.git("commit", "--quiet", "-m", "large")
    ground.prepare()
    in_git = sum(path.stat().st_size for path in (ground.clone.place / ".git").rglob("*") if path.is_file())
    assert in_git < 50_000
    objects = ground.project / ".git" / "objects"
    before = {path: path.read_bytes() for path in objects.rglob("*") if path.is_file()}
    ground.agent(f"chmod -R u+w {objects} || :; rm -rf {objects}/* || :; cp /dev/null {objects}/info/alternates || :")
    assert {path: path.read_bytes() for path in objects.rglob("*") if path.is_file()} == before


def test_the_agent_sees_branches_and_commits_but_no_settings_hooks_or_files_of_the_person(ground: Ground) -> None:
    ground.git("config", "remote.origin.url", "https://ana:token@example.org/project")
    (ground.project / "notes").write_text("private")
    ground.prepare()
    assert "token" not in ground.agent("git config --list; grep -r token .git || true")
    seen = ground.agent(f"ls -A {ground.project} {ground.project}/.git")
    assert seen.split() == [f"{ground.project}:", ".git", f"{ground.project}/.git:", "objects", "refs"]
    assert ground.agent(f"ls -A {ground.clone.folder}") == "origin"


def test_the_agent_fetches_what_the_person_committed_since(ground: Ground) -> None:
    ground.prepare()
    later = ground.commit("later", "x")
    assert ground.agent("git fetch -q origin; git rev-parse origin/main") == later
    # What git has packed meanwhile is there at the next start.
    last = ground.commit("last", "x")
    ground.git("gc", "--quiet")
    ground.prepare()
    assert ground.agent("git fetch -q origin; git rev-parse origin/main") == last
    ground.agent("git merge -q --ff-only origin/main; cat last")


def test_preparing_again_changes_nothing(ground: Ground) -> None:
    ground.prepare()
    commit = ground.work()
    ground.agent("echo open > unfinished")
    ground.commit("later", "x")
    ground.prepare()
    assert ground.agent("git rev-parse HEAD; cat unfinished") == f"{commit}\nopen"


def test_of_two_starts_at_once_one_makes_the_clone(ground: Ground) -> None:
    ready = threading.Barrier(4)

    def start(_: int) -> None:
        ready.wait()
        Ground(ground.folder).prepare()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    assert [path.name for path in ground.clone.place.parent.iterdir()] == ["coder0"]
    ground.prepare()
    ground.work()


def test_another_folder_in_the_place_of_the_clone_is_never_taken_for_it(ground: Ground) -> None:
    ground.clone.place.mkdir(parents=True)
    (ground.clone.place / "file").write_text("work")
    with pytest.raises(FleetError, match=r"something that is no clone of it.*kill coder0 --discard"):
        ground.prepare()
    assert (ground.clone.place / "file").read_text() == "work"


def test_an_empty_folder_in_the_place_of_the_clone_is_no_hindrance(ground: Ground) -> None:
    ground.clone.place.mkdir(parents=True)
    assert ground.prepare().agent("ls") == "read.me"


def test_a_clone_of_another_repository_is_never_taken_for_it(ground: Ground) -> None:
    ground.prepare()
    other = ground.folder / "other"
    ground.git("clone", "--quiet", str(ground.project), str(other))
    with pytest.raises(FleetError, match=f"a clone of {ground.project}"):
        ground.prepare(other)


def test_a_clone_that_was_deleted_by_hand_is_made_anew(ground: Ground) -> None:
    ground.prepare()
    ground.work()
    shutil.rmtree(ground.clone.place)
    ground.prepare()
    assert ground.agent("ls") == "read.me"


# --- all kinds of repositories -----------------------------------------------------------------------------------


def test_an_empty_repository_gets_its_first_commits_from_the_agent(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.project.mkdir(parents=True)
    ground.git("init", "--quiet", "-b", "main")
    ground.prepare()
    assert ground.collect() is None
    commit = ground.work()
    collected = ground.collect()
    assert collected is not None
    assert (collected.commits, ground.at("refs/heads/muster/coder0")) == (1, commit)


def test_an_unborn_branch_beside_others_begins_with_nothing(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "--orphan", "fresh")
    ground.prepare()
    assert ground.agent("ls; git branch --show-current; git rev-parse origin/main") == (
        f"muster/coder0\n{ground.git('rev-parse', 'main')}"
    )
    ground.work()
    assert ground.agent("git rev-list --count HEAD") == "1"


def test_a_detached_head_is_where_the_agent_begins(ground: Ground) -> None:
    first = ground.git("rev-parse", "HEAD")
    ground.commit("second", "x")
    ground.git("checkout", "--quiet", first)
    ground.prepare()
    assert ground.agent("git rev-parse HEAD; git branch --show-current; ls") == f"{first}\nmuster/coder0\nread.me"


def test_a_clone_remembers_the_branch_from_which_it_was_made(ground: Ground) -> None:
    ground.prepare()
    ground.git("checkout", "--quiet", "-b", "release")
    record = ground.prepare().clone.record()
    assert record is not None
    assert record.began_on == "main"
    # That of an earlier version of Muster does not say.
    file = ground.clone.folder / clone_record.NAME
    known = json.loads(file.read_text())
    del known["began_on"]
    file.write_text(json.dumps(known))
    earlier = ground.clone.record()
    assert earlier is not None
    assert earlier.began_on is None


def test_a_bare_repository_is_cloned_as_well(ground: Ground) -> None:
    bare = ground.folder / "bare.git"
    ground.git("clone", "--quiet", "--bare", str(ground.project), str(bare))
    ground.prepare(bare)
    commit = ground.work()
    assert ground.collect() is not None
    assert ground.git("rev-parse", "refs/heads/muster/coder0", cwd=bare) == commit


def test_a_linked_worktree_is_cloned_as_it_stands_there(ground: Ground) -> None:
    tree = ground.folder / "tree"
    ground.git("worktree", "add", "--quiet", "-b", "topic", str(tree))
    there = ground.commit("there", "x", cwd=tree)
    ground.prepare(tree)
    assert ground.agent("git rev-parse HEAD; ls") == f"{there}\nread.me\nthere"
    commit = ground.work()
    collected = ground.collect()
    assert collected is not None
    assert collected.folder == tree
    assert ground.at("refs/heads/muster/coder0") == commit


def test_a_repository_whose_history_was_cut_off_is_copied(ground: Ground) -> None:
    for number in range(3):
        ground.commit(f"file{number}", "x")
    shallow = ground.folder / "shallow"
    ground.git("clone", "--quiet", "--depth=1", f"file://{ground.project}", str(shallow))
    ground.prepare(shallow)
    assert ground.agent("git rev-list --count HEAD; ls") == "1\nfile0\nfile1\nfile2\nread.me"
    commit = ground.work()
    collected = ground.collect()
    assert collected is not None
    assert (collected.commits, ground.git("rev-parse", "muster/coder0", cwd=shallow)) == (1, commit)
    later = ground.commit("later", "x", cwd=shallow)
    assert ground.agent("git fetch -q origin; git rev-parse origin/main") == later


def test_a_repository_that_borrows_from_another_can_be_cloned(ground: Ground) -> None:
    borrowing = ground.folder / "borrowing"
    ground.git("clone", "--quiet", "--shared", str(ground.project), str(borrowing))
    ground.prepare(borrowing)
    assert ground.agent("git log --oneline | wc -l; cat read.me") == "1\nhello"
    ground.work()
    assert ground.collect() is not None


def test_hashes_of_the_other_kind_are_no_hindrance(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.project.mkdir(parents=True)
    ground.git("init", "--quiet", "-b", "main", "--object-format=sha256")
    ground.commit("read.me", "hello")
    ground.prepare()
    commit = ground.work()
    assert len(commit) == 64
    assert ground.collect() is not None
    assert ground.at("refs/heads/muster/coder0") == commit


def test_a_submodule_is_a_repository_and_submodules_stay_empty(ground: Ground) -> None:
    part = ground.folder / "part"
    part.mkdir()
    ground.git("init", "--quiet", "-b", "main", cwd=part)
    ground.commit("inner", "x", cwd=part)
    ground.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part), "sub")
    ground.git("commit", "--quiet", "-m", "sub")
    ground.prepare()
    assert ground.agent("ls sub; git status --porcelain") == ""
    ground.clone.remove(discard=True)
    ground.prepare(ground.project / "sub")
    assert ground.agent("ls") == "inner"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("mv objects real; ln -s real objects", "objects is a link"),
        ("mv refs real; ln -s real refs", "refs is a link"),
        ("ln -s /etc/passwd packed-refs", "packed-refs is a link"),
        ("mkdir reftable", "as a reftable"),
        ("cd ..; mv .git elsewhere; ln -s elsewhere .git", "does not say it belongs there"),
        ("cd ..; mv .git elsewhere; echo gitdir: elsewhere > .git", "does not say it belongs there"),
        (
            "cd ..; mv .git elsewhere; echo gitdir: elsewhere > .git; printf 'worktree = a\\0b\\n' >> elsewhere/config",
            "does not say it belongs there",
        ),
        ("touch objects/pack/pack-1.promisor", "partial clone"),
    ],
)
def test_a_repository_of_which_no_clone_can_be_made_says_why(ground: Ground, spoil: str, words: str) -> None:
    subprocess.run(["/bin/sh", "-ec", spoil], cwd=ground.project / ".git", check=True)
    with pytest.raises(FleetError, match=f"{words}.*clone: false"):
        ground.repository()


def test_a_repository_in_musters_own_folder_is_refused(ground: Ground) -> None:
    ground.prepare()
    with pytest.raises(FleetError, match="lies in Muster's own folder"):
        ground.repository(ground.clone.place)


def test_a_head_that_names_nothing_is_said_to(ground: Ground) -> None:
    (ground.project / ".git" / "HEAD").write_text("nonsense\n")
    with pytest.raises(FleetError, match=r"names no branch and no commit|not a git repository"):
        ground.prepare()
    assert not ground.clone.place.exists()


def test_other_folders_are_no_repositories(ground: Ground) -> None:
    (ground.project / "src").mkdir()
    assert workspace.find(ground.project / "src") is None
    half = ground.folder / "half" / ".git"
    half.mkdir(parents=True)
    (half / "HEAD").write_text("ref: refs/heads/main\n")
    assert workspace.find(half.parent) is None
    (ground.folder / "file").mkdir()
    (ground.folder / "file" / ".git").write_text("gitdir: /nowhere\n")
    assert workspace.find(ground.folder / "file") is None


def test_what_the_person_has_not_committed_stays_theirs_and_is_counted(ground: Ground) -> None:
    assert workspace.uncommitted(ground.repository()) == 0
    (ground.project / "read.me").write_text("changed")
    (ground.project / "new").write_text("new")
    assert workspace.uncommitted(ground.repository()) == 2
    ground.prepare()
    assert ground.agent("cat read.me; echo; ls") == "hello\nread.me"
    tree = ground.folder / "tree"
    ground.git("worktree", "add", "--quiet", str(tree))
    (tree / "new").write_text("x")
    assert workspace.uncommitted(ground.repository(tree)) == 1


# --- taking over -------------------------------------------------------------------------------------------------


def test_what_the_agent_commits_comes_into_the_persons_repository(ground: Ground) -> None:
    ground.prepare()
    assert ground.collect() is None
    assert ground.at("refs/heads/muster/coder0") is None
    ground.work("one")
    last = ground.work("two")
    collected = ground.collect()
    assert collected is not None
    assert collected.sentence() == f"2 commits on muster/coder0 in {ground.project}."
    assert ground.at("refs/heads/muster/coder0") == last
    assert ground.collect() is None
    last = ground.work("three")
    collected = ground.collect()
    assert collected is not None
    assert collected.sentence() == f"1 commit on muster/coder0 in {ground.project}."
    # The person's own things were not touched.
    assert ground.git("status", "--porcelain") == ""
    assert not (ground.project / ".git" / "FETCH_HEAD").exists()
    ground.git("fsck", "--strict")


def test_what_nobody_was_told_of_is_told_again(ground: Ground) -> None:
    ground.prepare()
    ground.work("one")
    first = ground.clone.collect()
    assert first is not None
    assert ground.clone.collect() == first
    # Also when the agent rewrote meanwhile what was fetched already.
    last = ground.agent("git commit -q --amend -m other; git rev-parse HEAD")
    again = ground.collect()
    assert again is not None
    assert (again.commits, again.held) == (1, "")
    assert ground.at("refs/heads/muster/coder0") == last


def test_only_its_own_branch_is_taken_and_no_tags(ground: Ground) -> None:
    ground.prepare()
    ground.work()
    ground.agent(
        "git tag v9; git branch main2; git checkout -qb main origin/main; echo x > x; git add x; git commit -qm x"
    )
    before = ground.git("rev-parse", "main")
    assert ground.collect() is not None
    refs = ground.git("for-each-ref", "--format=%(refname)").splitlines()
    assert refs == ["refs/heads/main", "refs/heads/muster/coder0", "refs/muster-agents/coder0"]
    assert ground.git("rev-parse", "main") == before


def test_a_branch_that_the_agent_rewrote_is_followed(ground: Ground) -> None:
    ground.prepare()
    ground.work("one")
    ground.collect()
    rewritten = ground.agent("git commit -q --amend -m other; git rev-parse HEAD")
    collected = ground.collect()
    assert collected is not None
    assert (collected.commits, collected.held) == (1, "")
    assert ground.at("refs/heads/muster/coder0") == rewritten
    ground.agent("git reset -q --hard origin/main")
    collected = ground.collect()
    assert collected is not None
    assert collected.sentence().endswith(f"is at {ground.git('rev-parse', '--short=12', 'main')} again.")


def test_commits_of_the_persons_on_that_branch_are_never_lost(ground: Ground) -> None:
    ground.prepare()
    ground.work("one")
    ground.collect()
    ground.git("checkout", "--quiet", "muster/coder0")
    own = ground.commit("mine", "x")
    ground.git("checkout", "--quiet", "main")
    last = ground.work("two")
    collected = ground.collect()
    assert collected is not None
    assert collected.held == "diverged"
    assert "left as it is" in collected.sentence()
    assert ground.at("refs/heads/muster/coder0") == own
    assert ground.at("refs/muster-agents/coder0") == last
    # Said once; and when the person gave their commits up, it goes on.
    assert ground.collect() is None
    ground.git("branch", "--force", "muster/coder0", "main")
    collected = ground.collect()
    assert collected is not None
    assert collected.held == ""
    assert ground.at("refs/heads/muster/coder0") == last


def test_a_branch_that_the_person_has_checked_out_is_not_moved_under_their_feet(ground: Ground) -> None:
    ground.prepare()
    first = ground.work("one")
    ground.collect()
    tree = ground.folder / "look"
    ground.git("worktree", "add", "--quiet", str(tree), "muster/coder0")
    last = ground.work("two")
    collected = ground.collect()
    assert collected is not None
    assert "git merge muster-agents/coder0 there" in collected.sentence()
    assert ground.git("rev-parse", "HEAD", cwd=tree) == first
    assert ground.git("status", "--porcelain", cwd=tree) == ""
    # What the sentence says works.
    ground.git("merge", "--quiet", "refs/muster-agents/coder0", cwd=tree)
    assert ground.git("rev-parse", "HEAD", cwd=tree) == last


def test_the_branch_is_the_only_thing_with_its_name(ground: Ground) -> None:
    ground.prepare()
    ground.work()
    ground.collect()
    assert ground.git("rev-parse", "--symbolic-full-name", "muster/coder0") == "refs/heads/muster/coder0"


def test_what_an_earlier_version_kept_is_renamed(ground: Ground) -> None:
    ground.prepare()
    first = ground.work("one")
    ground.collect()
    ground.git("update-ref", "refs/muster/coder0", first)
    ground.git("update-ref", "-d", "refs/muster-agents/coder0")
    last = ground.work("two")
    ground.collect()
    assert ground.at("refs/muster/coder0") is None
    assert (ground.at("refs/muster-agents/coder0"), ground.at("refs/heads/muster/coder0")) == (last, last)


def test_a_branch_called_muster_stands_in_the_way_and_nothing_is_lost(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "muster")
    ground.prepare()
    last = ground.work()
    collected = ground.collect()
    assert collected is not None
    assert "there is a branch muster" in collected.sentence()
    assert ground.at("refs/muster-agents/coder0") == last
    ground.git("branch", "-m", "muster", "renamed")
    assert ground.collect() is not None
    assert ground.at("refs/heads/muster/coder0") == last


def test_a_branch_that_the_person_merged_and_deleted_comes_back_with_new_commits_only(ground: Ground) -> None:
    ground.prepare()
    ground.work("one")
    ground.collect()
    ground.git("merge", "--quiet", "muster/coder0")
    ground.git("branch", "--quiet", "-d", "muster/coder0")
    assert ground.collect() is None
    assert ground.at("refs/heads/muster/coder0") is None
    ground.work("two")
    collected = ground.collect()
    assert collected is not None
    assert collected.commits == 1


def test_commits_without_anything_new_show_nothing(ground: Ground) -> None:
    ground.prepare()
    clone = ground.clone.place

    def collected() -> Collected:
        found = ground.collect()
        assert found is not None
        return found

    first = ground.work("one")
    assert collected().shows
    ground.git("commit", "--quiet", "--allow-empty", "-m", "nothing", cwd=clone)
    assert not collected().shows
    ground.work("two")
    ground.git("commit", "--quiet", "--allow-empty", "-m", "nothing", cwd=clone)
    assert collected().shows, "there is one that does"
    ground.git("revert", "--no-edit", "HEAD~1", cwd=clone)
    assert not collected().shows, "to and fro is nothing new"
    ground.git("reset", "--quiet", "--hard", first, cwd=clone)
    assert collected().commits == 0


def test_settings_of_the_person_do_not_reach_further_than_they_should(ground: Ground) -> None:
    """Their hooks do not run over what an agent committed, and no other setting turns the fetch into something else."""
    mark = ground.folder / "ran"
    hooks = ground.project / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-merge", "post-checkout", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / name).chmod(0o755)
    for key, value in {
        "core.fsmonitor": f"touch {mark}",
        "core.alternateRefsCommand": f"touch {mark}",
        "uploadpack.packObjectsHook": f"touch {mark}",
        "fetch.prune": "true",
        "fetch.recurseSubmodules": "true",
        "gc.auto": "1",
    }.items():
        ground.git("config", key, value)
    shutil.rmtree(ground.folder / "ran", ignore_errors=True)
    mark.unlink(missing_ok=True)
    ground.prepare()
    ground.work()
    assert ground.collect() is not None
    assert not mark.exists()


@pytest.mark.parametrize(
    ("branch", "behind", "last", "move", "held"),
    [
        (None, False, "b", True, ""),
        (("t", False), True, "b", False, ""),
        (("b", False), False, "b", True, ""),
        (("b", True), True, "b", False, "checked out"),
        (("x", False), True, "b", True, ""),
        (("x", False), False, "b", False, "diverged"),
        (("x", True), False, "b", False, "diverged"),
        (("x", False), False, None, False, "diverged"),
    ],
)
def test_the_persons_branch_is_moved_only_where_nothing_is_lost(
    branch: tuple[str, bool] | None, behind: bool, last: str | None, move: bool, held: str
) -> None:
    stands = Branch(commit=branch[0], checked_out=branch[1]) if branch is not None else None
    step = branch_update.step(stands, tip="t", ours=(last,), behind=behind)
    assert (step.move, step.held) == (move, held)


# --- the person cleans up ----------------------------------------------------------------------------------------


def test_what_the_clone_stands_on_outlives_the_persons_gc(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "topic")
    topic = ground.commit("topic", "x")
    ground.prepare()
    ground.git("checkout", "--quiet", "main")
    ground.git("branch", "--quiet", "-D", "topic")
    ground.git("reflog", "expire", "--expire=now", "--all")
    ground.git("gc", "--quiet", "--prune=now")
    ground.prepare()
    commit = ground.work()
    assert ground.agent("git log --format=%H").split()[1] == topic
    assert ground.collect() is not None
    assert ground.git("rev-parse", "muster/coder0~1") == topic
    assert ground.git("rev-parse", "muster/coder0") == commit


def test_a_branch_that_is_gone_for_good_does_not_keep_the_agent_from_working(ground: Ground) -> None:
    ground.git("checkout", "--quiet", "-b", "gone")
    ground.commit("gone", "x")
    ground.git("checkout", "--quiet", "main")
    ground.prepare()
    ground.git("branch", "--quiet", "-D", "gone")
    ground.git("reflog", "expire", "--expire=now", "--all")
    ground.git("gc", "--quiet", "--prune=now")
    ground.prepare()
    later = ground.commit("later", "x")
    ground.agent("git fetch -q origin; git merge -q origin/main")
    ground.work()
    assert ground.collect() is not None
    assert ground.git("rev-parse", "muster/coder0~1") == later
    assert ground.clone.inspect().clean


def test_a_repository_that_is_gone_is_said_to_be_and_the_clone_can_still_be_given_up(ground: Ground) -> None:
    ground.prepare()
    ground.work()
    shutil.rmtree(ground.project)
    for act in (ground.collect, ground.clone.inspect, ground.clone.remove):
        with pytest.raises(FleetError, match=r"is not there any more.*kill coder0 --discard"):
            act()
    assert ground.clone.remove(discard=True)
    assert not ground.clone.place.exists()


# --- removing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("leave", "words"),
    [
        ("echo x > read.me", "1 file with changes"),
        ("echo x > new; mkdir sub; echo x > sub/new", "2 files with changes"),
        ("git checkout -qb side; echo x > x; git add x; git commit -qm x; git checkout -q -", "1 commit that"),
        ("git checkout -q --detach; echo x > x; git add x; git commit -qm x", "1 commit that"),
        ("echo x > read.me; git stash -q", "2 commits that"),
        ("git config core.worktree /tmp; git config status.showUntrackedFiles no; echo x > new", "1 file with changes"),
    ],
)
def test_a_clone_with_what_is_nowhere_else_stays(ground: Ground, leave: str, words: str) -> None:
    ground.prepare()
    ground.agent(leave)
    with pytest.raises(NotClean, match=f"{words}.*--discard"):
        ground.clone.remove()
    assert ground.agent("ls read.me") == "read.me"
    assert ground.clone.remove(discard=True)
    assert not ground.clone.place.exists()
    assert list(ground.clone.place.parent.iterdir()) == []


def test_removing_takes_over_what_was_committed_last(ground: Ground) -> None:
    ground.prepare()
    commit = ground.work()
    ground.agent("echo built > out; mkdir .git/info; echo out > .git/info/exclude")
    assert ground.clone.remove()
    assert not ground.clone.place.exists()
    assert ground.at("refs/heads/muster/coder0") == commit
    assert ground.at("refs/muster-agents/coder0") is None
    assert not ground.clone.remove()


def test_discarding_keeps_what_was_fetched_and_a_new_clone_begins_anew(ground: Ground) -> None:
    ground.prepare()
    fetched = ground.work("one")
    ground.collect()
    ground.work("two")
    assert ground.clone.remove(discard=True)
    assert ground.at("refs/heads/muster/coder0") == fetched
    ground.prepare()
    assert ground.agent("ls") == "read.me"
    # The person's branch has the old commits, and keeps them.
    last = ground.work("three")
    collected = ground.collect()
    assert collected is not None
    assert collected.held == "diverged"
    assert ground.at("refs/heads/muster/coder0") == fetched
    # Nor is what stands in no branch forgotten by yet another clone.
    ground.clone.remove(discard=True)
    ground.prepare()
    assert ground.at(f"refs/muster-agents/coder0.{last[:12]}") == last


def test_a_link_in_the_place_of_a_clone_is_not_followed(ground: Ground) -> None:
    ground.prepare()
    elsewhere = ground.folder / "elsewhere"
    ground.clone.place.rename(elsewhere)
    ground.clone.place.symlink_to(elsewhere)
    for discard in (False, True):
        with pytest.raises(FleetError, match="is a link"):
            ground.clone.remove(discard=discard)
    with pytest.raises(FleetError, match="is a link"):
        ground.prepare()
    assert (elsewhere / "read.me").exists()
