"""A newer version is installed beside the one that runs, and the step over to it is done or undone."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bot.commands import sections
from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.interfaces.cli.main import run
from bot.interfaces.cli.version_launcher import STAY, handed_over
from bot.maintenance import atomic_swap, versions
from bot.maintenance.update import default_files, packages, running_versions
from bot.maintenance.update import service as updating
from bot.maintenance.update.packages import UpdateCandidate
from bot.maintenance.update.relaunch import Relaunched, relaunch
from bot.maintenance.update.service import Options, Updated
from bot.setup import wizard
from bot.setup.wizard_chat import WizardAnswers
from bot.text.errors import NotRunning, UserError
from database import migrations
from fleet import roles
from fleet.hosting import systemd
from fleet.supervision import host_lock
from tests.bot.maintenance.installation import hidden, standing
from tests.bot.maintenance.update import next_version
from tests.crash.deaths import die_at

CANDIDATE = UpdateCandidate(version=next_version.VERSION, requirement="")


#: Backups are named by the second.
_seconds = itertools.count(1)


def go(paths: Paths, *, reseed: bool = True) -> Updated:
    return asyncio.run(updating.go_to(paths, {}, CANDIDATE, Options(reseed=reseed), now=float(next(_seconds))))


def revision(paths: Paths) -> str:
    with closing(sqlite3.connect(paths.state / "register.db")) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def changes(paths: Paths) -> list[dict[str, str]]:
    return [
        {"path": str(paths.roles / "coder.md"), "content": "new coder", "verdict": "replace"},
        {"path": str(paths.roles / "board.md.new"), "content": "new board", "verdict": "conflict"},
    ]


@pytest.fixture
def ready(paths: Paths) -> Paths:
    """An installation, with the next version beside it that brings two files and a schema."""
    next_version.installed(paths)
    next_version.behave(paths, changes=changes(paths), record={"answers": {}, "files": {}})
    (paths.roles / "coder.md").write_text("old coder")
    (paths.roles / "board.md").write_text("the operator's board")
    return paths


def test_the_step_over(ready: Paths) -> None:
    with only_one(ready.lock):  # an orchestrator runs meanwhile, of this version
        done = go(ready)
    assert json.loads((ready.config / "request.json").read_text())["roles"] == default_files.shipped_roles()
    assert versions.current(ready) == versions.folder(ready, next_version.VERSION)
    assert revision(ready) == next_version.SCHEMA
    assert (ready.roles / "coder.md").read_text() == "new coder"
    assert (ready.roles / "board.md").read_text() == "the operator's board"
    assert (ready.roles / "board.md.new").read_text() == "new board"
    assert done.replaced == (str(ready.roles / "coder.md"),)
    assert done.conflicts == (str(ready.roles / "board.md.new"),)
    assert Path(str(done.backup)).is_file()
    assert hidden(ready) == []
    # What is called `muster` is that version now, unless somebody wants this one.
    environ = {"MUSTER_HOME": str(ready.home)}
    handed = handed_over(["ps", "--all"], environ)
    assert handed is not None
    assert handed[0] == str(versions.folder(ready, next_version.VERSION) / "bin" / "python")
    assert handed[-2:] == ["ps", "--all"]
    assert handed_over(["ps"], {**environ, STAY: "1"}) is None


@pytest.mark.parametrize("step", ["survey", "migrate"])
def test_a_step_that_fails_changes_nothing(ready: Paths, step: str) -> None:
    next_version.behave(ready, fails=step, changes=changes(ready), record={"answers": {}, "files": {}})
    before = standing(ready)
    with pytest.raises(UserError, match=f"it does not work: {step}"):
        go(ready)
    assert {key: value for key, value in standing(ready).items() if key != "request.json"} == before
    assert versions.current(ready) is None
    assert hidden(ready) == []


@pytest.mark.parametrize(
    ("survey", "words"),
    [
        ({"problems": ["muster.yaml:1: no"]}, "would not take the configuration"),
        ({"protocol": 2}, "in one step"),
        ({"changes": [{"path": "/etc/passwd", "content": "", "verdict": "replace"}]}, "it may not change"),
        ({"changes": 3}, "does not say what it would change"),
    ],
)
def test_a_version_that_does_not_fit_is_refused(ready: Paths, survey: dict[str, Any], words: str) -> None:
    next_version.behave(ready, **survey)
    with pytest.raises(UserError, match=words):
        go(ready)
    assert versions.current(ready) is None


def test_an_installation_that_never_ran_is_updated_too(ready: Paths) -> None:
    (ready.state / "register.db").unlink()
    next_version.behave(ready, schema=migrations.head())
    done = go(ready)
    assert done.backup is None
    assert versions.current(ready) is not None


def test_a_version_that_was_built_again_is_not_the_one_that_stands(ready: Paths) -> None:
    (versions.folder(ready, next_version.VERSION) / versions.COMPLETE).write_text('{"sha256": "a"}')
    for digest, stands in (("b", False), ("a", True)):
        if stands:
            next_version.installed(ready)
            (versions.folder(ready, next_version.VERSION) / versions.COMPLETE).write_text('{"sha256": "a"}')
        candidate = UpdateCandidate(version=next_version.VERSION, requirement="/no/file.whl", digest=digest)
        work = updating.go_to(ready, {}, candidate, Options(), now=float(next(_seconds)))
        if stands:
            asyncio.run(work)
        else:
            with pytest.raises(packages.NotInstalled, match="was not installed"):
                asyncio.run(work)
        assert (versions.current(ready) is not None) == stands


def test_a_disk_that_does_not_take_it_is_named(ready: Paths) -> None:
    shutil.rmtree(ready.state / "versions")
    (ready.state / "versions").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"not updated: File exists \(.*/versions\)"):
        go(ready)


def test_files_are_left_alone_when_asked(ready: Paths) -> None:
    assert go(ready, reseed=False).replaced == ()
    assert (ready.roles / "coder.md").read_text() == "old coder"
    assert not (ready.roles / "board.md.new").exists()


def _killed_update(ready: Paths, places: Sequence[tuple[str, bool]]) -> None:
    before, revision_before = standing(ready), revision(ready)
    for place, done in places:
        next(_seconds)
        die_at(place, lambda: go(ready))
        (ready.config / "request.json").unlink(missing_ok=True)
        if done:
            asyncio.run(atomic_swap.settle(ready, {}))
            break
        if place not in ("restore.plan.before",):
            with pytest.raises(atomic_swap.CutOff):
                asyncio.run(atomic_swap.settle(ready, {}))
        assert {key: text for key, text in standing(ready).items() if "/.update-" not in key} == before, place
        assert versions.current(ready) is None
        assert revision(ready) == revision_before
    assert versions.current(ready) is not None
    assert revision(ready) == next_version.SCHEMA
    assert (ready.roles / "coder.md").read_text() == "new coder"
    # What is left lying after the end goes with the next update.
    assert all(name.startswith(".update-") for name in hidden(ready))


def test_killed_at_this_place_an_update_is_done_or_undone(ready: Paths) -> None:
    _killed_update(ready, [("restore.move.after:3", False), ("restore.decide.before", True)])


@pytest.mark.soak
@pytest.mark.parametrize("last", ["restore.decide.before", "restore.decide.after"])
def test_killed_at_every_place_an_update_is_done_or_undone(ready: Paths, last: str) -> None:
    moves = [f"restore.move.{side}:{count}" for count in range(1, 9) for side in ("before", "after")]
    places = [(place, False) for place in ("restore.plan.before", "restore.plan.after", *moves)]
    _killed_update(ready, [*places, (last, True)])


@pytest.mark.soak
def test_killed_at_this_place_a_version_is_whole_or_gone(paths: Paths, tmp_path: Path) -> None:
    """With pip, and a real package."""
    next_version.behave(paths)
    file = next_version.wheel(tmp_path)
    options = Options(place=str(file), with_pip=False)
    assert updating.check(options).newer
    for side in ("before", "after"):
        die_at(
            f"update.install.{side}",
            lambda: asyncio.run(updating.update(paths, {}, options, now=float(next(_seconds)))),
        )
        assert bool(versions.standing(paths)) == (side == "after")
        assert versions.current(paths) is None
    done = asyncio.run(updating.update(paths, {}, options, now=99.0))
    assert isinstance(done, Updated)
    assert done.after == next_version.VERSION
    other = next_version.wheel(tmp_path, name="another_package")
    with pytest.raises(UserError, match="is the package another-package"):
        updating.check(Options(place=str(other)))


# --- what is said ----------------------------------------------------------------------------------------------------


def test_a_checkout_is_updated_by_its_owner(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    if packages.checkout() is None:
        pytest.skip("tried by hand where Muster is not installed from its sources")
    assert run(sections.load(), ["update"]) == 1
    assert "git pull" in capsys.readouterr().err


def test_what_is_said_where_no_index_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", tmp_path.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    assert run(sections.load(), ["update", "--check"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("The package index does not have muster-fleet.")
    assert "    ERROR: No matching distribution" in said


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("WARNING: Retrying (Retry(total=4)) after ...\nERROR: ... (from versions: none)", "cannot be reached"),
        ("ERROR: ... (from versions: 1.0, 2.0)\nERROR: No matching distribution found", "but no version for Python 3"),
        ("ERROR: something else", "cannot find out"),
    ],
)
def test_what_is_said_of_an_index(words: str, meaning: str) -> None:
    assert meaning in packages.not_in_index(words)


def test_wrong_words(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(sections.load(), ["update", "--check", "--relaunch"]) == 2
    assert run(sections.load(), ["update", "--from", str(paths.state / "no.whl")]) == 1
    assert "There is no file" in capsys.readouterr().err
    assert run(sections.load(), ["update", "--from", "http://example.org/x.whl"]) == 1
    assert "https://" in capsys.readouterr().err
    with atomic_swap.at_work(paths), pytest.raises(UserError, match=rf"process {os.getpid()}"):
        go(paths)


# --- versions --------------------------------------------------------------------------------------------------------


def test_versions_in_their_order() -> None:
    ordered = [
        "0.9",
        "1.0.dev1",
        "1.0a1",
        "1.0a2.dev1",
        "1.0a2",
        "1.0b1",
        "1.0rc1",
        "1.0",
        "1.0.post1",
        "1.0.1",
        "1.10",
        "1!0.1",
    ]
    assert sorted(reversed(ordered), key=versions.order) == ordered
    assert versions.order("1.0") == versions.order("1.0.0") == versions.order("v1.0+local")
    assert versions.is_newer("0.0.1", "no version")
    assert not versions.is_name("../../x")


def test_an_old_link_sends_nobody_back(paths: Paths) -> None:
    next_version.installed(paths, "0.0.1")
    (paths.state / "current").symlink_to("versions/0.0.1")
    assert handed_over([], {"MUSTER_HOME": str(paths.home)}) is None
    for elsewhere in ("/usr", "versions/../..", "versions/nothing", "versions/0.0.1/.."):
        (paths.state / "current").unlink()
        (paths.state / "current").symlink_to(elsewhere)
        assert versions.current(paths) is None


def test_who_runs_what(paths: Paths) -> None:
    with only_one(paths.lock):
        (own,) = running_versions.running(paths)
    assert (own.agent, own.pid) == (running_versions.ORCHESTRATOR, os.getpid())
    prefix = next_version.installed(paths)
    for python, version in ((sys.executable, f"the one in {sys.prefix}"), (prefix / "bin" / "python", "99.1")):
        waits = "print('here', flush=True); input()"
        with subprocess.Popen([python, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert running_versions.of(paths, "imp", process.pid).version == version
            assert running_versions.of(paths, "imp", process.pid).is_of(prefix) == (version == "99.1")
            (other := paths.config / version[-3:]).symlink_to(paths.state)
            found = running_versions.of(dataclasses.replace(paths, state=other), "imp", process.pid)
            assert found.version == version, "however the state folder is named"
            assert found.is_of(versions.folder(dataclasses.replace(paths, state=other), "99.1")) == (version == "99.1")
            process.kill()


def test_what_is_not_ours_to_start_anew_is_said(paths: Paths) -> None:
    assert relaunch(paths) == Relaunched(orchestrator=False, egress=False, agents=(), refused=())
    held = host_lock.hold(paths.agent_folder("imp"))
    next_version.installed(paths)
    (paths.state / "current").symlink_to(f"versions/{next_version.VERSION}")
    with pytest.raises(NotRunning, match="without it agents are not started again: imp"):
        relaunch(paths)
    with (
        only_one(paths.lock),
        pytest.raises(UserError, match=rf"\(process {os.getpid()}\) runs in a terminal or under"),
    ):
        relaunch(paths)
    os.close(held)


def test_what_was_installed_outside_since_is_not_left_for_an_older_version(paths: Paths) -> None:
    assert versions.chosen(paths, "1.0") == Path(sys.prefix)
    prefix = next_version.installed(paths, "2.0")
    (paths.state / "current").symlink_to("versions/2.0")
    assert [versions.chosen(paths, ours) for ours in ("1.0", "2.0", "2.1")] == [prefix, prefix, Path(sys.prefix)]


def test_the_hint_of_an_update_from_a_file_works_where_no_index_has_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next_version.installed(paths)
    (paths.state / "current").symlink_to(f"versions/{next_version.VERSION}")
    held = host_lock.hold(paths.agent_folder("imp"))
    monkeypatch.setattr(packages, "checkout", lambda: None)
    monkeypatch.setattr(packages, "find_spec", lambda _: None)  # no pip that could be asked
    assert run(sections.load(), ["update", "--relaunch"]) == 3
    assert "without it agents are not started again: imp" in capsys.readouterr().err
    os.close(held)
    assert run(sections.load(), ["update", "--relaunch"]) == 1
    assert "There is no pip" in capsys.readouterr().err


# --- files that began as ours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "yours", "verdict"),
    [
        ("a", "a", "a", "leave"),
        ("a", "b", "a", "replace"),
        ("a", "b", "b", "leave"),
        ("a", "a", "mine", "leave"),
        ("a", "b", "mine", "conflict"),
        ("a", "b", None, "leave"),
        ("a", None, "a", "leave"),
        (None, "b", "mine", "leave"),
    ],
)
def test_three_ways(before: str | None, now: str | None, yours: str | None, verdict: str) -> None:
    assert default_files.decide(before, now, yours) == verdict


@pytest.mark.parametrize(
    ("before", "now", "yours", "verdict", "becomes"),
    [
        ('run "/a/py"', 'run "/b/py"', 'run "/a/py"', "replace", 'run "/b/py"'),
        ('run "/a/py"', 'run "/b/py"', 'run "/a/py"\nNice=5', "replace", 'run "/b/py"\nNice=5'),
        ('run "/a/py"', 'walk "/b/py"', 'run "/a/py"\nNice=5', "conflict", 'walk "/b/py"'),
        ('run "/a/py"', 'walk "/b/py"', 'run "/a/py"', "replace", 'walk "/b/py"'),
        ('run "/a/py"', 'run "/b/py"', "mine alone", "leave", "mine alone"),
        (None, 'run "/b/py"', "mine alone", "leave", "mine alone"),
    ],
)
def test_a_unit_follows_the_interpreter(before: str | None, now: str, yours: str, verdict: str, becomes: str) -> None:
    assert default_files.merge(before, now, yours, "/a/py", "/b/py") == (verdict, becomes)


def test_an_unedited_unit_is_brought_up_to_date(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(paths.config / "xdg"))
    (name, text), *_ = default_files.shipped_units(paths, os.environ).items()
    assert default_files.unit_changes(paths, os.environ, {}, "/old/python") == []
    systemd.write(name, text.replace(sys.executable, "/old/python"))
    then = {name: text.replace(sys.executable, "/old/python")}
    (change,) = default_files.unit_changes(paths, os.environ, then, "/old/python")
    assert (change.path, change.content, change.verdict) == (str(systemd.folder() / name), text, "replace")


def test_what_an_update_changes_in_the_operators_files(paths: Paths) -> None:
    shipped = (roles.SHIPPED / "coder.md").read_text()
    (paths.roles / "coder.md").write_text("as it was shipped before")
    (paths.roles / "board.md").write_text("edited")
    (paths.roles / "research.md").write_text((roles.SHIPPED / "research.md").read_text())
    before = {
        "coder.md": default_files.digest("as it was shipped before"),
        "board.md": default_files.digest("board then"),
    }
    answers = WizardAnswers(chat="terminal", preset="general", runtime="sim")
    paths.roster_yaml.write_text(wizard.roster_yaml(answers) + "# edited\n")
    default_files.remember(paths, answers)
    found = {Path(each.path).name: (each.verdict, each.content) for each in default_files.changes(paths, before)}
    assert found.keys() == {"coder.md", "board.md.new"}, "what is shipped as it was is nobody's change"
    assert found["coder.md"] == ("replace", shipped)
    assert found["board.md.new"][0] == "conflict"

    record = default_files.read_record(paths)
    record["files"]["roster.yaml"] = default_files.digest("the preset of then")
    record["files"]["muster.yaml"] = default_files.digest(paths.muster_yaml.read_text())
    default_files.write_record(paths, record)
    found = {Path(each.path).name: (each.verdict, each.content) for each in default_files.changes(paths, {})}
    assert found["roster.yaml.new"] == ("conflict", wizard.roster_yaml(answers))
    assert found["muster.yaml"] == ("replace", wizard.muster_yaml(answers))
    (paths.state / default_files.RECORD).write_text('{"files": {}, "answers": {"preset": "unheard of"}}')
    assert default_files.changes(paths, {}) == []
