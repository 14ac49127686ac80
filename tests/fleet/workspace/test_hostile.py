"""Agents that turn their clone against the person, whose Muster opens it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet import workspace
from fleet.errors import FleetError
from fleet.workspace import clone, origin_remote, repository_discovery, sandboxed_git
from tests.fleet.workspace.repository import Ground

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path).begin().prepare()


@pytest.fixture
def secret(ground: Ground) -> Path:
    """Another repository of the person's, which the agent is never shown."""
    folder = ground.folder / "code" / "secret"
    folder.mkdir()
    ground.git("init", "--quiet", "-b", "main", cwd=folder)
    ground.git("commit", "--quiet", "--allow-empty", "-m", "secret", cwd=folder)
    ground.commit("plan", "secret", cwd=folder)
    ground.git("branch", "muster/coder0", cwd=folder)
    return folder


def traps(mark: Path, repository: Path) -> None:
    """Set up everything by which a repository makes git run a program."""
    own = repository / ".git"
    program = own / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark} || :\ncat\n")
    program.chmod(0o755)
    (own / "hooks").mkdir(exist_ok=True)
    for name in (
        "reference-transaction", "post-checkout", "post-merge", "pre-commit", "post-index-change", "fsmonitor-watchman",
        "pre-auto-gc", "pre-receive", "update", "post-receive", "post-update", "pre-push", "sendemail-validate",
    ):  # fmt: skip
        shutil.copy(program, own / "hooks" / name)
    with (own / "config").open("a") as config:
        config.write(f"""
[core]
	fsmonitor = {program}
	hooksPath = {own}/hooks
	alternateRefsCommand = {program}
	sshCommand = {program}
	gitProxy = {program}
	pager = {program}
	editor = {program}
	askPass = {program}
[uploadpack]
	packObjectsHook = {program}
[filter "x"]
	clean = {program}
	smudge = {program}
	required = true
[diff]
	external = {program}
[diff "x"]
	textconv = {program}
	command = {program}
[merge "x"]
	driver = {program}
[credential]
	helper = !{program}
[gpg]
	program = {program}
[submodule]
	recurse = true
[extensions]
	worktreeConfig = true
[include]
	path = {own}/more
[pager]
	status = {program}
	rev-list = {program}
""")
    (own / "config.worktree").write_text(f"[core]\n\tfsmonitor = {program}\n")
    (own / "more").write_text(f"[core]\n\tfsmonitor = {program}\n")
    (repository / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    # A filter runs over what may have changed.
    (repository / "read.me").write_text("other")
    os.utime(repository / "read.me", (0, 0))


def test_nothing_that_a_clone_names_runs_outside_of_the_sandbox(ground: Ground) -> None:
    mark = ground.folder / "ran"
    ground.work()
    traps(mark, ground.clone.place)
    collected = ground.collect()
    assert collected is not None
    assert ground.clone.inspect().changed == 2
    with pytest.raises(workspace.NotClean):
        ground.clone.remove()
    ground.prepare()
    ground.agent("git -c core.fsmonitor=false add .gitattributes && git -c core.hooksPath=/dev/null commit -qm x || :")
    ground.collect()
    assert ground.clone.remove(discard=True)
    assert not mark.exists()


def test_nor_does_what_an_agent_left_in_a_repository_in_which_it_worked_once(ground: Ground) -> None:
    mark = ground.folder / "ran"
    ground.work()
    traps(mark, ground.project)
    assert workspace.uncommitted(ground.repository()) == 2
    assert ground.collect() is not None
    ground.work("two")
    ground.prepare()
    assert ground.clone.remove()
    ground.prepare()
    assert ground.agent("ls") == "read.me"
    assert not mark.exists()


def test_the_traps_do_run_where_git_is_called_carelessly(ground: Ground) -> None:
    """Or the tests above would prove nothing."""
    mark = ground.folder / "ran"
    traps(mark, ground.clone.place)
    ground.git("status", cwd=ground.clone.place)
    assert mark.exists()


def test_a_partial_clone_makes_nobody_fetch_what_it_lacks(ground: Ground) -> None:
    """Whoever opens such a clone fetches missing objects from where it says, by the program that it says."""
    mark = ground.folder / "ran"
    ground.work()
    tree = ground.agent("git rev-parse HEAD^{tree}")
    (ground.clone.place / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    program = ground.clone.place / ".git" / "program"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "far",
        "remote.far.promisor": "true",
        "remote.far.url": f"ext::{program}",
        "remote.far.uploadpack": str(program),
        "protocol.ext.allow": "always",
    }.items():
        ground.agent(f"git config {key} '{value}'")
    with pytest.raises(FleetError, match="Taking over what coder0 committed"):
        ground.collect()
    assert not mark.exists()
    assert ground.at("refs/heads/muster/coder0") is None


def place_of(ground: Ground) -> Path:
    return ground.clone.place / ".git"


def branch_of(ground: Ground) -> Path:
    return place_of(ground) / "refs" / "heads" / "muster" / "coder0"


def alternates(ground: Ground, secret: Path) -> None:
    with (place_of(ground) / "objects" / "info" / "alternates").open("a") as file:
        file.write(f"{secret}/.git/objects\n")
    branch_of(ground).write_text(f"{ground.git('rev-parse', 'HEAD', cwd=secret)}\n")


def linked_objects(ground: Ground, secret: Path) -> None:
    objects = place_of(ground) / "objects"
    objects.rename(place_of(ground) / "old")
    objects.symlink_to(secret / ".git" / "objects")
    branch_of(ground).write_text(f"{ground.git('rev-parse', 'HEAD', cwd=secret)}\n")


def linked_ref(ground: Ground, secret: Path) -> None:
    branch_of(ground).unlink()
    branch_of(ground).symlink_to(secret / ".git" / "refs" / "heads" / "main")
    with (place_of(ground) / "objects" / "info" / "alternates").open("a") as file:
        file.write(f"{secret}/.git/objects\n")


def linked_repository(ground: Ground, secret: Path) -> None:
    shutil.rmtree(place_of(ground))
    place_of(ground).symlink_to(secret / ".git")


def named_repository(ground: Ground, secret: Path) -> None:
    shutil.rmtree(place_of(ground))
    place_of(ground).write_text(f"gitdir: {secret}/.git\n")


def common_folder(ground: Ground, secret: Path) -> None:
    (place_of(ground) / "commondir").write_text(f"{secret}/.git\n")
    branch_of(ground).unlink()


def bundle(ground: Ground, secret: Path) -> None:
    file = ground.folder / "code" / "kept.bundle"
    ground.git("bundle", "create", str(file), "--all", cwd=secret)
    shutil.rmtree(place_of(ground))
    place_of(ground).symlink_to(file)


@pytest.mark.parametrize(
    "way",
    [alternates, linked_objects, linked_ref, linked_repository, named_repository, common_folder, bundle],
    ids=lambda way: way.__name__,
)
def test_a_clone_that_points_elsewhere_brings_nothing_from_there(
    ground: Ground, secret: Path, way: Callable[[Ground, Path], None]
) -> None:
    """The agent sees the objects of its repository: what came in there, it could read."""
    head = ground.git("rev-parse", "HEAD", cwd=secret)
    way(ground, secret)
    with contextlib.suppress(FleetError):
        assert ground.collect() is None
    done = subprocess.run(["git", "cat-file", "-e", head], cwd=ground.project, capture_output=True, check=False)
    assert done.returncode != 0
    assert ground.at("refs/heads/muster/coder0") is None
    assert ground.clone.remove(discard=True)
    assert ground.git("rev-parse", "HEAD", cwd=secret) == head


@pytest.mark.parametrize(
    "script",
    [
        "rm -rf .git",
        "echo nonsense > .git/HEAD",
        "rm .git/HEAD; mkdir .git/HEAD",
        "echo 'ref: refs/heads/../../../../etc/passwd' > .git/HEAD",
        "rm -rf .git/refs; echo x > .git/refs",
        "echo nonsense > .git/refs/heads/muster/coder0",
        "rm .git/refs/heads/muster/coder0; mkdir .git/refs/heads/muster/coder0",
        "echo '[core' >> .git/config",
        "printf '[core]\\n\\trepositoryformatversion = 99\\n' > .git/config",
        "rm -rf .git/objects; mkdir .git/objects",
        "chmod 0 .git/refs",
    ],
)
def test_a_broken_clone_is_an_error_with_words_or_nothing_new(ground: Ground, script: str) -> None:
    done = ground.work()
    ground.agent(script)
    with contextlib.suppress(FleetError):
        # Some of it does not stand in the way of the branch: then what was committed comes, and nothing else.
        found = ground.collect()
        assert found is None or found.tip == done
    ground.git("fsck", "--strict")
    with pytest.raises(FleetError):
        ground.clone.remove()
    ground.prepare()
    assert ground.clone.remove(discard=True)
    assert ground.prepare().agent("ls") == "read.me"


def test_a_branch_that_the_agent_deleted_is_nothing_new(ground: Ground) -> None:
    ground.agent("git checkout -q --detach; git branch -q -D muster/coder0")
    assert ground.collect() is None
    ground.agent("git checkout -q -b muster/coder0")
    ground.work()
    assert ground.collect() is not None


@pytest.mark.parametrize(
    "make",
    [
        # Programs that older versions of git take from such a file's URLs (CVE-2018-17456).
        "printf '[submodule \"x\"]\\n\\tpath = x\\n\\turl = -u./run\\n' > .gitmodules;"
        "git add .gitmodules; git commit -qm x",
        "b=$(git hash-object -w read.me); t=$(printf '100644 blob %s\\t.GIT\\n' $b | git mktree);"
        "git update-ref HEAD $(git commit-tree -m x $t)",
    ],
)
def test_commits_that_would_attack_whoever_checks_them_out_are_not_taken_over(ground: Ground, make: str) -> None:
    ground.agent(make)
    with pytest.raises(FleetError, match=r"Taking over what coder0 committed into .* failed: (error|fatal): "):
        ground.collect()
    assert ground.at("refs/heads/muster/coder0") is None
    ground.git("fsck", "--strict")


def test_more_than_the_limit_is_not_taken_over(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.agent("head -c 3000000 /dev/urandom > large; git add large; git commit -qm large")
    monkeypatch.setattr(clone, "LARGEST_PACK", 1_000_000)
    with pytest.raises(FleetError, match="Taking over"):
        ground.collect()
    assert ground.at("refs/heads/muster/coder0") is None
    monkeypatch.undo()
    assert ground.collect() is not None


def test_history_that_the_agent_cut_off_is_not_cut_off_for_the_person(ground: Ground) -> None:
    first = ground.git("rev-parse", "HEAD")
    commit = ground.work()
    ground.work("two")
    (place_of(ground) / "shallow").write_text(f"{commit}\n")
    try:
        ground.collect()
    except FleetError:
        assert ground.at("refs/heads/muster/coder0") is None
    assert not (ground.project / ".git" / "shallow").exists()
    ground.git("fsck", "--strict")
    assert ground.git("rev-parse", "main") == first


def test_a_clone_that_keeps_git_waiting_is_left_alone(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.agent("rm .git/refs/heads/muster/coder0; mkfifo .git/refs/heads/muster/coder0")
    monkeypatch.setattr(clone, "FETCH_S", 1.0)
    with pytest.raises(FleetError, match="took too long"):
        ground.collect()
    assert ground.clone.remove(discard=True)


def pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def hole(file: Path) -> None:
    """A file of a terabyte that takes no room."""
    file.touch()
    os.truncate(file, 2**40)


@pytest.mark.parametrize("put", [pipe, hole], ids=lambda put: put.__name__)
@pytest.mark.parametrize("name", ["packed-refs", "objects/info/alternates", "config"])
def test_nobody_waits_for_what_an_agent_left_in_a_repository_in_which_it_worked_once(
    ground: Ground, name: str, put: Callable[[Path], None]
) -> None:
    with contextlib.suppress(FleetError):
        own = ground.project / ".git"
        if name == "config":
            # Read where the .git of a folder leads elsewhere.
            elsewhere = own.rename(ground.project / "elsewhere")
            own.write_text(f"gitdir: {elsewhere}\n")
            own = elsewhere
        put(own / name)
        repository = ground.repository()
        repository_discovery.check(repository, ())
        origin_remote.show(repository, ground.folder / "shown")
        assert repository.stores() == (repository.objects,)


def test_a_command_that_says_too_much_is_ended() -> None:
    with pytest.raises(sandboxed_git.GitFailed, match="more than anybody reads"):
        sandboxed_git.run(["/usr/bin/yes"], timeout_s=60)


def test_a_file_that_gets_too_long_ends_its_command(tmp_path: Path) -> None:
    command = ["/bin/dd", "if=/dev/zero", f"of={tmp_path / 'file'}", "bs=1024", "count=100"]
    assert sandboxed_git.run(command, timeout_s=60, file_bytes=10_240).status != 0
    assert (tmp_path / "file").stat().st_size == 10_240


# --- without bubblewrap ------------------------------------------------------------------------------------------


@pytest.fixture
def without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git") or "git")
    monkeypatch.setenv("PATH", str(programs))


def test_without_a_sandbox_a_clone_is_made_and_fetched_from_but_not_looked_into(
    tmp_path: Path, without_bubblewrap: None
) -> None:
    ground = Ground(tmp_path).begin().prepare(sandboxed=False)
    commit = ground.commit("work", "x", cwd=ground.clone.place)
    mark = tmp_path / "ran"
    traps(mark, ground.clone.place)
    assert ground.collect() is not None
    assert ground.at("refs/heads/muster/coder0") == commit
    with pytest.raises(FleetError, match=r"cannot be seen.*bubblewrap is not installed"):
        ground.clone.remove()
    ground.prepare(sandboxed=False)
    assert ground.clone.remove(discard=True)
    assert not mark.exists()


def test_what_a_sandboxed_agent_left_is_not_opened_when_the_sandbox_is_gone(
    ground: Ground, without_bubblewrap: None
) -> None:
    ground.commit("work", "x", cwd=ground.clone.place)
    with pytest.raises(FleetError, match="bubblewrap is not installed"):
        ground.collect()
    # Nor when it was let out of the sandbox since.
    ground.prepare(sandboxed=False)
    with pytest.raises(FleetError, match="bubblewrap is not installed"):
        ground.collect()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_repository_of_another_user_is_refused(ground: Ground) -> None:
    shutil.chown(ground.project / ".git", 65534)
    with pytest.raises(FleetError, match="belongs to another user"):
        ground.repository()
