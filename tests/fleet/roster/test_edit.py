"""Commands change the operator's roster without touching what the operator wrote."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from core.secret_references import Reference
from fleet.errors import RosterError
from fleet.roster import edit, loader
from tests.crash.deaths import die_at


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", "/home/ana")
    return tmp_path / "roster.yaml"


OWN = """\
# my fleet

version: 1   # the only one
defaults: {runtime: "sim"}   # quoted, since I like it

agents:
  # the boss
  - name: lead
    role: orchestrator   # keep


  - {name: 'coder0', role: coder}
# the end
"""


def test_adding_an_agent_keeps_comments_order_and_quotes(file: Path) -> None:
    file.write_text(OWN)
    assert edit.add_agent(file, {"name": "coder1", "role": "coder", "model": None, "workspace": "/srv/a b: c"})

    text = file.read_text()
    for line in OWN.splitlines():
        assert line in text
    assert [entry.name for entry in loader.load(file).agents] == ["lead", "coder0", "coder1"]
    assert loader.load(file).agents[2].workspace == "/srv/a b: c"
    assert "model" not in text
    assert file.with_name("roster.yaml.bak").read_text() == OWN


@pytest.mark.parametrize(
    "text", ["version: 1\n", "agents:\n", "agents: []\n", "# only this\n", "", "agents:\n- name: a\n- name: b\n"]
)
def test_agents_can_be_added_to_any_valid_roster(file: Path, text: str) -> None:
    file.write_text(text)
    before = [entry.name for entry in loader.load(file).agents]
    assert edit.add_agent(file, {"name": "x", "env": {"TOKEN": Reference("env", "T"), "N": "1"}, "runtime": "sim"})
    assert edit.add_agent(file, {"name": "y", "command": ("a", "--b"), "runtime": "custom"})
    entries = loader.load(file).agents
    assert [entry.name for entry in entries] == [*before, "x", "y"]
    assert entries[-2].env == {"TOKEN": Reference("env", "T"), "N": "1"}
    assert entries[-1].command == ("a", "--b")


def test_a_roster_is_made_with_its_explanation(file: Path) -> None:
    edit.add_agent(file, {"name": "coder0", "role": "coder"})
    assert file.read_text().startswith("# The fleet as you want it.")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.with_name("roster.yaml.bak").exists()


def test_an_agent_that_is_there_changes_nothing(file: Path) -> None:
    file.write_text(OWN)
    assert not edit.add_agent(file, {"name": "coder0", "role": "other"})
    assert file.read_text() == OWN


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "Not A Name"}, "not a name"),
        ({"name": "x", "rol": "y"}, "Did you mean 'role'"),
        ({"role": "y"}, "missing"),
    ],
)
def test_a_wrong_entry_leaves_the_file_alone(file: Path, entry: dict[str, Any], said: str) -> None:
    file.write_text(OWN)
    with pytest.raises(RosterError, match=said):
        edit.add_agent(file, entry)
    assert file.read_text() == OWN
    assert {path.name for path in file.parent.iterdir()} <= {"roster.yaml", ".roster.yaml.lock"}


def test_a_broken_roster_is_not_edited(file: Path) -> None:
    file.write_text("agents: [\n")
    with pytest.raises(RosterError, match=r"roster\.yaml:2"):
        edit.add_agent(file, {"name": "x"})
    assert file.read_text() == "agents: [\n"


def test_mode_and_link_stay(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "fleet.yaml"
    real.parent.mkdir()
    real.write_text(OWN)
    real.chmod(0o640)
    file.symlink_to(real)
    edit.add_agent(file, {"name": "x"})
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert loader.load(real).get("x") is not None


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RosterError, match="by hand"):
        edit.add_agent(tmp_path / "file" / "roster.yaml", {"name": "x"})


def test_two_at_once_are_both_added(file: Path) -> None:
    file.write_text(OWN)
    adding = [threading.Thread(target=edit.add_agent, args=(file, {"name": f"x{n}"})) for n in range(6)]
    for each in adding:
        each.start()
    for each in adding:
        each.join()
    assert {entry.name for entry in loader.load(file).agents} == {"lead", "coder0", *(f"x{n}" for n in range(6))}


@pytest.mark.parametrize("place", ["before", "after"])
def test_killed_on_the_way_the_file_is_whole(file: Path, place: str) -> None:
    file.write_text(OWN)
    die_at(f"roster.write.{place}", lambda: edit.add_agent(file, {"name": "x"}))
    assert (loader.load(file).get("x") is not None) == (place == "after")
    assert edit.add_agent(file, {"name": "x"}) == (place == "before")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "a", "role": "Big Boss"}, "role: not a role: 'Big Boss'"),
        ({"name": "a", "model": "two\nlines"}, "model: "),
        ({"name": "a", "runtime": "clade"}, "claude"),
    ],
)
def test_whether_an_entry_could_stand_there_is_known_before_it_is_written(entry: dict[str, str], said: str) -> None:
    with pytest.raises(RosterError) as refused:
        edit.check_entry(entry)
    assert said in str(refused.value)
    edit.check_entry({"name": "a", "role": "coder"})


def test_an_agent_has_its_own_heartbeat_and_freshness(file: Path) -> None:
    file.write_text("defaults: {heartbeat: 5s}\nagents:\n  - {name: a, freshness: 1m}\n  - {name: b}\n")
    a, b = loader.load(file).agents
    assert (a.heartbeat, a.freshness) == (5.0, 60.0)
    assert (b.heartbeat, b.freshness) == (5.0, None)


# --- the floor ---------------------------------------------------------------------------------------------------

FLEET = """\
# the fleet
preset: coding
agents:
  # leads
  - name: lead
    role: orchestrator

  # mends,
  # and reports
  - name: polisher   # shiny
    role: enhancer
    prompt: |
      # not a comment

      the end

  # codes
  - name: coder0
    role: coder

# the end
defaults:
  runtime: sim
"""


def names(file: Path) -> list[str]:
    return [entry.name for entry in loader.load(file).agents]


def test_nobody_is_added_who_would_be_a_second_orchestrator(file: Path) -> None:
    file.write_text(FLEET)
    with pytest.raises(RosterError, match=r"lead is the orchestrator, and a fleet has exactly one.*--instead-of lead"):
        edit.add_agent(file, {"name": "boss", "role": "orchestrator"})
    with pytest.raises(RosterError, match="no role is called 'tster'"):
        edit.add_agent(file, {"name": "t", "role": "tster"})
    with pytest.raises(RosterError, match="is what coder0 is called"):
        edit.add_agent(file, {"name": "t", "role": "coder", "alias": "Coder0"})
    assert file.read_text() == FLEET


def test_one_takes_anothers_place(file: Path) -> None:
    file.write_text(FLEET)
    assert edit.add_agent(file, {"name": "boss", "role": "orchestrator"}, instead_of="lead")
    assert names(file) == ["polisher", "coder0", "boss"]
    assert loader.load(file).breaches == ()
    with pytest.raises(RosterError, match="no agent of the roster is called 'lead'"):
        edit.add_agent(file, {"name": "chief", "role": "orchestrator"}, instead_of="lead")
    with pytest.raises(RosterError, match="no agent has the role enhancer"):
        edit.add_agent(file, {"name": "x", "role": "coder"}, instead_of="polisher")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lead", "lead is the only orchestrator.*--instead-of lead"),
        ("polisher", "the only enhancer.*Add another first"),
    ],
)
def test_the_last_of_either_stays(file: Path, name: str, said: str) -> None:
    file.write_text(FLEET)
    with pytest.raises(RosterError, match=said):
        edit.remove_agent(file, name)
    assert file.read_text() == FLEET
    file.write_text(FLEET.replace("coding", "minimal"))
    assert edit.remove_agent(file, name)


def test_a_second_enhancer_lets_the_first_one_go(file: Path) -> None:
    file.write_text(FLEET)
    edit.add_agent(file, {"name": "mender", "role": "enhancer"})
    assert edit.remove_agent(file, "polisher")
    assert names(file) == ["lead", "coder0", "mender"]


def test_a_fleet_below_the_floor_is_mended_step_by_step(file: Path) -> None:
    file.write_text("agents:\n  - {name: a}\n")
    for name, role in (("b", "coder"), ("lead", "orchestrator"), ("polisher", "enhancer")):
        assert edit.add_agent(file, {"name": name, "role": role})
    assert loader.load(file).breaches == ()
    with pytest.raises(RosterError, match="only enhancer"):
        edit.remove_agent(file, "polisher")


@pytest.mark.parametrize("text", [None, "", "version: 1\n", "agents: []\n", loader.HEADER])
def test_a_first_agent_makes_the_roster_a_minimal_one(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)
    assert edit.add_agent(file, {"name": "coder0", "role": "coder"})
    assert loader.load(file).preset == "minimal"
    assert edit.add_agent(file, {"name": "coder1", "role": "coder"})
    assert loader.load(file).breaches == ()


def test_a_workspace_that_was_asked_for_elsewhere_is_one_that_is_meant(file: Path) -> None:
    file.write_text(FLEET)
    for number, workspace in enumerate(("/srv/app", "/srv/app/inner", "/data", "/home/ana/src")):
        assert edit.add_agent(file, {"name": f"x{number}", "role": "coder", "workspace": workspace})
    found = loader.load(file)
    assert found.workspace_roots == ("/srv/app", "/data")
    assert found.breaches == ()
    assert all(line in file.read_text() for line in FLEET.splitlines())


# --- removing ----------------------------------------------------------------------------------------------------


def test_removing_takes_the_lines_of_the_agent_and_of_the_comment_above_it(file: Path) -> None:
    file.write_text(FLEET)
    edit.add_agent(file, {"name": "mender", "role": "enhancer"})
    added = file.read_text()
    assert edit.remove_agent(file, "polisher")
    gone = added[added.index("  # mends") : added.index("\n  # codes")]
    assert gone.endswith("the end\n")
    assert file.read_text() == added.replace(gone, "")
    assert file.with_name("roster.yaml.bak").read_text() == added
    assert not edit.remove_agent(file, "polisher")


def test_removing_the_last_in_the_file_leaves_what_stands_below(file: Path) -> None:
    file.write_text(FLEET)
    assert edit.remove_agent(file, "coder0")
    assert file.read_text() == FLEET.replace("  # codes\n  - name: coder0\n    role: coder\n", "")


@pytest.mark.parametrize(
    "text", [FLEET, OWN, OWN.replace("\n", "\r\n"), "agents:\n- name: a\n- {name: b,\n   role: coder}"]
)
@pytest.mark.parametrize("prompt", ["one line", "two\nlines\n", "# no comment", " - name: x\n", "täglich: 'ja'"])
def test_what_was_added_and_removed_again_leaves_no_trace(file: Path, text: str, prompt: str) -> None:
    file.write_bytes(text.encode())
    assert edit.add_agent(file, {"name": "x", "role": "coder", "prompt": prompt, "skills": ["a", "b"]})
    entry = loader.load(file).get("x")
    assert entry is not None
    assert (entry.prompt, entry.skills) == (prompt, ("a", "b"))
    assert edit.remove_agent(file, "x")
    assert file.read_bytes().decode().removesuffix("\n") == text.removesuffix("\n")


@pytest.mark.parametrize(
    "text",
    [
        "agents: [{name: a}, {name: b, role: coder}, {name: c}]\n",
        '{"version": 1, "agents": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}',
        "agents:\n- name: a\n-   name: b\n    role: coder\n-\n  name: c\n",
        "agents:\n  - {name: a}\n  - &b {name: b, env: &env {A: b}}\n  - {name: c, env: *env}\n",
        "agents:\r\n  - name: a\r\n  - name: b\r\n    role: coder\r\n  - name: c\r\n",
        "\ufeffagents:\n  - name: a\n  - name: b\n  - name: c",
        "agents:\n  - name: a\n  - {name: b,\n role: coder}\n  - name: c\n",
    ],
)
def test_an_agent_is_removed_however_the_roster_is_written(file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    before = {entry.name: entry for entry in loader.load(file).agents}
    assert edit.remove_agent(file, "b")
    assert {entry.name: entry for entry in loader.load(file).agents} == {"a": before["a"], "c": before["c"]}


def test_the_only_agent_is_removed(file: Path) -> None:
    file.write_text("# mine\nagents:\n  - name: a\n# the end\n")
    assert edit.remove_agent(file, "a")
    assert loader.load(file).agents == ()
    assert file.read_text() == "# mine\nagents:\n# the end\n"
