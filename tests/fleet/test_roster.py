"""The roster is the operator's file: read strictly, edited without touching what the operator wrote."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fleet import roster, runtimes
from fleet.errors import RosterError
from register import crashpoints
from register.references import Reference

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "roster.yaml"


WHOLE = """\
version: 1
defaults:
  runtime: claude
  model: sonnet
  env: {EDITOR: "true", LANG: C.UTF-8}
agents:
  - name: lead
    role: orchestrator
  - name: coder0
    role: coder
    runtime: custom
    command: [my-agent, --acp]
    model: opus
    workspace: /srv/src/../app
    sandbox: none
    env:
      LANG: de_AT.UTF-8
      PORT: 8080
      API_TOKEN: env:CODER_TOKEN
    prompt: Prefer small commits.
    account: main
"""


def test_an_absent_or_empty_roster_has_no_agents(file: Path) -> None:
    assert roster.load(file).agents == ()
    for text in ("", "version: 1\n", "agents:\n  # - name: coder0\n", roster.HEADER):
        file.write_text(text)
        assert roster.load(file).agents == ()


def test_a_whole_roster_with_its_defaults_filled_in(file: Path) -> None:
    file.write_text(WHOLE)
    lead, coder = roster.load(file).agents

    assert (lead.name, lead.role, lead.runtime, lead.model) == ("lead", "orchestrator", "claude", "sonnet")
    assert lead.env == {"EDITOR": "true", "LANG": "C.UTF-8"}
    assert (coder.runtime, coder.command, coder.model) == ("custom", ("my-agent", "--acp"), "opus")
    assert (coder.workspace, coder.sandbox, coder.account) == ("/srv/app", "none", "main")
    assert coder.env == {
        "EDITOR": "true",
        "LANG": "de_AT.UTF-8",
        "PORT": "8080",
        "API_TOKEN": Reference("env", "CODER_TOKEN"),
    }
    assert roster.load(file).get("coder0") == coder
    assert roster.load(file).get("nobody") is None


def test_a_workspace_in_the_home_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    file.write_text("agents:\n  - {name: a, workspace: ~/src}\n")
    assert roster.load(file).agents[0].workspace == "/home/ana/src"


def test_the_runtimes_are_those_that_there_are() -> None:
    assert set(roster.RUNTIMES) == set(runtimes.RUNTIMES)


A = "agents:\n  - name: a\n"
MISTAKES = [
    ("agents: coder0\n", "roster.yaml:1: agents: ", "found 'coder0'; a list is wanted"),
    ("agents:\n  coder0:\n    role: coder\n", "roster.yaml:1: agents: ", "found keys with values (coder0); a list"),
    ("agents:\n  - coder0\n", "roster.yaml:2: agents[0]: ", "found 'coder0'; keys with values are wanted"),
    ("version: 2\n", "roster.yaml:1: version: ", "found the number 2"),
    ("agnets: []\n", "roster.yaml:1: agnets: ", "Did you mean 'agents'?"),
    ("agents:\n  - role: coder\n", "roster.yaml:2: agents[0].name: ", "is missing"),
    ("agents:\n  -\n", "roster.yaml:2: agents[0].name: ", "is missing"),
    ("agents:\n  - name: Coder 0\n", "roster.yaml:2: agents[Coder 0].name: ", "not a name for an agent: 'Coder 0'"),
    ("agents:\n  - name: ../x\n", "roster.yaml:2: agents[../x].name: ", "not a name for an agent"),
    (f"agents:\n  - name: {'a' * 41}\n", "roster.yaml:2: ", "at most 40"),
    ("agents:\n  - name: 7\n", "roster.yaml:2: agents[0].name: ", "found the number 7; a text is wanted"),
    (
        A + "  - name: b\n  - name: a\n",
        "roster.yaml:4: agents[a].name: ",
        "a second agent of this name; the first is in l",
    ),
    (A + "    rol: coder\n", "roster.yaml:3: agents[a].rol: ", "Did you mean 'role'?"),
    (A + "    role: The Coder\n", "roster.yaml:3: agents[a].role: ", "not a role: 'The Coder'"),
    (A + "    runtime: cladue\n", "roster.yaml:3: agents[a].runtime: ", "Did you mean 'claude'?"),
    (A + "    sandbox: nothing\n", "roster.yaml:3: agents[a].sandbox: ", "allowed are bubblewrap, none."),
    (A + "    workspace: src\n", "roster.yaml:3: agents[a].workspace: ", "an absolute path is wanted"),
    (A + "    model: --dangerous\n", "roster.yaml:3: agents[a].model: ", "a name is wanted"),
    (A + "    model: [opus]\n", "roster.yaml:3: agents[a].model: ", "found a list; a text is wanted"),
    (A + "    command: [x]\n", "roster.yaml:3: agents[a].command: ", "goes with runtime: custom alone"),
    (A + "    runtime: custom\n", "roster.yaml:2: agents[a].command: ", "is missing: the runtime custom needs"),
    (A + "    runtime: custom\n    command: x --acp\n", "roster.yaml:4: agents[a].command: ", "a list is wanted"),
    (A + "    runtime: custom\n    command: []\n", "roster.yaml:4: agents[a].command: ", "found no program"),
    (A + "    env: [A=b]\n", "roster.yaml:3: agents[a].env: ", "found a list; keys with values are wanted"),
    (A + "    env:\n      A B: c\n", "roster.yaml:4: agents[a].env.A B: ", "not a name for an environment variable"),
    (A + "    env:\n      LD_PRELOAD: x\n", "roster.yaml:4: agents[a].env.LD_PRELOAD: ", "is Muster's to set"),
    (A + "    env:\n      HOME: /root\n", "roster.yaml:4: agents[a].env.HOME: ", "is Muster's to set"),
    (A + "    env:\n      MUSTER_AGENT: x\n", "roster.yaml:4: agents[a].env.MUSTER_AGENT: ", "is Muster's to set"),
    (A + "    env:\n      API_KEY: hunter2\n", "roster.yaml:4: agents[a].env.API_KEY: ", "Write env:NAME"),
    (A + "    env:\n      X: env:not a name\n", "roster.yaml:4: agents[a].env.X: ", "name of an environment variable"),
    (A + "    env:\n      X: true\n", "roster.yaml:4: agents[a].env.X: ", "Put the value between quotes"),
    (A + "    env:\n      X: 1.10\n", "roster.yaml:4: agents[a].env.X: ", "Put the value between quotes"),
    ("defaults:\n  name: x\n", "roster.yaml:2: defaults.name: ", "is not known here"),
    ("defaults:\n  env:\n    MY_SECRET: hunter2\n", "roster.yaml:3: defaults.env.MY_SECRET: ", "looks like a secret"),
    (
        "defaults: {account: mian}\n" + A,
        "roster.yaml:1: defaults.account: ",
        "no account is called 'mian'. Known are main",
    ),
    (A + "    account: mian\n", "roster.yaml:3: agents[a].account: ", "no account is called 'mian'"),
]


@pytest.mark.parametrize(("text", "place", "said"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_named_with_its_place(file: Path, text: str, place: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(RosterError) as caught:
        roster.load(file, accounts={"main": None})
    lines = str(caught.value).splitlines()
    assert any(line.startswith(place) and said in line for line in lines), lines
    assert "hunter2" not in str(caught.value)


def test_a_mistake_in_one_agent_hides_none_in_another(file: Path) -> None:
    file.write_text("defaults: {rutime: x}\nagents:\n  - {name: A}\n  - {name: b, runtime: x}\n  - {name: c, env: 3}\n")
    with pytest.raises(RosterError) as caught:
        roster.load(file)
    places = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert places == ["defaults.rutime", "agents[A].name", "agents[b].runtime", "agents[c].env"]


def test_thousands_of_agents_are_read(file: Path) -> None:
    file.write_text(
        "agents:\n" + "".join(f"  - name: a{n}\n    role: coder\n    runtime: sim\n" for n in range(10_000))
    )
    assert len(roster.load(file).agents) == 10_000


# --- editing -----------------------------------------------------------------------------------------------------

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
    assert roster.add_agent(file, {"name": "coder1", "role": "coder", "model": None, "workspace": "/srv/a b: c"})

    text = file.read_text()
    for line in OWN.splitlines():
        assert line in text
    assert [entry.name for entry in roster.load(file).agents] == ["lead", "coder0", "coder1"]
    assert roster.load(file).agents[2].workspace == "/srv/a b: c"
    assert "model" not in text
    assert file.with_name("roster.yaml.bak").read_text() == OWN


@pytest.mark.parametrize(
    "text", ["version: 1\n", "agents:\n", "agents: []\n", "# only this\n", "", "agents:\n- name: a\n- name: b\n"]
)
def test_agents_can_be_added_to_any_valid_roster(file: Path, text: str) -> None:
    file.write_text(text)
    before = [entry.name for entry in roster.load(file).agents]
    assert roster.add_agent(file, {"name": "x", "env": {"TOKEN": Reference("env", "T"), "N": "1"}, "runtime": "sim"})
    assert roster.add_agent(file, {"name": "y", "command": ("a", "--b"), "runtime": "custom"})
    entries = roster.load(file).agents
    assert [entry.name for entry in entries] == [*before, "x", "y"]
    assert entries[-2].env == {"TOKEN": Reference("env", "T"), "N": "1"}
    assert entries[-1].command == ("a", "--b")


def test_a_roster_is_made_with_its_explanation(file: Path) -> None:
    roster.add_agent(file, {"name": "coder0", "role": "coder"})
    assert file.read_text().startswith("# The fleet as you want it.")
    assert file.stat().st_mode & 0o777 == 0o600
    assert not file.with_name("roster.yaml.bak").exists()


def test_an_agent_that_is_there_changes_nothing(file: Path) -> None:
    file.write_text(OWN)
    assert not roster.add_agent(file, {"name": "coder0", "role": "other"})
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
        roster.add_agent(file, entry)
    assert file.read_text() == OWN
    assert {path.name for path in file.parent.iterdir()} <= {"roster.yaml", ".roster.yaml.lock"}


def test_a_broken_roster_is_not_edited(file: Path) -> None:
    file.write_text("agents: [\n")
    with pytest.raises(RosterError, match=r"roster\.yaml:2"):
        roster.add_agent(file, {"name": "x"})
    assert file.read_text() == "agents: [\n"


def test_mode_and_link_stay(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "fleet.yaml"
    real.parent.mkdir()
    real.write_text(OWN)
    real.chmod(0o640)
    file.symlink_to(real)
    roster.add_agent(file, {"name": "x"})
    assert file.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert roster.load(real).get("x") is not None


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RosterError, match="by hand"):
        roster.add_agent(tmp_path / "file" / "roster.yaml", {"name": "x"})


def test_two_at_once_are_both_added(file: Path) -> None:
    file.write_text(OWN)
    adding = [threading.Thread(target=roster.add_agent, args=(file, {"name": f"x{n}"})) for n in range(6)]
    for each in adding:
        each.start()
    for each in adding:
        each.join()
    assert {entry.name for entry in roster.load(file).agents} == {"lead", "coder0", *(f"x{n}" for n in range(6))}


@pytest.mark.parametrize("place", ["before", "after"])
def test_killed_on_the_way_the_file_is_whole(file: Path, place: str) -> None:
    file.write_text(OWN)
    program = (
        "import sys, pathlib; from fleet import roster; roster.add_agent(pathlib.Path(sys.argv[1]), {'name': 'x'})"
    )
    environ = {**os.environ, crashpoints.ENVIRONMENT_VARIABLE: f"roster.write.{place}"}
    killed = subprocess.run([sys.executable, "-c", program, str(file)], env=environ, check=False, timeout=60)

    assert killed.returncode == -signal.SIGKILL
    assert (roster.load(file).get("x") is not None) == (place == "after")
    assert roster.add_agent(file, {"name": "x"}) == (place == "before")


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
        roster.check_entry(entry)
    assert said in str(refused.value)
    roster.check_entry({"name": "a", "role": "coder"})


def test_an_agent_has_its_own_heartbeat_and_freshness(file: Path) -> None:
    file.write_text("defaults: {heartbeat: 5s}\nagents:\n  - {name: a, freshness: 1m}\n  - {name: b}\n")
    a, b = roster.load(file).agents
    assert (a.heartbeat, a.freshness) == (5.0, 60.0)
    assert (b.heartbeat, b.freshness) == (5.0, None)


def test_a_freshness_shorter_than_the_heartbeat_allows_is_located(file: Path) -> None:
    file.write_text("defaults: {heartbeat: 20s}\nagents:\n  - {name: a}\n  - {name: b, freshness: 30s}\n")
    with pytest.raises(RosterError) as caught:
        roster.load(file)
    (line,) = str(caught.value).splitlines()
    assert "roster.yaml:4: agents[b].freshness: freshness is 30 s" in line
