"""The doctor fails when no agent of the roster could start, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.setup import doctor
from bot.setup.doctor import DoctorFinding
from tests.bot.setup.test_agent_readiness import write


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    tmp_path.chmod(0o700)
    made = Paths.of({"MUSTER_HOME": str(tmp_path)})
    made.prepare()
    return made


def of_agents(findings: list[DoctorFinding]) -> list[DoctorFinding]:
    return [finding for finding in findings if finding.name == "agents"]


def test_it_fails_when_no_agent_could_start(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    write(paths)
    findings = doctor.examine(paths, {})
    (found,) = of_agents(findings)
    assert found.state == "wrong"
    assert found.found == "lead, coder0 cannot start"
    assert found.costs == "No agent of the roster can start."
    assert "npm install" in found.way
    assert doctor.exit_status(findings) == 1


def test_agents_that_can_start_are_counted(paths: Paths) -> None:
    write(paths, runtime="sim")
    (found,) = of_agents(doctor.examine(paths, {}))
    assert (found.state, found.found) == ("ok", "all 2 of the roster can start")


def test_a_key_that_the_provider_cannot_be_asked_about_is_unknown(paths: Paths) -> None:
    write(
        paths,
        runtime="sim",
        settings='accounts: {a: {provider: openai, credential: env:K, base_url: "http://127.0.0.1:9"}}\n',
    )
    findings = doctor.examine(paths, {"K": "sk-1"})
    (found,) = [each for each in findings if each.name == "accounts.a log-in"]
    assert found.state == "unknown"
    assert "sk-1" not in doctor.text(findings)
