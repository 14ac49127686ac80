"""An update brings along what people installed beside Muster."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bot.maintenance.update import packages

PROJECT = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_each_extra_is_known_by_a_distribution_that_only_it_brings() -> None:
    extras = PROJECT["optional-dependencies"]
    assert packages.EXTRAS.keys() == extras.keys()
    for extra, part in packages.EXTRAS.items():
        elsewhere = [*PROJECT["dependencies"], *(each for name in extras if name != extra for each in extras[name])]
        assert any(each.startswith(part) for each in extras[extra])
        assert not any(each.startswith(part) for each in elsewhere)


def test_an_update_keeps_the_extras_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "EXTRAS", {"here": "pytest", "gone": "muster-nothing"})
    assert packages.installed_extras() == ("here",)
