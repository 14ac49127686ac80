"""The files with which a homeserver is run: what they promise in words holds in their values."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import conduit

FOLDER = Path(conduit.__file__).parent
TEXTS = {name: (FOLDER / name).read_text() for name in ("conduit.toml", "compose.yaml", "Caddyfile", "nginx.conf")}
PORT = 6167


def test_conduit_is_for_this_machine_and_for_those_with_a_token() -> None:
    settings = tomllib.loads(TEXTS["conduit.toml"])["global"]
    assert settings["address"] == "127.0.0.1"
    assert settings["port"] == PORT
    assert settings["allow_registration"] is True
    assert "registration_token" not in settings, "a secret in a file that is copied around"
    assert settings["allow_federation"] is False
    assert settings["trusted_servers"] == []
    assert settings["database_backend"] == "rocksdb"


def test_each_value_of_conduit_is_explained() -> None:
    lines = TEXTS["conduit.toml"].splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    assert len(keys) > 10
    for number in keys:
        assert lines[number - 1].startswith("#"), lines[number]


def test_the_container_is_pinned_and_reached_from_here_alone() -> None:
    services = yaml.safe_load(TEXTS["compose.yaml"])["services"]
    server, health = services["homeserver"], services["health"]
    for service in (server, health):
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", service["image"]), "a version"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert server["ports"] == [f"127.0.0.1:{PORT}:{PORT}"]
    assert server["environment"]["CONDUIT_REGISTRATION_TOKEN"].startswith("${CONDUIT_REGISTRATION_TOKEN:?")
    assert f"http://127.0.0.1:{PORT}/_matrix/client/versions" in health["healthcheck"]["test"]


def test_what_may_be_uploaded_is_one_size_everywhere() -> None:
    size = tomllib.loads(TEXTS["conduit.toml"])["global"]["max_request_size"]
    assert size == 20_000_000
    assert "max_size 20MB" in TEXTS["Caddyfile"]
    assert "client_max_body_size 20m" in TEXTS["nginx.conf"]
    for name in ("Caddyfile", "nginx.conf"):
        assert f"127.0.0.1:{PORT}" in TEXTS[name]


def test_the_unit_does_not_start_without_a_token() -> None:
    unit = configparser.RawConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(FOLDER / "muster-conduit.service")
    assert unit["Service"]["EnvironmentFile"] == "/etc/matrix-conduit/conduit.env"
    assert unit["Service"]["User"] == "matrix-conduit"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="tried by hand where there is no systemd-analyze")
def test_systemd_takes_the_unit_and_finds_little_in_its_reach(tmp_path: Path) -> None:
    unit = tmp_path / "muster-conduit.service"
    unit.write_text((FOLDER / unit.name).read_text().replace("/usr/local/bin/matrix-conduit", "/bin/true"))
    verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout[-500:]
