"""What an agent changed, as the person's Muster sees it, with the real git in the real sandbox."""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.workspace import change_survey
from fleet.workspace.agent_changes import AgentDiff, ChangedFile
from fleet.workspace.change_survey import UnknownCommit
from tests.fleet.workspace.repository import Ground
from tests.fleet.workspace.test_hostile import traps

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)

LONGEST = 64 * 1024


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path).begin().prepare()


def diff(ground: Ground, since: str | None = None, *, longest: int = LONGEST) -> AgentDiff:
    return change_survey.diff(ground.clone, since=since, longest=longest)


def by_path(found: AgentDiff) -> dict[str, ChangedFile]:
    return {each.path: each for each in found.files}


def test_all_that_an_agent_did_is_shown_committed_or_not(ground: Ground) -> None:
    base = ground.at("refs/heads/main")
    (ground.project / "unseen").write_text("the person's own")
    tip = ground.work("one", "committed")
    ground.agent(
        "echo staged > two; git add two; echo untracked > three; echo more >> read.me; chmod +x one; "
        "printf '*.log\\n' > .gitignore; echo noise > x.log; "
        "echo excluded > mine; mkdir -p .git/info; echo mine > .git/info/exclude"
    )
    found = diff(ground)
    assert (found.state.base, found.state.head, found.state.left) == (base, tip, None)
    assert list(by_path(found)) == [".gitignore", "one", "read.me", "three", "two"]
    assert by_path(found)["read.me"] == ChangedFile(path="read.me", status="modified", added=1, removed=1)
    assert "+committed" in found.diff
    assert "+staged" in found.diff
    assert "+untracked" in found.diff
    assert "noise" not in found.diff
    assert found.state.uncommitted == 5
    assert not found.truncated
    assert not found.state.elsewhere
    # Looking changed nothing, neither there nor on the person's branches.
    assert "A  two" in ground.agent("git status --porcelain")
    assert ground.at("refs/heads/muster/coder0") is None
    ground.agent("git add -A; git commit -qm all")
    assert diff(ground).state.uncommitted == 0
    assert diff(ground, tip[:8]).state.base == tip
    assert "one" in by_path(diff(ground, tip[:8])), "its mode"


def test_renames_modes_links_and_binary_files_are_told_apart(ground: Ground) -> None:
    ground.agent(
        "seq 50 > numbers; printf 'x\\0y' > picture; echo run > script; echo text > page; git add .; git commit -qm one"
    )
    one = ground.agent("git rev-parse HEAD")
    ground.agent(
        "mv numbers digits; printf 'x\\0z' > picture; chmod +x script; ln -sf read.me page; rm read.me; "
        "git init -q inner; mkfifo pipe"
    )
    assert diff(ground, one).files == (
        ChangedFile(path="digits", status="renamed", added=0, removed=0, was="numbers"),
        ChangedFile(path="inner/", status="repository"),
        ChangedFile(path="page", status="retyped", added=1, removed=1, modes=("100644", "120000")),
        ChangedFile(path="picture", status="modified", binary=True),
        ChangedFile(path="read.me", status="deleted", added=0, removed=1),
        ChangedFile(path="script", status="modified", added=0, removed=0, modes=("100644", "100755")),
    )


def killing_traps(repository: Path) -> None:
    """Set up everything by which a repository makes git run a program, which kills that git."""
    traps(repository / "ran", repository)
    (repository / "ran").unlink(missing_ok=True)
    program = repository / ".git" / "program"
    program.write_text("#!/bin/sh\nkill -9 $PPID\n")
    for hook in (repository / ".git" / "hooks").iterdir():
        shutil.copy(program, hook)


def test_nothing_of_an_agents_runs_and_nothing_of_it_hides_a_file(ground: Ground) -> None:
    """Not even in the sandbox does it: there it could say what it likes to have changed."""
    ground.agent(
        "git init -q inner; printf OTHER > inner/read.me; git -C inner add .; "
        "git -C inner -c user.name=x -c user.email=x commit -qm x; "
        "echo x > evil.py; git add evil.py inner 2>/dev/null; git commit -qm evil; "
        "git update-index --assume-unchanged evil.py; "
        "git init -q other; echo worse > evil.py"
    )
    killing_traps(ground.clone.place)
    killing_traps(ground.clone.place / "inner")
    (ground.clone.place / ".gitattributes").write_text("* -diff filter=x\n")
    info = ground.clone.place / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text("* -diff filter=x\n")
    found = diff(ground)
    assert list(by_path(found)) == [".gitattributes", "evil.py", "inner", "other/", "read.me"]
    assert "+worse" in found.diff
    assert "+other" in found.diff
    assert change_survey.commits(ground.clone, most=9).state.uncommitted == 4


def test_no_history_that_an_agent_makes_up_hides_a_file(ground: Ground) -> None:
    """A clone can say that the base had a file already, but only the person's repository is asked."""
    base = ground.git("rev-parse", "main")
    ground.work("evil.py", "evil")
    ground.agent(f"git replace {base} HEAD; git commit-graph write --reachable")
    assert ground.agent(f"git diff --stat {base} HEAD") == "", "the lie works where it is believed"
    assert list(by_path(diff(ground))) == ["evil.py"]
    assert [each.subject for each in change_survey.commits(ground.clone, most=9).commits] == ["evil.py"]
    # A file of objects that is not what its name says is noticed when it is fetched.
    tree, old = ground.agent("git rev-parse HEAD^{tree}"), ground.git("rev-parse", "main^{tree}")
    ground.agent(f"cd .git/objects; mkdir -p {old[:2]}; cp -f {tree[:2]}/{tree[2:]} {old[:2]}/{old[2:]}")
    ground.work("more.py", "more")
    with contextlib.suppress(FleetError):
        assert list(by_path(diff(ground))) == ["evil.py", "more.py"]


def test_links_lead_to_nothing_outside_of_the_clone(ground: Ground) -> None:
    secret = ground.folder / "secret"
    secret.mkdir()
    (secret / "plan").write_text("the plan\n")
    ground.agent("echo one > plan; mkdir deep; echo one > deep/plan; git add .; git commit -qm plans")
    ground.agent(f"rm -r plan deep; ln -s {secret}/plan plan; ln -s {secret} deep; ln -s {secret}/plan .gitignore")
    found = diff(ground)
    assert "the plan" not in found.diff
    assert {each.path: each.status for each in found.files} == {".gitignore": "added", "deep": "added", "plan": "added"}
    shutil.move(ground.clone.place / ".git", ground.folder / "moved")
    (ground.clone.place / ".git").symlink_to(ground.project / ".git")
    with pytest.raises(FleetError, match="failed"):
        diff(ground)


def test_names_and_lines_come_as_they_are(ground: Ground) -> None:
    names = ["a\nb", 'quote"d', "esc\x1b[31m", "bidi\u202e", "tab\there", "=> x", ":1 2 3 4 R", "ä"]
    for name in names:
        (ground.clone.place / name).write_text("text\n")
    (ground.clone.place / os.fsdecode(b"latin\xe9")).write_text("text\n")
    found = diff(ground)
    assert sorted(by_path(found)) == sorted([*names, "latin\ufffd"])
    assert {each.added for each in found.files} == {1}
    assert "\x1b" not in found.diff, "git quotes it"


def test_what_is_too_much_is_cut_and_said_to_be(ground: Ground) -> None:
    (ground.clone.place / "long").write_text("0123456789\n" * 10_000)
    found = diff(ground, longest=1000)
    assert found.truncated
    assert len(found.diff) == 1000
    assert by_path(found)["long"].added == 10_000
    with (ground.clone.place / "huge").open("wb") as huge:
        huge.truncate(4 * 1024**3)
    assert by_path(diff(ground))["huge"].binary
    assert not list(ground.folder.rglob("muster-look-*"))


def test_a_list_of_untracked_files_that_is_too_long_is_said_to_be(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_survey, "UNTRACKED_BYTES", 10)
    for name in ("one", "two", "three", "four"):
        (ground.clone.place / name).write_text("text\n")
    found = diff(ground)
    assert found.state.unlisted
    assert sorted(by_path(found)) == ["four", "one"]


def test_an_empty_repository_has_no_base(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.project.mkdir(parents=True)
    ground.git("init", "--quiet", "-b", "main")
    ground.prepare()
    assert diff(ground).files == ()
    assert change_survey.commits(ground.clone, most=9).commits == ()
    (ground.clone.place / "first").write_text("text\n")
    found = diff(ground)
    assert (found.state.base, found.state.head, found.state.uncommitted) == (None, None, 1)
    assert "+text" in found.diff
    tip = ground.agent("git add .; git commit -qm first; git rev-parse HEAD")
    assert diff(ground).state.head == tip
    assert [each.commit for each in change_survey.commits(ground.clone, most=9).commits] == [tip]


def test_a_rebase_in_progress_is_said_and_its_files_are_shown(ground: Ground) -> None:
    ground.agent("echo mine > read.me; git commit -qam mine")
    tip = ground.agent("git rev-parse HEAD")
    ground.commit("read.me", "theirs")
    ground.agent("git fetch -q origin; git rebase -q origin/main || :")
    found = diff(ground)
    assert found.state.elsewhere
    assert found.state.head == tip
    assert "+<<<<<<<" in found.diff
    assert [each.subject for each in change_survey.commits(ground.clone, most=9).commits] == ["mine"]


def test_what_an_agent_took_over_from_the_persons_branch_is_not_its_work(ground: Ground) -> None:
    base = ground.git("rev-parse", "main")
    ground.work("one")
    theirs = ground.commit("theirs", "x")
    assert diff(ground).state.base == base
    ground.agent("git fetch -q origin; git rebase -q origin/main")
    found = diff(ground)
    assert (found.state.base, found.state.left) == (theirs, "main")
    assert list(by_path(found)) == ["one"]
    listed = change_survey.commits(ground.clone, most=9)
    assert [each.subject for each in listed.commits] == ["one"]
    # All of it is merged: what it did is shown, since the clone was made.
    ground.collect()
    ground.git("merge", "--quiet", "--ff-only", "muster/coder0")
    assert diff(ground).state.base == base
    assert list(by_path(diff(ground, base))) == ["one", "theirs"]


def test_commits_are_counted_and_the_newest_are_listed(ground: Ground) -> None:
    ground.agent("for n in 1 2 3; do seq $n > f; printf 'x\\0' > b$n; git add .; git commit -qm \"Step $n.\"; done")
    found = change_survey.commits(ground.clone, most=2)
    assert found.total == 3
    assert [(each.subject, each.files, each.added, each.removed) for each in found.commits] == [
        ("Step 3.", 2, 1, 0),
        ("Step 2.", 2, 1, 0),
    ]
    assert found.commits[0].commit == ground.agent("git rev-parse HEAD")
    assert found.commits[0].author == "coder0"
    assert found.state.uncommitted == 0


def test_no_name_of_an_agents_stands_for_a_commit(ground: Ground) -> None:
    base = ground.git("rev-parse", "main")
    ground.work()
    ground.agent(f"git branch {base[:7]} HEAD; git tag trusted; git push -q origin HEAD:trusted || :")
    assert diff(ground, base[:7]).state.base == base
    for unknown in ("abcdef012345", "0000", "trusted"):
        with pytest.raises(UnknownCommit, match="muster commits coder0"):
            diff(ground, unknown)


def test_without_a_sandbox_nothing_is_looked_at(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(ground.folder))
    (ground.folder / "git").symlink_to("/usr/bin/git")
    with pytest.raises(FleetError, match="bubblewrap is not installed") as caught:
        diff(ground)
    assert caught.value.code == "workspace.unchecked"


def test_a_sha256_repository_is_shown_too(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.project.mkdir(parents=True)
    ground.git("init", "--quiet", "-b", "main", "--object-format=sha256")
    ground.commit("read.me", "hello\n")
    ground.prepare()
    ground.work("one")
    (ground.clone.place / "two").write_text("text\n")
    assert list(by_path(diff(ground))) == ["one", "two"]


def test_a_clone_that_changes_meanwhile_is_shown_all_the_same(ground: Ground) -> None:
    ground.work("one")
    churn = (
        "until [ -e stop ]; do echo x > a; mkdir -p d; echo x > d/b; mv a d/c; rm -rf d; "
        "git -c core.fsmonitor=false commit -q --allow-empty -m again; done"
    )
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(ground.agent, churn)
        try:
            for _ in range(3):
                assert "one" in by_path(diff(ground))
        finally:
            (ground.clone.place / "stop").touch()
        busy.result(60)


def test_a_clone_that_makes_git_wait_is_given_up(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_survey, "LOOK_S", 2.0)
    os.mkfifo(ground.clone.place / ".gitignore")
    with pytest.raises(FleetError, match=r"it took too long\. Ask again when its turn has ended"):
        diff(ground)


def test_a_repository_whose_history_was_cut_off_is_shown_too(ground: Ground, tmp_path: Path) -> None:
    ground.commit("second", "x")
    ground.git("checkout", "--quiet", "-b", "other")
    ground.commit("third", "x")
    ground.commit("fourth", "x")
    ground.git("checkout", "--quiet", "main")
    shallow = Ground(tmp_path / "other")
    shallow.project.parent.mkdir(parents=True)
    cut_off = ("clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{ground.project}")
    ground.git(*cut_off, str(shallow.project), cwd=tmp_path)
    shallow.git("branch", "other", "origin/other")
    shallow.prepare().work("one")
    assert list(by_path(diff(shallow))) == ["one"]
    shallow.agent("git reset -q --hard origin/other")
    shallow.work("two")
    listed = change_survey.commits(shallow.clone, most=9)
    assert [each.subject for each in listed.commits] == ["two", "Write fourth."]
