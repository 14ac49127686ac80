"""Muster's copy of a forge's repository, also after it was killed while it fetched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core import crash_points
from forge.model.references import RepositoryName
from forge.publishing.errors import PublishingError
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.mirror import MirrorNotUpdated, RepositoryMirror
from forge.publishing.remote_answers import PushOutcome
from tests.crash.deaths import both
from tests.fleet.workspace.repository import LIMIT_S
from tests.forge.publishing.git_server import TOKEN
from tests.forge.publishing.stage import Stage

PLACES = both("publishing.create", "publishing.update", "publishing.fetch")
SCRIPT = """
import pathlib, sys
from forge.model.references import RepositoryName
from forge.publishing import incoming
from forge.publishing.forge_remote import ForgeRemote
from forge.publishing.mirror import RepositoryMirror
from tests.fleet.workspace.repository import Ground
state, machine, url, token, base = sys.argv[1:]
mirror = RepositoryMirror(folder=pathlib.Path(state) / "mirrors", name=RepositoryName("owner", "repo"))
repository = mirror.update(ForgeRemote(url=url, token=token), "main")
clone = Ground(pathlib.Path(machine)).clone
with incoming.opened(pathlib.Path(state) / "incoming", clone, repository, base) as branch:
    assert branch is not None
"""


def test_all_places_are_known() -> None:
    assert {place for place in crash_points.places() if place.startswith("publishing.")} == set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_this_place_the_next_attempt_succeeds(stage: Stage, place: str) -> None:
    commit = stage.commits("echo x > x")
    state = stage.folder / "state"
    if "create" in place:
        # The clone goes on with what it borrows: the mirror is made again beside.
        state = stage.folder / "other"
    arguments = (str(state), str(stage.ground.folder), stage.server.url(), TOKEN, stage.base)
    environment = {**os.environ, crash_points.ENVIRONMENT_VARIABLE: place}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    killed = subprocess.run(command, env=environment, timeout=LIMIT_S, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    subprocess.run(command, timeout=LIMIT_S, check=True)
    with stage.incoming() as branch:
        assert branch.tip == commit


def test_locks_and_drafts_that_a_killed_git_left_are_in_nobodys_way(stage: Stage) -> None:
    newer = stage.ground.commit("more", "more")
    stage.publish_base()
    place = stage.mirror.place
    left = [place / "refs/heads/main.lock", place / "packed-refs.lock", place / "objects/pack/tmp_pack_x"]
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    repository = stage.mirror.update(stage.remote(), "main")
    assert not [path for path in left if path.exists()]
    assert stage.ground.git("rev-parse", "main", cwd=repository.common) == newer


def test_a_branch_that_was_rewritten_at_the_forge_is_followed(stage: Stage) -> None:
    stage.ground.git("commit", "--quiet", "--amend", "-m", "Again.")
    stage.ground.git("push", "--quiet", "--force", str(stage.at_forge), "main:main")
    stage.mirror.update(stage.remote(), "main")
    assert stage.ground.git("rev-parse", "main", cwd=stage.mirror.place) == stage.forge_commit("main")


@pytest.mark.parametrize(
    ("token", "status", "branch", "outcome"),
    [
        ("wrong", None, "main", PushOutcome.UNAUTHORIZED),
        (TOKEN, 503, "main", PushOutcome.AWAY),
        (TOKEN, None, "nothing", PushOutcome.DECLINED),
    ],
)
def test_why_it_could_not_be_fetched(
    stage: Stage, token: str, status: int | None, branch: str, outcome: PushOutcome
) -> None:
    stage.server.status = status
    with pytest.raises(MirrorNotUpdated) as failed:
        stage.mirror.update(stage.remote(token=token), branch)
    assert failed.value.outcome is outcome
    assert str(failed.value).startswith(f"{branch} of owner/repo could not be fetched: ")


@pytest.mark.parametrize("branch", ["--upload-pack=x", "a..b", "", "a b", "x:refs/heads/y", "*"])
def test_a_name_that_is_no_branch_is_refused(tmp_path: Path, branch: str) -> None:
    mirror = RepositoryMirror(folder=tmp_path, name=RepositoryName("owner", "repo"))
    with pytest.raises(PublishingError) as refused:
        mirror.update(ForgeRemote(url="https://127.0.0.1:1/x.git", token="t"), branch)
    assert refused.value.code == "publishing.bad_branch"


def test_the_mirror_has_no_hooks_and_no_settings_of_others(stage: Stage) -> None:
    assert not (stage.mirror.place / "hooks").exists()
    assert "bare = true" in (stage.mirror.place / "config").read_text()
    assert TOKEN not in (stage.mirror.place / "config").read_text()
