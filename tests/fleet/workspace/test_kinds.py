"""Which kind of workspace an agent gets for the folder that is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fleet.control.host_spec import AgentSpec
from fleet.errors import FleetError
from fleet.supervision import host_lifecycle
from fleet.workspace import Workspaces, clone_record, left_behind
from tests.fleet.workspace.repository import Ground

pytestmark = pytest.mark.skipif(
    not shutil.which("bwrap") or not shutil.which("git"), reason="bubblewrap or git is not installed"
)


def workspaces(ground: Ground, own: str = "state/workspaces") -> Workspaces:
    return Workspaces(
        own=lambda name: ground.folder / own / name,
        folder=lambda name: ground.folder / "state" / "agents" / name,
        hidden=(ground.folder / "state",),
    )


def settled(ground: Ground, named: Path, *, clone: bool | None = None, goes_on: bool = True, own: str = "") -> Path:
    made = workspaces(ground, own or "state/workspaces")
    made.check("coder0", named, clone=clone, sandboxed=True)
    return made.settle("coder0", named, clone=clone, sandboxed=True, goes_on=goes_on).place


def started_in(ground: Ground, place: Path) -> None:
    folder = ground.folder / "state" / "agents" / "coder0"
    folder.mkdir(parents=True)
    AgentSpec(
        agent="coder0", role="coder", runtime="sim", model=None, launch_id="l0", marker="m", folder=str(folder),
        socket="s", workspace=str(place), sandbox="none", command=(), environment={}, cwd=str(place),
    ).write(folder / host_lifecycle.SPEC)  # fmt: skip


def test_a_repository_is_cloned_and_other_folders_are_used_as_they_are(ground: Ground) -> None:
    own = ground.folder / "state" / "workspaces" / "coder0"
    assert settled(ground, own) == own
    own.rmdir()
    plain = ground.folder / "plain"
    plain.mkdir()
    assert settled(ground, plain) == plain
    part = ground.project / "part"
    part.mkdir()
    assert settled(ground, part) == part
    assert settled(ground, ground.project) == own
    assert (own / "read.me").exists()
    assert workspaces(ground).place("coder0", ground.project) == own
    assert workspaces(ground).place("coder0", plain) == plain


def test_the_roster_can_say_that_the_repository_itself_is_meant(ground: Ground) -> None:
    assert settled(ground, ground.project, clone=False) == ground.project
    assert not (ground.folder / "state" / "workspaces").exists()
    assert not workspaces(ground).discard("coder0", ground.project)
    assert (ground.project / "read.me").exists()


def test_without_a_clone_of_its_own_nobody_can_tell_what_an_agent_changed(ground: Ground) -> None:
    made = workspaces(ground)

    def why(named: Path) -> str:
        with pytest.raises(FleetError, match="coder0 has no clone of its own") as caught:
            made.diff("coder0", named, since=None, longest=1000)
        assert caught.value.code == "workspace.no_clone"
        return str(caught.value)

    plain = ground.folder / "plain"
    plain.mkdir()
    assert f"{plain} is no git repository" in why(plain)
    assert "other agents may work there too" in why(made.own("coder1"))
    assert "It has not begun" in why(ground.project)
    started_in(ground, ground.project)
    assert f"It works right in {ground.project}" in why(ground.project)
    assert settled(ground, ground.project, goes_on=False) == made.own("coder0")
    assert made.diff("coder0", ground.project, since=None, longest=1000).files == ()
    assert made.commits("coder0", ground.project, most=1).total == 0


def test_a_conversation_that_began_in_the_repository_goes_on_there(ground: Ground) -> None:
    started_in(ground, ground.project)
    assert settled(ground, ground.project) == ground.project
    assert settled(ground, ground.project, goes_on=False) == ground.folder / "state" / "workspaces" / "coder0"
    # And from then on in the clone.
    assert settled(ground, ground.project) == ground.folder / "state" / "workspaces" / "coder0"


@pytest.mark.parametrize("written", ["", "{", json.dumps({"agent": "x"})])
def test_what_a_last_start_left_half_written_is_no_hindrance(ground: Ground, written: str) -> None:
    folder = ground.folder / "state" / "agents" / "coder0"
    folder.mkdir(parents=True)
    (folder / host_lifecycle.SPEC).write_text(written)
    assert settled(ground, ground.project) == ground.folder / "state" / "workspaces" / "coder0"


@pytest.mark.parametrize("own", ["state/workspaces", "code"])
def test_agents_may_share_a_workspace_that_muster_made(ground: Ground, own: str) -> None:
    """Also where the person chose the folder for workspaces, and has their own repositories in it."""
    place = settled(ground, ground.project, own=own)
    assert place == ground.folder / own / "coder0"
    assert workspaces(ground, own).check("reviewer0", place, clone=None, sandboxed=True) is None
    assert workspaces(ground, own).settle("reviewer0", place, clone=None, sandboxed=True, goes_on=True).place == place


def test_a_repository_that_became_a_link_is_not_cloned(ground: Ground) -> None:
    elsewhere = ground.folder / "elsewhere"
    ground.project.rename(elsewhere)
    ground.project.symlink_to(elsewhere)
    with pytest.raises(FleetError, match="is a link to"):
        workspaces(ground).settle("coder0", ground.project, clone=None, sandboxed=True, goes_on=True)


def test_removing_keeps_what_is_nowhere_else_and_discarding_does_not(ground: Ground) -> None:
    place = settled(ground, ground.project)
    (place / "new").write_text("x")
    made = workspaces(ground)
    with pytest.raises(FleetError, match="1 file with changes"):
        made.remove("coder0", ground.project)
    assert made.discard("coder0", ground.project)
    assert not place.exists()
    assert not made.remove("coder0", ground.project)


def test_releasing_deletes_what_is_elsewhere_and_says_what_is_not(ground: Ground) -> None:
    place = settled(ground, ground.project)
    made = workspaces(ground)
    (place / "new").write_text("x")
    assert made.release("coder0") == "its clone has 1 file with changes that are not committed"
    (place / "new").unlink()
    # What a crash left of one that was being removed.
    part = place.parent / ".coder0.abc.part"
    part.mkdir()
    assert made.release("coder0") is None
    assert not place.exists()
    assert not part.exists()
    assert made.release("coder0") is None


def test_nothing_is_released_that_cannot_be_looked_at(ground: Ground) -> None:
    place = settled(ground, ground.project)
    made = workspaces(ground)
    away = ground.project.rename(ground.folder / "away")
    with pytest.raises(FleetError, match="is not there any more"):
        made.release("coder0")
    away.rename(ground.project)
    # Without Muster's record nobody knows what the files are.
    (ground.folder / "state" / "agents" / "coder0" / clone_record.NAME).unlink()
    assert "is no clone" in str(made.release("coder0"))
    assert place.exists()


def test_an_agent_that_has_a_clone_is_told_so(ground: Ground) -> None:
    told = workspaces(ground).settle("coder0", ground.project, clone=None, sandboxed=True, goes_on=True).instructions
    assert "on your branch muster/coder0" in told


def test_what_is_left_behind_is_said_in_a_sentence_or_not_at_all(ground: Ground) -> None:
    assert left_behind(ground.repository()) == ""
    (ground.project / "new").write_text("x")
    (ground.project / "read.me").write_text("x")
    assert left_behind(ground.repository()).startswith("2 files have changes")
