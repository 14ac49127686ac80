"""The roster is the operator's file: read strictly, edited without touching what the operator wrote."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from core.secret_references import Reference
from fleet import runtimes
from fleet.errors import RosterError
from fleet.roster import loader


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
    assert loader.load(file).agents == ()
    for text in ("", "version: 1\n", "agents:\n  # - name: coder0\n", loader.HEADER):
        file.write_text(text)
        assert loader.load(file).agents == ()


def test_a_whole_roster_with_its_defaults_filled_in(file: Path) -> None:
    file.write_text(WHOLE)
    lead, coder = loader.load(file).agents

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
    assert loader.load(file).get("coder0") == coder
    assert loader.load(file).get("nobody") is None


def test_a_workspace_in_the_home_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    file.write_text("agents:\n  - {name: a, workspace: ~/src}\n")
    assert loader.load(file).agents[0].workspace == "/home/ana/src"


def test_the_runtimes_are_those_that_there_are() -> None:
    assert set(loader.RUNTIMES) == set(runtimes.RUNTIMES)


A = "agents:\n  - name: a\n"
MISTAKES = [
    ("agents: coder0\n", "roster.yaml:1:1: agents: ", "found 'coder0'; expected a list"),
    (
        "agents:\n  coder0:\n    role: coder\n",
        "roster.yaml:1:1: agents: ",
        "found keys with values (coder0); expected a list",
    ),
    ("agents:\n  - coder0\n", "roster.yaml:2:5: agents[0]: ", "found 'coder0'; expected keys with values"),
    ("version: 2\n", "roster.yaml:1:1: version: ", "found the number 2; only 1 is allowed."),
    (A + "    model: x\n    model: y\n", "roster.yaml:4:5: agents[0].model: ", "is here twice"),
    ("agnets: []\n", "roster.yaml:1:1: agnets: ", "Did you mean 'agents'?"),
    ("agents:\n  - role: coder\n", "roster.yaml:2:5: agents[0].name: ", "is missing"),
    ("agents:\n  -\n", "roster.yaml:2:4: agents[0].name: ", "is missing"),
    ("agents:\n  - name: Coder 0\n", "roster.yaml:2:5: agents[Coder 0].name: ", "not a name for an agent: 'Coder 0'"),
    ("agents:\n  - name: ../x\n", "roster.yaml:2:5: agents[../x].name: ", "not a name for an agent"),
    (f"agents:\n  - name: {'a' * 41}\n", "roster.yaml:2:5: ", "at most 40"),
    ("agents:\n  - name: 7\n", "roster.yaml:2:5: agents[0].name: ", "found the number 7; expected text"),
    (
        A + "  - name: b\n  - name: a\n",
        "roster.yaml:4:5: agents[a].name: ",
        "a second agent of this name; the first is in l",
    ),
    (A + "    rol: coder\n", "roster.yaml:3:5: agents[a].rol: ", "Did you mean 'role'?"),
    (A + "    role: The Coder\n", "roster.yaml:3:5: agents[a].role: ", "not a role: 'The Coder'"),
    (A + "    runtime: cladue\n", "roster.yaml:3:5: agents[a].runtime: ", "Did you mean 'claude'?"),
    (A + "    sandbox: bublewrap\n", "roster.yaml:3:5: agents[a].sandbox: ", "Did you mean 'bubblewrap'?"),
    (A + "    sandbox: ../x\n", "roster.yaml:3:5: agents[a].sandbox: ", "wanted is bubblewrap, none, or a profile"),
    ("defaults: {sandbox: wbe}\n" + A, "roster.yaml:1:12: defaults.sandbox: ", "Did you mean 'web'?"),
    (A + "    workspace: src\n", "roster.yaml:3:5: agents[a].workspace: ", "expected an absolute path"),
    (A + "    model: --dangerous\n", "roster.yaml:3:5: agents[a].model: ", "expected a name"),
    (A + "    model: [opus]\n", "roster.yaml:3:5: agents[a].model: ", "found a list; expected text"),
    (A + "    command: [x]\n", "roster.yaml:3:5: agents[a].command: ", "goes with runtime: custom alone"),
    (A + "    runtime: custom\n", "roster.yaml:2:5: agents[a].command: ", "is missing: the runtime custom needs"),
    (A + "    runtime: custom\n    command: x --acp\n", "roster.yaml:4:5: agents[a].command: ", "expected a list"),
    (A + "    runtime: custom\n    command: []\n", "roster.yaml:4:5: agents[a].command: ", "found no program"),
    (A + "    env: [A=b]\n", "roster.yaml:3:5: agents[a].env: ", "found a list; expected keys with values"),
    (A + "    env:\n      A B: c\n", "roster.yaml:4:7: agents[a].env.A B: ", "not a name for an environment variable"),
    (A + "    env:\n      LD_PRELOAD: x\n", "roster.yaml:4:7: agents[a].env.LD_PRELOAD: ", "is Muster's to set"),
    (A + "    env:\n      HOME: /root\n", "roster.yaml:4:7: agents[a].env.HOME: ", "is Muster's to set"),
    (A + "    env:\n      MUSTER_AGENT: x\n", "roster.yaml:4:7: agents[a].env.MUSTER_AGENT: ", "is Muster's to set"),
    (A + "    env:\n      API_KEY: hunter2\n", "roster.yaml:4:7: agents[a].env.API_KEY: ", "Write env:NAME"),
    (
        A + "    env:\n      X: env:not a name\n",
        "roster.yaml:4:7: agents[a].env.X: ",
        "name of an environment variable",
    ),
    (A + "    env:\n      X: true\n", "roster.yaml:4:7: agents[a].env.X: ", "Put the value between quotes"),
    (A + "    env:\n      X: 1.10\n", "roster.yaml:4:7: agents[a].env.X: ", "Put the value between quotes"),
    ("defaults:\n  name: x\n", "roster.yaml:2:3: defaults.name: ", "is not known here"),
    ("defaults:\n  env:\n    MY_SECRET: hunter2\n", "roster.yaml:3:5: defaults.env.MY_SECRET: ", "looks like a secret"),
    (
        "defaults: {account: mian}\n" + A,
        "roster.yaml:1:12: defaults.account: ",
        "no account is called 'mian'. Known are main",
    ),
    (A + "    account: mian\n", "roster.yaml:3:5: agents[a].account: ", "no account is called 'mian'"),
]


@pytest.mark.parametrize(("text", "place", "said"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_named_with_its_place(file: Path, text: str, place: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(RosterError) as caught:
        loader.load(file, accounts={"main": None}, sandboxes=("bubblewrap", "none", "web"))
    lines = str(caught.value).splitlines()
    assert any(line.startswith(place) and said in line for line in lines), lines
    assert "hunter2" not in str(caught.value)


def test_a_mistake_in_one_agent_hides_none_in_another(file: Path) -> None:
    file.write_text("defaults: {rutime: x}\nagents:\n  - {name: A}\n  - {name: b, runtime: x}\n  - {name: c, env: 3}\n")
    with pytest.raises(RosterError) as caught:
        loader.load(file)
    places = [line.split(": ")[1] for line in str(caught.value).splitlines()]
    assert places == ["defaults.rutime", "agents[A].name", "agents[b].runtime", "agents[c].env"]


WRONG_KEYS = [
    ("alias: '@channel'", "expected a name to show"),
    ("alias: ''", "expected a name to show"),
    ('alias: "a\\nb"', "expected a name to show"),
    ("persistent: maybe", "expected true or false"),
    ("budget: plenty", "expected a number of tokens, like 500000, 500k or 2M"),
    ("budget: 0", "from one token to 10^12"),
    ("budget: -5", "from one token to 10^12"),
    ("context: 10k", "from 20k to 10M are allowed"),
    ("context: wide", "expected a number of tokens"),
    ("skills: review", "expected a list"),
    ("skills: [a b]", "expected the name of a skill"),
    ("skills: [../escape]", "expected the name of a skill"),
    ("skills: [a/../../escape]", "expected the name of a skill"),
    ("skills: [a/..]", "expected the name of a skill"),
    ("skills: [/etc]", "expected the name of a skill"),
    ("skills: [a//b]", "expected the name of a skill"),
    ("skills: [a/.hidden]", "expected the name of a skill"),
    ("skills: [ends.]", "expected the name of a skill"),
    ("host: a/b", "expected the name of a machine"),
    ("ssh: -oProxyCommand=evil", "expected user@host, host or host:port"),
    ("ssh: ana@build1 uptime", "expected user@host, host or host:port"),
    ("tmux_socket: ../x", "expected the name of a tmux server"),
    ("tmux_socket: -S", "expected the name of a tmux server"),
    ("sandbx: none", "Did you mean 'sandbox'?"),
]


@pytest.mark.parametrize(("line", "said"), WRONG_KEYS)
def test_what_a_key_takes_is_said(file: Path, line: str, said: str) -> None:
    file.write_text(f"{A}    {line}\n")
    with pytest.raises(RosterError) as caught:
        loader.load(file)
    place, key, _ = str(caught.value).split(": ", 2)
    assert place.startswith("roster.yaml:3:")
    assert key.startswith(f"agents[a].{line.split(':')[0]}")
    assert said in str(caught.value)


def test_every_key_of_an_agent_is_read(file: Path) -> None:
    file.write_text(
        "preset: minimal\ndefaults: {budget: 2M, persistent: true, skills: [review]}\nagents:\n"
        "  - {name: a, alias: Ada Lovelace, ssh: 'ana@build1:2222', host: build1.example.org, tmux_socket: fleet}\n"
        "  - {name: b, budget: 500, persistent: false, skills: [], alias: Bö}\n"
    )
    found = loader.load(file)
    one, two = found.agents
    assert [str(each.problem).split(" is ")[0] for each in found.breaches] == [
        "roster.yaml:4:60: agents[a].host: build1.example.org"
    ]
    assert (one.alias, one.ssh, one.host, one.tmux_socket) == (
        "Ada Lovelace", "ana@build1:2222", "build1.example.org", "fleet",
    )  # fmt: skip
    assert (one.budget, one.persistent, one.skills) == (2_000_000, True, ("review",))
    assert (two.alias, two.budget, two.persistent, two.skills) == ("Bö", 500, False, ())
    assert found.preset == "minimal"


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("agents: [{name: a, host: build1}]", "1:20: agents[a].host: build1 is another machine"),
        ("agents: [{name: a, ssh: ana@build1}]", "1:20: agents[a].ssh: ana@build1 is another machine"),
        ("defaults: {host: build1}\nagents: [{name: a}]", "1:12: defaults.host: build1 is another machine"),
        ("agents: [{name: a, host: localhost}]", None),
        (f"agents: [{{name: a, host: {socket.gethostname().upper()}}}]", None),
        (f"agents: [{{name: a, host: {socket.gethostname()}.example.org, ssh: x}}]", None),
        ("defaults: {host: build1}\nagents: [{name: a, host: localhost}]", None),
    ],
)
def test_an_agent_of_another_machine_is_refused_where_that_stands(file: Path, written: str, place: str | None) -> None:
    file.write_text(f"preset: minimal\n{written}\n")
    told = [str(each.problem) for each in loader.load(file).breaches]
    assert [line.removeprefix("roster.yaml:").partition(" than ")[0] for line in told] == (
        [] if place is None else [f"{int(place[0]) + 1}{place[1:]}"]
    )


def test_a_skill_that_leaves_its_folder_over_a_link_is_refused(file: Path) -> None:
    skills = file.parent / "skills"
    (skills / "inside").mkdir(parents=True)
    (skills / "alias").symlink_to(skills / "inside")
    (skills / "way-out").symlink_to("/etc")
    file.write_text("agents:\n  - {name: a, skills: [inside, alias, absent]}\n")
    assert loader.load(file).agents[0].skills == ("inside", "alias", "absent")
    file.write_text("agents:\n  - {name: a, skills: [inside, way-out/ssh]}\n")
    with pytest.raises(RosterError, match=r"roster.yaml:2:32: agents\[a\].skills\[1\]: way-out/ssh leads out of"):
        loader.load(file)


@pytest.mark.parametrize("alias", ["b", "B", "Ada", "ada"])
def test_nobody_is_shown_as_somebody_else(file: Path, alias: str) -> None:
    file.write_text(f"agents:\n  - {{name: a, alias: Ada}}\n  - {{name: b}}\n  - {{name: c, alias: {alias}}}\n")
    with pytest.raises(RosterError, match=r"roster.yaml:4:15: agents\[c\].alias: .* is what (a|b) is called"):
        loader.load(file)


def test_a_key_that_does_nothing_yet_is_named_once_where_it_stands(file: Path) -> None:
    file.write_text(
        "defaults:\n  skills: [m]\nagents:\n  - {name: a, skills: [n], ssh: x}\n  - {name: b, model: m, prompt: p}\n"
    )
    told = [str(problem) for problem in loader.load(file).not_in_effect]
    assert [line.split(" ", 2)[:2] for line in told] == [
        ["roster.yaml:2:3:", "defaults.skills:"],
        ["roster.yaml:4:28:", "agents[a].ssh:"],
    ]
    assert all("not in effect in this version" in line for line in told)
    assert "in 1 more place." in told[0]


@pytest.mark.parametrize(
    ("written", "at"),
    [
        ("agents: [{name: a, tmux_socket: s}]", "roster.yaml:1:20: agents[a].tmux_socket:"),
        ("agents: [{name: a, tmux_socket: s, hosting: tmux}]", None),
        ("defaults: {hosting: tmux}\nagents: [{name: a, tmux_socket: s}]", None),
        ("defaults: {tmux_socket: s}\nagents: [{name: a}, {name: b, hosting: tmux}]", None),
        ("defaults: {tmux_socket: s}\nagents: [{name: a}]", "roster.yaml:1:12: defaults.tmux_socket:"),
    ],
)
def test_a_tmux_server_for_nobody_in_tmux_is_named(file: Path, written: str, at: str | None) -> None:
    file.write_text(written)
    told = [str(problem) for problem in loader.load(file).not_in_effect]
    assert told == ([] if at is None else [f"{at} does nothing without `hosting: tmux` beside it."])


# --- the fleet as a whole ----------------------------------------------------------------------------------------

LEAD, MENDER, CODER = (
    f"  - {{name: {name}, role: {role}}}\n"
    for name, role in (("lead", "orchestrator"), ("polisher", "enhancer"), ("coder0", "coder"))
)


def broken(file: Path, text: str) -> list[str]:
    file.write_text(text)
    return [str(breach.problem) for breach in loader.load(file).breaches]


@pytest.mark.parametrize(
    ("agents", "said"),
    [
        (LEAD + MENDER, []),
        (LEAD + MENDER + MENDER.replace("polisher", "mender") + CODER, []),
        (CODER, ["1:1: agents: no agent has the role orchestrator", "1:1: agents: no agent has the role enhancer"]),
        (LEAD, ["1:1: agents: no agent has the role enhancer"]),
        (MENDER, ["1:1: agents: no agent has the role orchestrator"]),
        (
            LEAD + MENDER + LEAD.replace("lead", "boss"),
            ["4:18: agents[boss].role: a second orchestrator beside lead, and a fleet has exactly one"],
        ),
    ],
)
def test_a_fleet_has_one_orchestrator_and_an_enhancer(file: Path, agents: str, said: list[str]) -> None:
    found = broken(file, f"agents:\n{agents}")
    assert len(found) == len(said)
    for line, words in zip(found, said, strict=True):
        assert line.startswith(f"roster.yaml:{words}")
        assert "preset: minimal" in line
    assert broken(file, f"preset: minimal\nagents:\n{agents}") == []


def test_a_role_that_is_spelled_wrongly_is_one_mistake(file: Path) -> None:
    (line,) = broken(file, f"agents:\n{LEAD.replace('orchestrator', 'orchestrater')}{MENDER}")
    assert line.startswith("roster.yaml:2:18: agents[lead].role: no role is called 'orchestrater'. Did you mean 'orch")
    assert len(broken(file, f"agents:\n{LEAD.replace('orchestrator', 'wizard')}{MENDER}")) == 2


def test_a_role_that_comes_from_the_defaults_counts(file: Path) -> None:
    assert broken(file, "defaults: {role: enhancer}\nagents:\n  - {name: a}\n  - {name: b, role: orchestrator}\n") == []
    (line,) = broken(file, f"defaults: {{role: codr}}\nagents:\n  - {{name: a}}\n{LEAD}{MENDER}")
    assert line.startswith("roster.yaml:1:12: defaults.role: no role is called 'codr'. Did you mean 'coder'?")


def test_a_roster_of_nobody_lacks_nobody(file: Path) -> None:
    for text in ("", "version: 1\n", "agents: []\n", "preset: coding\n"):
        assert broken(file, text) == []


def test_roles_are_those_that_are_shipped_and_those_beside_the_file(file: Path) -> None:
    fleet = f"agents:\n{LEAD}{MENDER}  - {{name: a, role: tester}}\n  - {{name: b, role: board-technical}}\n"
    (line,) = broken(file, fleet)
    assert line.startswith(
        "roster.yaml:4:15: agents[a].role: no role is called 'tester'. There are board, board-business, "
    )
    assert "roles/tester.md" in line
    assert "board-moonshot" in line, "a lens is a role, too"
    (file.parent / "roles").mkdir()
    (file.parent / "roles" / "tester.md").write_text("---\nmandate: Tests.\n---\nYou test.\n")
    assert broken(file, fleet) == []


@pytest.mark.parametrize("workspace", ["/etc", "~/../bo/src", "/", "/home/anabel/src"])
def test_a_workspace_outside_the_home_is_a_slip_unless_it_is_said(
    file: Path, monkeypatch: pytest.MonkeyPatch, workspace: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ana")
    fleet = f"agents:\n{LEAD}{MENDER}  - {{name: a, workspace: {workspace}}}\n  - {{name: b, workspace: ~/src}}\n"
    (line,) = broken(file, fleet)
    assert line.startswith("roster.yaml:4:15: agents[a].workspace: ")
    assert "lies outside your home /home/ana" in line
    assert "workspace_roots" in line
    assert broken(file, f"workspace_roots: [{workspace}]\n{fleet}") == []


def test_a_home_that_is_a_link_is_the_same_home(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "real")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for where in ("home", "real"):
        assert broken(file, f"agents:\n{LEAD}{MENDER}  - {{name: a, workspace: {tmp_path / where / 'x'}}}\n") == []


def test_what_a_fleet_breaks_keeps_nobody_from_reading_it(file: Path) -> None:
    assert len(broken(file, "agents:\n  - {name: a, role: tester, runtime: sim, workspace: /etc}\n")) == 4
    assert loader.load(file).get("a") is not None


# --- the published schema ----------------------------------------------------------------------------------------


def test_the_schema_knows_every_key_and_what_it_takes() -> None:
    found = loader.schema(["coder", "tester"])
    agent = found["$defs"]["AgentEntry"]
    assert {
        "name", "role", "runtime", "model", "workspace", "sandbox", "account", "budget", "persistent", "alias",
        "skills", "prompt", "host", "ssh", "tmux_socket", "env", "command",
    } <= set(agent["properties"])  # fmt: skip
    assert agent["additionalProperties"] is False
    assert agent["required"] == ["name"]
    assert {"enum": ["coder", "tester"]} in agent["properties"]["role"]["anyOf"]
    assert all(key.get("description") for key in agent["properties"].values())
    assert set(found["properties"]) == {"version", "preset", "workspace_roots", "defaults", "agents"}


def test_thousands_of_agents_are_read(file: Path) -> None:
    file.write_text(
        "agents:\n" + "".join(f"  - name: a{n}\n    role: coder\n    runtime: sim\n" for n in range(10_000))
    )
    assert len(loader.load(file).agents) == 10_000


def test_a_freshness_shorter_than_the_heartbeat_allows_is_located(file: Path) -> None:
    file.write_text("defaults: {heartbeat: 20s}\nagents:\n  - {name: a}\n  - {name: b, freshness: 30s}\n")
    with pytest.raises(RosterError) as caught:
        loader.load(file)
    (line,) = str(caught.value).splitlines()
    assert "roster.yaml:4:15: agents[b].freshness: freshness is 30 s" in line
