"""The doctor says offline what stops a configured forge, and names what asks the forge itself."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.config import loader
from bot.config.forge import extra
from bot.config.instance_lock import only_one
from bot.config.paths import Paths
from bot.setup import boot_secrets, doctor, preflight
from bot.setup.doctor import DoctorFinding

SECRETS = {"TOKEN": "t" * 40, "SECRET": "s" * 40}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def paths(tmp_path: Path, port: int) -> Paths:
    tmp_path.chmod(0o700)
    found = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    found.prepare()
    found.muster_yaml.write_text(
        "connectors: {terminal: {}}\nforge: {kind: gitea, url: https://git.example.org, token: env:TOKEN, "
        "organization: acme, repositories: [acme/app], sandbox: bubblewrap, "
        f"webhooks: {{listen: '127.0.0.1:{port}', secret: env:SECRET}}}}\n"
    )
    return found


def of_forge(paths: Paths, environ: Mapping[str, str]) -> dict[str, DoctorFinding]:
    found = doctor.examine(paths, environ, which=lambda name: None)
    return {each.name: each for each in found if each.name.startswith("forge")}


def test_a_forge_that_can_work_here_is_ok_and_asked_by_forge_check(paths: Paths) -> None:
    found = of_forge(paths, SECRETS)
    assert {each.state for each in found.values()} == {"ok"}
    assert sorted(found) == ["forge", "forge.token", "forge.webhooks", "forge.webhooks.secret"]
    assert "https://git.example.org, 1 repository; `muster forge check` asks it" in doctor.text(list(found.values()))
    assert "t" * 40 not in doctor.text(list(found.values()))


def test_without_a_forge_nothing_is_said(paths: Paths) -> None:
    paths.muster_yaml.write_text("connectors: {terminal: {}}\n")
    assert of_forge(paths, SECRETS) == {}


def test_missing_secrets_are_named_by_doctor_start_and_installation(paths: Paths) -> None:
    found = of_forge(paths, {})
    assert [name for name, each in found.items() if each.state == "wrong"] == ["forge.token", "forge.webhooks.secret"]
    assert "TOKEN" in found["forge.token"].found
    assert found["forge.token"].costs == "Muster does not start."
    checked = loader.check(paths)
    assert len(preflight.missing_secrets(checked, {})) == 2
    assert "SECRET" in " ".join(boot_secrets.missing_at_boot(paths, checked))


def test_a_secret_that_is_too_short_is_wrong(paths: Paths) -> None:
    found = of_forge(paths, {**SECRETS, "SECRET": "short"})["forge.webhooks"]
    assert (found.state, "5 characters" in found.found, "openssl" in found.way) == ("wrong", True, True)


def test_an_address_that_is_taken_is_wrong_unless_muster_has_it(paths: Paths, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        found = of_forge(paths, SECRETS)["forge.webhooks"]
        assert (found.state, f"127.0.0.1:{port}" in found.found) == ("wrong", True)
        with only_one(paths.lock):
            assert of_forge(paths, SECRETS)["forge.webhooks"].state == "ok"


def test_an_extra_that_is_missing_is_named_with_how_to_install_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "lacking", lambda: ["detect_secrets"])
    found = of_forge(paths, SECRETS)["forge"]
    assert (found.state, "muster-fleet[forge]" in found.way) == ("wrong", True)
