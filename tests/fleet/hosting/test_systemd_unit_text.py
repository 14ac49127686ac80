from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.hosting import NotHosted, systemd_unit_text
from fleet.hosting.systemd_unit_text import (
    agent_name,
    agent_of,
    agent_unit,
    egress_unit,
    orchestrator_name,
    orchestrator_unit,
)

#: A place that means something to systemd in each of its letters.
ODD = "a %h $HOME \"quoted\" \\ 'x' é;#"

has_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def agent(folder: Path, **variables: str) -> str:
    return agent_unit(agent="coder0", folder=folder, installation="", variables={"PATH": "/bin", **variables})


def orchestrator(folder: Path) -> str:
    return orchestrator_unit(folder=folder, secrets=folder / "secrets.env", variables={"PATH": f"/bin:/opt/{ODD}"})


def egress(folder: Path) -> str:
    return egress_unit(
        installation="",
        command=[sys.executable, "-P", "-m", "egress.process", "--state", str(folder)],
        folder=folder,
        secrets=folder / "secrets.env",
        variables={"PATH": f"/bin:/opt/{ODD}"},
    )


def test_installations_of_one_person_have_units_of_their_own() -> None:
    assert (orchestrator_name(""), agent_name("", "coder0")) == ("muster.service", "muster-agent-coder0.service")
    assert agent_name("1a2b3c", "coder0") == "muster-1a2b3c-agent-coder0.service"
    assert agent_of("", "muster-agent-coder0.service") == "coder0"
    assert agent_of("", "muster-1a2b3c-agent-coder0.service") is None
    assert agent_of("1a2b3c", "muster-1a2b3c-agent-coder0.service") == "coder0"
    assert agent_of("", "muster.service") is None


def test_a_unit_of_an_agent_is_the_orchestrators_to_start_again(tmp_path: Path) -> None:
    lines = agent(tmp_path).splitlines()
    assert "Restart=no" in lines
    assert "Before=muster.service" in lines
    assert f"ConditionPathExists={tmp_path / systemd_unit_text.WANTED}" in lines
    assert "WantedBy=default.target" in lines


def test_what_ends_the_orchestrator_leaves_agents_alone(tmp_path: Path) -> None:
    lines = orchestrator(tmp_path).splitlines()
    assert {"KillMode=process", "Restart=on-failure", f"EnvironmentFile=-{tmp_path / 'secrets.env'}"} <= set(lines)


def test_a_place_that_no_unit_can_name_is_refused() -> None:
    with pytest.raises(NotHosted, match="cannot hold"):
        agent(Path("/tmp/two\nlines"))


@has_systemd
@pytest.mark.parametrize("name", ["plain", ODD])
def test_systemd_understands_the_units(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / name
    folder.mkdir()
    python = folder / "python"
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    made = {
        "muster.service": orchestrator(folder),
        "muster-agent-coder0.service": agent(folder),
        "muster-egress.service": egress(folder),
    }
    for unit, text in made.items():
        (tmp_path / unit).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", "--man=no", "--recursive-errors=no"]
        + [str(tmp_path / unit) for unit in made],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
