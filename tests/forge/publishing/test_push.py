"""What the forge has after a push, and what is said if it does not go."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from fleet.workspace.sandboxed_git import GivenUp
from forge.publishing import push
from forge.publishing.errors import PublishingError
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.push import PushTarget, RemoteUnread
from forge.publishing.remote_answers import PushOutcome
from tests.forge.publishing.git_server import LIMIT_S, TOKEN, served
from tests.forge.publishing.stage import BRANCH, SECRET, Stage, checked


def hook(stage: Stage, name: str, script: str) -> None:
    path = stage.at_forge / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(stat.S_IRWXU)


def test_what_the_agent_committed_is_a_branch_at_the_forge(stage: Stage) -> None:
    commit = stage.commits("echo fixed > fix")
    result = stage.push()
    assert (result.outcome, result.sha, result.words) == (PushOutcome.PUSHED, commit, "")
    assert stage.forge_commit(BRANCH) == commit
    assert stage.forge_commit("main") == stage.base


def test_the_same_again_changes_nothing(stage: Stage) -> None:
    commit = stage.commits("echo fixed > fix")
    stage.push()
    # As after a crash between the push and the record of it, too.
    for last in (commit, None):
        assert stage.push(last=last).outcome is PushOutcome.UNCHANGED


def test_the_agent_may_rewrite_what_muster_pushed(stage: Stage) -> None:
    first = stage.commits("echo fixed > fix")
    stage.push()
    second = stage.agent("echo better > fix; git commit -qa --amend --no-edit; git rev-parse HEAD")
    assert stage.push(last=first).outcome is PushOutcome.PUSHED
    assert stage.forge_commit(BRANCH) == second


@pytest.mark.parametrize("last", ["ours", None])
def test_commits_of_somebody_else_stay(stage: Stage, last: str | None) -> None:
    first = stage.commits("echo fixed > fix")
    stage.push()
    theirs = stage.ground.commit("review", "a person's")
    stage.ground.git("push", "--quiet", "--force", str(stage.at_forge), f"HEAD:refs/heads/{BRANCH}")
    stage.commits("echo more > fix")
    assert stage.push(last=first if last else None).outcome is PushOutcome.MOVED
    assert stage.forge_commit(BRANCH) == theirs


def test_a_branch_that_somebody_deleted_is_not_made_again(stage: Stage) -> None:
    first = stage.commits("echo fixed > fix")
    stage.push()
    stage.ground.git("update-ref", "-d", f"refs/heads/{BRANCH}", cwd=stage.at_forge)
    stage.commits("echo more > fix")
    assert stage.push(last=first).outcome is PushOutcome.MOVED
    assert stage.forge_commit(BRANCH) == ""


def test_a_push_of_somebody_else_while_ours_is_under_way_stays(stage: Stage) -> None:
    first = stage.commits("echo fixed > fix")
    stage.push()
    theirs = stage.ground.commit("review", "a person's")
    stage.commits("echo more > fix")
    stage.server.before_receive = lambda: (
        stage.ground.git("push", "--quiet", "--force", str(stage.at_forge), f"HEAD:refs/heads/{BRANCH}"),
        None,
    )[1]
    assert stage.push(last=first).outcome is PushOutcome.MOVED
    assert stage.forge_commit(BRANCH) == theirs


def test_a_hook_that_declines_is_quoted_without_its_colors(stage: Stage) -> None:
    hook(stage, "pre-receive", f"printf 'No \\033[31mbranches\\033[0m today\\a {TOKEN}' >&2; exit 1")
    stage.commits("echo fixed > fix")
    result = stage.push()
    assert result.outcome is PushOutcome.DECLINED
    assert "No branches today" in result.words
    assert "pre-receive hook declined" in result.words
    assert result.words.isprintable()
    assert TOKEN not in result.words
    assert stage.forge_commit(BRANCH) == ""


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (401, PushOutcome.UNAUTHORIZED),
        (403, PushOutcome.UNAUTHORIZED),
        (404, PushOutcome.UNAUTHORIZED),
        (413, PushOutcome.DECLINED),
        (302, PushOutcome.DECLINED),
        (429, PushOutcome.AWAY),
        (502, PushOutcome.AWAY),
    ],
)
def test_a_status_says_how_it_failed(stage: Stage, status: int, outcome: PushOutcome) -> None:
    stage.commits("echo fixed > fix")
    stage.server.status = status
    result = stage.push()
    assert result.outcome is outcome, result
    assert result.words


def test_a_redirect_is_not_followed(stage: Stage) -> None:
    stage.commits("echo fixed > fix")
    stage.server.status = 302
    before = len(stage.server.requests)
    stage.push()
    assert len(stage.server.requests) == before + 1


def test_a_wrong_token_is_unauthorized(stage: Stage) -> None:
    stage.commits("echo fixed > fix")
    result = stage.push(remote=stage.remote(token="wrong-token-000"))
    assert result.outcome is PushOutcome.UNAUTHORIZED
    assert "wrong-token-000" not in result.words


def test_a_forge_that_is_not_there_is_away(stage: Stage) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stage.commits("echo fixed > fix")
    assert stage.push(remote=stage.remote(url=f"http://127.0.0.1:{port}/owner/repo.git")).outcome is PushOutcome.AWAY


def test_a_forge_that_hangs_is_away_after_the_time_that_is_allowed(stage: Stage) -> None:
    stage.commits("echo fixed > fix")
    stage.server.hanging = True
    assert stage.push(remote=stage.remote(timeout_s=1.0)).outcome is PushOutcome.AWAY


def test_while_git_runs_the_token_is_in_no_argument_no_environment_and_no_file(stage: Stage) -> None:
    stage.commits("echo fixed > fix")
    seen: list[bytes] = []

    def look() -> None:
        """The server has the request now, so git is running."""
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid():
                for part in ("cmdline", "environ"):
                    try:
                        seen.append((process / part).read_bytes())
                    except OSError:
                        continue

    stage.server.before_receive = look
    with stage.incoming() as branch:
        result = push.push(
            branch,
            checked(branch),
            PushTarget(remote=stage.remote(), branch=BRANCH, last_pushed=None, default_branch="main"),
        )
        files = [path for path in branch.git_dir.rglob("*") if path.is_file()]
        assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    assert result.outcome is PushOutcome.PUSHED
    assert any(b"push" in each and BRANCH.encode() in each for each in seen), "git was not seen at work"
    assert not [each for each in seen if TOKEN.encode() in each]


def test_nothing_is_pushed_to_other_branches(stage: Stage) -> None:
    stage.commits("echo fixed > fix")
    before = len(stage.server.requests)
    for branch in ("main", "muster/coder0", "muster/issue-17-x..y", "refs/heads/main", "--mirror"):
        with pytest.raises(PublishingError) as refused:
            stage.push(branch=branch)
        assert refused.value.code == "publishing.protected_branch"
    with stage.incoming() as fetched, pytest.raises(PublishingError, match="protects"):
        push.push(
            fetched,
            checked(fetched),
            PushTarget(
                remote=stage.remote(), branch=BRANCH, last_pushed=None, default_branch="main", protected=("muster/**",)
            ),
        )
    assert len(stage.server.requests) == before


def test_only_what_was_checked_and_found_fine_is_pushed(stage: Stage) -> None:
    stage.commits(f"echo {SECRET} > a")
    target = PushTarget(remote=stage.remote(), branch=BRANCH, last_pushed=None, default_branch="main")
    found = stage.review()
    stage.agent("git reset -q --hard HEAD~1")
    stage.commits("echo x > a")
    fine = stage.review()
    newer = stage.commits("echo y > a")
    with stage.incoming() as branch:
        assert branch.tip == newer
        for review in (found, fine):
            with pytest.raises(PublishingError) as refused:
                push.push(branch, review, target)
            assert refused.value.code == "publishing.not_checked"
    assert stage.push().outcome is PushOutcome.PUSHED


def test_a_certificate_counts_only_if_an_operator_named_its_authority(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=LIMIT_S,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with served(tmp_path / "forge", context) as server:
        stage = Stage(tmp_path, server, ca_file=certificate)
        commit = stage.commits("echo x > x")
        stranger = ForgeRemote(url=server.url(), token=TOKEN)
        before = len(server.requests)
        assert stage.push(remote=stranger).outcome is PushOutcome.AWAY
        assert len(server.requests) == before
        assert stage.push().outcome is PushOutcome.PUSHED
        assert stage.forge_commit(BRANCH) == commit


def test_the_branches_of_an_issue_are_listed(stage: Stage) -> None:
    commit = stage.commits("echo fixed > fix")
    stage.push()
    stage.push(branch="muster/issue-18")
    with stage.incoming() as branch:
        assert push.remote_branches(branch, stage.remote(), 17) == {BRANCH: commit}
        stage.server.status = 503
        with pytest.raises(RemoteUnread) as failed:
            push.remote_branches(branch, stage.remote(), 17)
    assert failed.value.result.outcome is PushOutcome.AWAY


def test_a_push_that_nobody_waits_for_ends(stage: Stage) -> None:
    stage.commits("echo fixed > fix")
    stage.server.asked.clear()
    stage.server.hanging = True
    target = PushTarget(remote=stage.remote(), branch=BRANCH, last_pushed=None, default_branch="main")
    with stage.incoming(given_up=stage.server.asked.is_set) as branch, pytest.raises(GivenUp):
        push.push(branch, checked(branch), target)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://forge.example/a/b.git", "publishing.not_encrypted"),
        ("https://user:secret@forge.example/a/b.git", "publishing.bad_address"),
        ("ssh://forge.example/a/b.git", "publishing.bad_address"),
        ("ext::sh -c touch% /tmp/x", "publishing.bad_address"),
        ("file:///etc", "publishing.bad_address"),
        ("https://forge.example/a b", "publishing.bad_address"),
        ("https:///a/b.git", "publishing.bad_address"),
    ],
)
def test_an_address_that_leaks_or_runs_something_is_refused(url: str, code: str) -> None:
    with pytest.raises(PublishingError) as refused:
        ForgeRemote(url=url, token=TOKEN)
    assert refused.value.code == code
    assert "secret" not in str(refused.value)
    assert TOKEN not in repr(ForgeRemote(url="https://forge.example/a/b.git", token=TOKEN))


def test_a_token_with_a_line_end_would_be_another_credential() -> None:
    with pytest.raises(PublishingError):
        ForgeRemote(url="https://forge.example/a/b.git", token="a\nhost=evil")
