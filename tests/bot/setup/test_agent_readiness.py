"""Before anything starts, it is known which agents of the roster cannot, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.config import loader
from bot.config.paths import Paths
from bot.read_models.fleet import BlockedAgent
from bot.setup import agent_readiness, preflight
from bot.setup.blocked_agents import in_words

ROSTER = """\
version: 1
preset: minimal
defaults: {runtime: RUNTIME, sandbox: none}
agents:
  - {name: lead, role: orchestrator, persistent: true}
  - {name: coder0, role: coder, persistent: false}
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    made = Paths.of({"MUSTER_HOME": str(tmp_path)})
    made.prepare()
    return made


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which a program stands for Claude Code."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "claude-agent-acp"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def write(paths: Paths, *, runtime: str = "claude", settings: str = "") -> None:
    for path, text in ((paths.roster_yaml, ROSTER.replace("RUNTIME", runtime)), (paths.muster_yaml, settings)):
        path.write_text(text)
        path.chmod(0o600)


def blocked(paths: Paths, environ: Mapping[str, str]) -> dict[str, BlockedAgent]:
    checked = loader.check(paths)
    assert checked.settings is not None, checked.problems
    assert checked.roster is not None, checked.problems
    found = agent_readiness.of_installation(paths, checked.settings, environ, checked.roster)
    return {each.name: each for each in found}


def test_the_built_in_agent_needs_nothing(paths: Paths) -> None:
    write(paths, runtime="sim")
    assert blocked(paths, {}) == {}
    assert preflight.warnings(paths, {}, agents=True) == []


def test_a_missing_program_is_named_first_with_its_installation(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    write(paths)
    found = blocked(paths, {})
    assert set(found) == {"lead", "coder0"}
    assert found["lead"].refused
    assert "npm install -g @agentclientprotocol/claude-agent-acp" in found["lead"].reason


@pytest.mark.usefixtures("programs")
def test_a_runtime_without_a_login_is_told_how_to_log_in(paths: Paths) -> None:
    write(paths)
    assert "muster login claude" in blocked(paths, {})["lead"].reason
    login = paths.state / "logins" / "claude" / ".claude" / ".credentials.json"
    login.parent.mkdir(parents=True)
    # As pi leaves it when nobody logged in.
    login.write_text("{}")
    assert "muster login claude" in blocked(paths, {})["lead"].reason
    login.write_text('{"claudeAiOauth": {}}')
    assert blocked(paths, {}) == {}


@pytest.mark.parametrize(("version", "blocks"), [("v20.20.2", True), ("v22.19.0", False), ("what?", False)])
def test_a_node_that_is_too_old_is_named_before_the_start(
    paths: Paths, programs: Path, version: str, blocks: bool
) -> None:
    for name, script in {"pi": "", "pi-acp": "", "node": f"echo '{version}'\n"}.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}")
        (programs / name).chmod(0o755)
    write(paths, runtime="pi", settings="accounts: {work: {provider: anthropic, credential: env:WORK_KEY}}\n")
    found = blocked(paths, {"WORK_KEY": "sk-test"})
    assert bool(found) == blocks
    if blocks:
        reason = found["lead"].reason
        assert reason == f"pi needs Node.js 22.19 or newer, and {programs}/node is 20.20.2. Install a newer one."


@pytest.mark.usefixtures("programs")
def test_an_account_without_its_key_is_named(paths: Paths) -> None:
    write(paths, settings="accounts: {work: {provider: anthropic, credential: env:WORK_KEY}}\n")
    found = blocked(paths, {})
    assert "The account work has no key" in found["lead"].reason
    assert "WORK_KEY is not set" in found["lead"].reason
    assert not found["lead"].refused
    assert blocked(paths, {"WORK_KEY": "sk-test"}) == {}


@pytest.mark.usefixtures("programs")
def test_a_start_says_each_reason_once_and_names_secrets_that_are_missing(paths: Paths) -> None:
    write(
        paths,
        settings="""\
connectors:
  matrix:
    homeserver: https://matrix.example.org
    user: "@muster:example.org"
    access_token: env:BOT_TOKEN
""",
    )
    token, lead = preflight.warnings(paths, {}, agents=True)
    assert token.startswith("muster.yaml: connectors.matrix.access_token: The environment variable BOT_TOKEN is not")
    assert "The connector matrix stays down" in token
    assert lead.startswith("lead cannot start.")
    assert "coder0" not in lead
    assert preflight.warnings(paths, {"BOT_TOKEN": "x"}, agents=False) == []


def test_an_agent_that_comes_up_by_itself_needs_a_room(paths: Paths) -> None:
    write(
        paths,
        runtime="sim",
        settings="""\
connectors:
  matrix: {homeserver: "https://matrix.example.org", user: "@muster:example.org", access_token: env:BOT_TOKEN}
""",
    )
    (line,) = preflight.warnings(paths, {"BOT_TOKEN": "x"}, agents=True)
    assert "Set `fleet_room` under connectors.matrix" in line


def test_agents_with_the_same_reason_share_a_line() -> None:
    found = [BlockedAgent(name=f"coder{number}", reason="Why.") for number in range(7)]
    (line,) = in_words(found)
    assert line == "coder0, coder1, coder2, coder3, coder4 and 2 more cannot start. Why."
