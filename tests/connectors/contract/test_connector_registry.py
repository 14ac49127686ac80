"""Every installed kind of connector can be named and made; a broken one is reported and stops nobody else."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.contract import connector_registry
from connectors.contract.connector_registry import BrokenKind, NoSettings, UnknownKind


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package that brings three kinds of connectors, of which two are broken."""
    site = tmp_path / "site"
    (site / "muster_pigeon-1.dist-info").mkdir(parents=True)
    (site / "muster_pigeon-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: muster-pigeon\nVersion: 1\n"
    )
    (site / "muster_pigeon-1.dist-info" / "entry_points.txt").write_text(
        "[muster.connectors]\npigeon = muster_pigeon:Pigeon\nraven = muster_pigeon:Raven\nowl = muster_owl:Owl\n"
        "matrix = muster_pigeon:Pigeon\n"
    )
    (site / "muster_pigeon.py").write_text(
        textwrap.dedent("""
            from pydantic import BaseModel

            class Settings(BaseModel, frozen=True, extra="forbid"):
                loft: str

            class Pigeon:
                kind = "pigeon"
                SettingsModel = Settings

                def __init__(self, name, settings, folder, *, clock=None):
                    if settings.loft == "on fire":
                        raise OSError("the loft is on fire")
                    self.name, self.settings, self.folder, self.clock = name, settings, folder, clock

            class Raven:
                SettingsModel = "none"
        """)
    )
    (site / "muster_owl.py").write_text("import no_such_library_anywhere\n")
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in ("muster_pigeon", "muster_owl"):
        sys.modules.pop(name, None)


def test_the_kinds_that_ship_with_muster() -> None:
    assert {"discord", "matrix", "memory", "terminal"} <= set(connector_registry.kinds())


def test_an_installed_package_adds_kinds(installed: Path, tmp_path: Path) -> None:
    assert {"pigeon", "raven", "owl"} <= set(connector_registry.kinds())
    settings = connector_registry.settings_model("pigeon").model_validate({"loft": "east"})

    made = connector_registry.make("pigeon", "home", settings, tmp_path / "home", clock=len, hub="not asked for")

    assert made.name == "home"
    assert made.clock is len  # type: ignore[attr-defined]
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_package_cannot_take_the_name_of_a_kind_that_ships(installed: Path) -> None:
    for kind in ("discord", "matrix"):
        assert connector_registry.settings_model(kind).__module__.startswith("connectors.")


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UnknownKind, match=r"Did you mean 'matrix'.*Known are .*terminal"):
        connector_registry.connector_class("matrx")


def test_a_kind_that_fails_to_import_says_why(installed: Path) -> None:
    with pytest.raises(BrokenKind, match=r"'owl' .*no_such_library_anywhere.*Reinstall or update"):
        connector_registry.settings_model("owl")


def test_a_kind_with_a_strange_settings_model(installed: Path) -> None:
    with pytest.raises(BrokenKind, match="no pydantic model"):
        connector_registry.settings_model("raven")


def test_a_connector_that_cannot_be_made_says_why(installed: Path, tmp_path: Path) -> None:
    settings = connector_registry.settings_model("pigeon").model_validate({"loft": "on fire"})
    with pytest.raises(BrokenKind, match="OSError: the loft is on fire"):
        connector_registry.make("pigeon", "home", settings, tmp_path)


def test_a_kind_without_settings_has_an_empty_model() -> None:
    assert connector_registry.settings_model("memory") is NoSettings


def test_no_chat_library_is_loaded_before_it_is_needed() -> None:
    program = (
        "import sys; from connectors.contract import connector_registry as kinds; kinds.kinds();"
        " kinds.settings_model('discord'); sys.exit('nio' in sys.modules or 'discord' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
