"""A branch is merged only if what its base asks of it is fulfilled, whatever the agent made of its clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet.workspace import branch_merge, merge_trial
from fleet.workspace.branch_merge import KEPT_DAYS, Merged
from fleet.workspace.merge_gate import InvalidGate
from fleet.workspace.merge_trial import (
    FailedTests,
    MergeConflict,
    MergeRequest,
    NotMerged,
    ProtectedPath,
    TriedMerge,
)
from fleet.workspace.sandboxed_git import GivenUp
from tests.fleet.workspace.repository import Ground
from tests.fleet.workspace.test_hostile import traps

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)

GATE = ".muster/merge.yaml"


def asks(ground: Ground, text: str) -> Ground:
    """What the person's branch asks of merges; then the agent begins."""
    (ground.project / ".muster").mkdir(exist_ok=True)
    ground.commit(GATE, text)
    return ground.prepare()


def request(ground: Ground, **more: Any) -> MergeRequest:
    return MergeRequest(
        source=ground.project, agent="coder0", folder=ground.clone.folder, title="a page", began_on="main", **more
    )


def attempt(ground: Ground, **more: Any) -> TriedMerge:
    ground.collect()
    found = merge_trial.attempt(request(ground, **more))
    assert found is not None
    return found


def merge(ground: Ground, **more: Any) -> Merged | None:
    ground.collect()
    return branch_merge.merge(request(ground, **more))


# --- tests -------------------------------------------------------------------------------------------------------


def test_tests_of_the_base_run_on_the_merged_files(ground: Ground) -> None:
    asks(ground, "test: cat read.me page mine\n")
    ground.work("page", "theirs")
    ground.commit("mine", "mine")
    found = attempt(ground)
    assert (found.into, found.commits, found.files, found.test) == ("main", 1, 1, "cat read.me page mine")
    # Nothing of the person's was moved.
    assert ground.at("refs/heads/main") == found.base
    assert not (ground.project / "page").exists()
    assert ground.git("status", "--porcelain") == ""
    branch_merge.move(request(ground), found)
    assert ground.at("refs/heads/main") == found.target
    assert (ground.project / "page").read_text() == "theirs\n"
    assert ground.git("status", "--porcelain") == ""
    assert ground.git("for-each-ref", "refs/muster-merges") == ""
    assert (
        list(ground.clone.folder.glob("merge*")) == [ground.clone.folder / "merge.lock"]
        or not (ground.clone.folder / "merge").exists()
    )


def test_tests_that_fail_keep_the_branch_where_it_is_and_say_why(ground: Ground) -> None:
    asks(ground, "test: cat nothing; echo out; exit 3\n")
    ground.work("page")
    before = ground.at("refs/heads/main")
    with pytest.raises(FailedTests, match="ended with the status 3") as failed:
        merge(ground)
    assert "No such file" in failed.value.said
    assert "out\n" in failed.value.said
    assert ground.at("refs/heads/main") == before


def test_an_agent_cannot_bring_its_own_gate(ground: Ground) -> None:
    asks(ground, "test: exit 1\n")
    ground.agent("echo 'test: true' > .muster/merge.yaml; git commit -qam x")
    with pytest.raises(ProtectedPath, match=r"`\.muster/merge\.yaml`, which .* on `main` protects"):
        merge(ground)


def test_where_there_is_no_gate_an_agent_cannot_make_one(ground: Ground) -> None:
    ground.prepare()
    ground.agent("mkdir .Muster; echo 'test: true' > .Muster/merge.yaml; git add -A; git commit -qm x")
    with pytest.raises(ProtectedPath):
        merge(ground)


def test_tests_reach_nothing(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no secrets, no file of the person's, no other process, nothing to write but the merged files."""
    monkeypatch.setenv("MUSTER_SECRET", "s3cret")
    secret = ground.folder / "secret"
    secret.write_text("s3cret")
    mark = ground.folder / "mark"
    script = f"""#!/bin/sh
env; cat {secret}; ls {ground.project} {ground.clone.folder}; touch {mark} /usr/mark /mark
cat /proc/net/dev | tail -n +3; cat /proc/1/environ; kill -9 {os.getpid()} && echo killed
/usr/bin/python3 -c 'import socket; socket.create_connection(("127.0.0.1", 22), 1)' 2>/dev/null && echo connected
touch written && echo 'wrote here'
exit 7
"""
    asks(ground, "test: sh ./check\n")
    ground.agent(f"cat > check <<'END'\n{script}END\ngit add -A; git commit -qm x")
    with pytest.raises(FailedTests, match="status 7") as failed:
        merge(ground)
    said = failed.value.said
    assert "wrote here" in said
    assert "s3cret" not in said
    assert "killed" not in said
    assert "connected" not in said
    assert "eth0" not in said
    assert not mark.exists()
    assert not Path("/usr/mark").exists()


def test_tests_end_with_all_that_they_started(ground: Ground) -> None:
    asks(ground, "test: sh ./check\ntimeout: 1s\n")
    name = f"sleeping-{os.getpid()}"
    ground.agent(
        f"printf 'cp /bin/sleep {name}; setsid ./{name} 1000 & ./{name} 1000' > check; git add -A; git commit -qm x"
    )
    with pytest.raises(FailedTests, match="took longer than 1 seconds"):
        merge(ground)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert f"./{name}" not in listed


def test_tests_that_nobody_waits_for_are_ended(ground: Ground) -> None:
    asks(ground, "test: echo began > began; sleep 1000\n")
    ground.work("page")
    ground.collect()
    stop = threading.Event()
    says: list[str] = []

    def say(text: str) -> None:
        says.append(text)
        stop.set()

    with pytest.raises(GivenUp):
        merge_trial.attempt(request(ground), say=say, given_up=stop.is_set)
    assert says == ["running the tests: echo began > began; sleep 1000"]


def test_what_tests_say_is_cut_and_its_end_kept(ground: Ground) -> None:
    asks(ground, "test: yes noise | head -c 60000000; echo the end; exit 1\n")
    ground.work("page")
    with pytest.raises(FailedTests) as failed:
        merge(ground)
    assert failed.value.said.endswith("the end\n")
    assert len(failed.value.said) < 100_000


def test_what_was_tested_is_not_tested_again_but_anything_else_is(ground: Ground) -> None:
    asks(ground, "test: cat page\n")
    ground.work("page")
    said: list[str] = []
    ground.collect()
    for _ in range(2):
        assert merge_trial.attempt(request(ground), say=said.append) is not None
    assert len(said) == 1
    ground.work("page", "more")
    ground.collect()
    assert merge_trial.attempt(request(ground), say=said.append) is not None
    assert len(said) == 2


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda file: file.write_text("tests: make\n"), "merge.yaml:1:1: tests"),
        (lambda file: file.symlink_to("/etc/passwd"), "no link"),
        (lambda file: file.write_text("#" * 70_000), "at most 64 KiB"),
        (lambda file: (file.mkdir(), (file / "x").write_text("x")), "no link"),
    ],
)
def test_a_gate_that_cannot_be_read_lets_nothing_through(
    ground: Ground, make: Callable[[Path], object], why: str
) -> None:
    (ground.project / ".muster").mkdir()
    make(ground.project / GATE)
    ground.git("add", "-A")
    ground.git("commit", "--quiet", "-m", "A gate")
    ground.prepare()
    ground.work("page")
    with pytest.raises(InvalidGate, match=why):
        merge(ground)


# --- protected paths ---------------------------------------------------------------------------------------------

#: U+FF43 U+FF49, which look alike, and U+200B between the letters.
_WIDE = "$(printf '\\357\\275\\203\\357\\275\\211')"
_UNSEEN = "$(printf 'c\\342\\200\\213i')"
TRICKS = {
    "changed": "echo x >> ci/run",
    "deleted": "git rm -q ci/run",
    "renamed away": "git mv ci/run elsewhere",
    "renamed into": "git mv read.me ci/more",
    "another case": "mkdir -p CI; echo x > CI/run",
    "another form": f'mkdir -p "{_WIDE}"; echo x > "{_WIDE}/run"',
    "an invisible character": f'mkdir -p "{_UNSEEN}"; echo x > "{_UNSEEN}/run"',
    "a link in its place": "git rm -rq ci; mkdir other; echo x > other/run; ln -s other ci",
    "a mode": "chmod +x ci/run",
    "a repository": (
        "git rm -rq ci; git init -q ci; git -C ci -c user.name=x -c user.email=x commit -q --allow-empty -m x"
    ),
    "in a merge commit": (
        "git checkout -qb side; echo x >> ci/run; git commit -qam side; git checkout -q muster/coder0; "
        "git merge -q --no-ff side"
    ),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_protected_paths_cannot_be_touched(ground: Ground, trick: str) -> None:
    (ground.project / "ci").mkdir()
    ground.commit("ci/run", "true")
    asks(ground, "protected: [ci]\n")
    ground.agent(f"{TRICKS[trick]}; git add -A; git commit -qm x || :")
    with pytest.raises(ProtectedPath, match=r"protects from agents"):
        merge(ground)
    assert not (ground.project / "elsewhere").exists()


def test_what_others_changed_meanwhile_is_not_the_agents(ground: Ground) -> None:
    (ground.project / "ci").mkdir()
    ground.commit("ci/run", "true")
    asks(ground, "protected: [ci]\n")
    ground.work("page")
    ground.commit("ci/run", "better")
    assert merge(ground) is not None


# --- hostile clones ----------------------------------------------------------------------------------------------


def test_nothing_that_a_clone_or_a_branch_names_is_run(ground: Ground) -> None:
    asks(ground, "test: cat page\n")
    mark = ground.folder / "ran"
    ground.work("page")
    traps(mark, ground.clone.place)
    ground.agent("git -c core.fsmonitor=false add .gitattributes && git -c core.hooksPath=/dev/null commit -qm x || :")
    ground.commit("mine", "mine")
    assert merge(ground) is not None
    assert not mark.exists()
    assert (ground.project / "page").exists()


def test_a_symlinked_git_folder_leads_nowhere(ground: Ground) -> None:
    asks(ground, "test: cat page\n")
    ground.work("page")
    ground.collect()
    other = ground.folder / "other"
    other.mkdir()
    ground.git("init", "--quiet", cwd=other)
    shutil.move(ground.clone.place / ".git", ground.clone.place / "git")
    (ground.clone.place / ".git").symlink_to(other / ".git")
    # What was fetched before is what is merged.
    assert branch_merge.merge(request(ground)) is not None


def test_links_in_the_merged_files_lead_nowhere(ground: Ground) -> None:
    asks(ground, "test: echo gone > out/file; echo x > passwd; exit 1\n")
    (ground.folder / "victim").mkdir()
    ground.agent(f"ln -s {ground.folder}/victim out; ln -s /etc/passwd passwd; git add -A; git commit -qm x")
    with pytest.raises(FailedTests):
        merge(ground)
    assert list((ground.folder / "victim").iterdir()) == []


def test_a_few_objects_that_stand_for_too_many_files_are_refused(ground: Ground) -> None:
    ground.prepare()
    ground.agent("""
blob=$(echo x | git hash-object -w --stdin)
tree=$(for each in 0 1 2 3 4 5 6 7 8 9; do printf '100644 blob %s\\tf%s\\n' $blob $each; done | git mktree)
for deep in 1 2 3 4 5; do
  tree=$(for each in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\td%s\\n' $tree $each; done | git mktree)
done
git update-ref refs/heads/muster/coder0 $(git commit-tree $tree -p HEAD -m bomb)
""")
    with pytest.raises(NotMerged, match="too much for a trial"):
        merge(ground)


# --- moving ------------------------------------------------------------------------------------------------------


def test_a_branch_that_moved_during_the_trial_is_not_moved(ground: Ground) -> None:
    asks(ground, "test: cat page\n")
    ground.work("page")
    found = attempt(ground)
    theirs = ground.commit("mine", "mine")
    with pytest.raises(NotMerged, match="main has moved since its merge was tested"):
        branch_merge.move(request(ground), found)
    assert ground.at("refs/heads/main") == theirs
    assert not (ground.project / "page").exists()


def test_conflicts_list_the_files(ground: Ground) -> None:
    ground.prepare()
    ground.work("read.me", "theirs")
    ground.commit("read.me", "ours")
    with pytest.raises(MergeConflict, match=r"conflicts in `read\.me`"):
        merge(ground)


def test_a_squashed_branch_is_one_commit_and_is_not_merged_twice(ground: Ground) -> None:
    ground.prepare()
    ground.work("page", "one")
    ground.work("page", "two")
    merged = merge(ground, squash=True)
    assert merged is not None
    assert ground.git("log", "-1", "--format=%P") == ground.git("rev-parse", "main~1")
    assert ground.git("log", "-1", "--format=%B") == "Squash muster/coder0: a page\n\n* page\n* page"
    assert ground.git("rev-parse", "main") == merged.commit
    assert merge(ground, squash=True) is None
    assert ground.git("rev-parse", "main") == merged.commit


def test_a_named_branch_gets_the_commits_and_the_files_that_are_checked_out_stay(ground: Ground) -> None:
    ground.prepare()
    ground.git("branch", "release")
    ground.work("page")
    (ground.project / "read.me").write_text("not committed")
    merged = merge(ground, into="release")
    assert merged is not None
    assert ground.at("refs/heads/release") == ground.at("refs/heads/muster/coder0")
    assert not (ground.project / "page").exists()
    assert (ground.project / "read.me").read_text() == "not committed"


@pytest.mark.parametrize("name", ["nowhere", "main~0", "*", "muster/coder0", "-x", "refs/heads/main", "main\nx"])
def test_what_is_no_branch_gets_nothing(ground: Ground, name: str) -> None:
    ground.prepare()
    ground.work("page")
    with pytest.raises(NotMerged, match="has no branch"):
        merge(ground, into=name)


def test_a_branch_in_another_working_tree_is_left_there(ground: Ground) -> None:
    ground.prepare()
    ground.git("worktree", "add", "--quiet", "-b", "release", str(ground.folder / "tree"))
    ground.work("page")
    with pytest.raises(NotMerged, match="another working tree"):
        merge(ground, into="release")


def test_a_merge_that_is_under_way_is_not_disturbed(ground: Ground) -> None:
    ground.prepare()
    ground.work("page")
    ground.git("branch", "side")
    ground.commit("mine", "mine")
    ground.git("checkout", "--quiet", "side")
    ground.commit("other", "x")
    ground.git("checkout", "--quiet", "main")
    ground.git("merge", "--quiet", "--no-commit", "-s", "ours", "side")
    with pytest.raises(NotMerged, match="under way"):
        merge(ground)


def test_a_dirty_checkout_is_never_touched(ground: Ground) -> None:
    ground.commit("other", "one")
    ground.prepare()
    ground.work("page")
    (ground.project / "other").write_text("not committed")
    before = ground.at("refs/heads/main")
    with pytest.raises(NotMerged, match=r"`other` has changes that are not committed\. Commit or stash"):
        merge(ground)
    ground.git("checkout", "--quiet", "other")
    for name in ("page", ".env"):
        (ground.project / ".git" / "info" / "exclude").write_text(".env\n")
        ground.agent(f"echo theirs > {name}; git add -f {name}; git commit -qm x || :")
        (ground.project / name).write_text("mine, in no commit")
        with pytest.raises(NotMerged, match=f"{name}.* would be overwritten"):
            merge(ground)
        assert (ground.project / name).read_text() == "mine, in no commit"
        (ground.project / name).unlink()
    assert ground.at("refs/heads/main") == before
    assert merge(ground) is not None


def test_a_file_that_becomes_a_folder_and_back_is_followed(ground: Ground) -> None:
    ground.prepare()
    ground.agent("git rm -q read.me; mkdir read.me; echo x > read.me/a; git add -A; git commit -qm x")
    assert merge(ground) is not None
    assert (ground.project / "read.me" / "a").read_text() == "x\n"
    ground.agent("git rm -rq read.me; echo back > read.me; git add -A; git commit -qm y")
    assert merge(ground) is not None
    assert (ground.project / "read.me").read_text() == "back\n"
    assert ground.git("status", "--porcelain") == ""


def test_only_the_commit_that_a_person_saw_is_merged(ground: Ground) -> None:
    ground.prepare()
    seen = ground.work("page")
    ground.work("page", "later")
    with pytest.raises(NotMerged, match="and not at"):
        merge(ground, commit=seen[:10])
    assert merge(ground, commit=str(ground.at("refs/heads/muster/coder0"))[:10]) is not None


# --- discarding --------------------------------------------------------------------------------------------------


def test_discarded_work_is_kept_for_a_month(ground: Ground) -> None:
    ground.prepare()
    tip = ground.work("page")
    ground.collect()
    day = 86_400.0
    aside = branch_merge.set_aside(ground.project, "coder0", now=1_000_000.0)
    assert aside.commit == tip
    assert aside.name == f"refs/muster-discarded/coder0/1000000-{tip[:12]}"
    assert branch_merge.set_aside(ground.project, "coder0", now=1_000_000.0 + day) == aside
    assert ground.clone.remove(discard=True)
    assert branch_merge.discard(ground.project, "coder0", aside.commit)
    assert ground.at("refs/heads/muster/coder0") is None
    # A crash after the clone was deleted.
    assert branch_merge.set_aside(ground.project, "coder0", now=1_000_000.0 + day).commit == tip
    ground.git("branch", "back", aside.name)
    assert ground.git("show", "back:page") == "done"
    ground.git("branch", "-D", "back")
    branch_merge.set_aside(ground.project, "other", now=1_000_000.0 + (KEPT_DAYS + 1) * day)
    assert ground.at("refs/muster-discarded") is None


def test_what_is_on_a_branch_of_the_persons_needs_no_other_name(ground: Ground) -> None:
    ground.prepare()
    ground.work("page")
    merge(ground)
    assert branch_merge.set_aside(ground.project, "coder0").name is None
