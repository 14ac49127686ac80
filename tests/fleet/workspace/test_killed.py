"""Muster dies while it makes a clone, takes over commits or removes a clone, and goes on afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from core import crash_points
from tests import soak
from tests.fleet.workspace.repository import LIMIT_S, Ground

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)

PLACES = [f"workspace.{step}.{side}" for step in ("make", "collect", "remove", "merge") for side in ("before", "after")]
DO = {
    "make": "ground.prepare()",
    "collect": "ground.collect()",
    "remove": "ground.clone.remove()",
    "merge": """
from fleet.workspace import branch_merge
from fleet.workspace.merge_trial import MergeRequest
ground.collect()
request = MergeRequest(source=ground.project, agent="coder0", folder=ground.clone.folder, squash=True)
merged = branch_merge.merge(request)
assert merged is not None and merged.commits == 1
""",
}


def started(ground: Ground, act: str, **environment: str) -> subprocess.Popen[bytes]:
    script = f"""
import pathlib, sys
from tests.fleet.workspace.repository import Ground
ground = Ground(pathlib.Path(sys.argv[1]))
{act}
"""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(ground.folder)], env={**os.environ, **environment}, stdin=subprocess.DEVNULL
    )


def test_all_places_are_known() -> None:
    assert {place for place in crash_points.places() if place.startswith("workspace.")} == set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_this_place_no_half_of_a_clone_is_taken_for_one(ground: Ground, place: str) -> None:
    step = place.split(".")[1]
    commit = None
    if step != "make":
        ground.prepare()
        commit = ground.work()
    process = started(ground, DO[step], **{crash_points.ENVIRONMENT_VARIABLE: place})
    assert process.wait(LIMIT_S) == -signal.SIGKILL
    again = started(ground, DO[step])
    assert again.wait(LIMIT_S) == 0
    if commit is not None:
        assert ground.at("refs/heads/muster/coder0") == commit
    if step == "merge":
        assert ground.git("log", "--format=%s", "main") == "Squash muster/coder0.\nWrite read.me."
        assert ground.git("status", "--porcelain") == ""
        assert (ground.project / "work").read_text() == "done\n"
    if step == "remove":
        assert not ground.clone.place.exists()
        assert ground.clone.record() is None
        assert list(ground.clone.place.parent.iterdir()) == []
        assert ground.git("for-each-ref", "--format=%(refname)") == "refs/heads/main\nrefs/heads/muster/coder0"
    ground.prepare()
    assert ground.agent("git status --porcelain; git branch --show-current; cat read.me") == "muster/coder0\nhello"
    assert [path.name for path in ground.clone.place.parent.iterdir()] == ["coder0"]
    ground.work("more")
    assert ground.collect() is not None


def test_killed_at_any_moment_of_making_it_is_made_whole_the_next_time(ground: Ground) -> None:
    rng = random.Random(f"{soak.seed()} workspace")
    for number in range(60):
        (ground.project / f"file{number}").write_text(f"{number}\n" * 500)
    ground.git("add", ".")
    ground.git("commit", "--quiet", "-m", "many")
    for _ in range(3):
        process = started(ground, DO["make"])
        deadline = time.monotonic() + LIMIT_S
        wanted = rng.choice((0, 1, 10, 30, 55))
        while process.poll() is None and time.monotonic() < deadline:
            # The clone may get its name between one look and the next.
            with contextlib.suppress(FileNotFoundError):
                parts = list(ground.clone.place.parent.glob(".coder0.*.part"))
                if parts and sum(1 for _ in parts[-1].glob("file*")) >= wanted:
                    process.kill()
                    break
        process.wait(LIMIT_S)
        if ground.clone.place.exists():
            ground.prepare()
            assert ground.agent("git status --porcelain; ls | wc -l") == "61"
            assert ground.clone.remove(discard=True)
    ground.prepare()
    assert ground.agent("git status --porcelain; ls | wc -l") == "61"
    assert [path.name for path in ground.clone.place.parent.iterdir()] == ["coder0"]
