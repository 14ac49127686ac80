"""muster.yaml is changed by command without losing a comment, and is whole wherever the process dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.projects.edit import add_project, remove_project
from bot.text.errors import ConfigError
from tests.crash.deaths import both, die_at

OLD = """\
# Ana's fleet.
connectors:
  memory:
    kind: memory  # in memory

operators:
  'memory:@ana': admin
accounts:
  sim: {provider: anthropic, base_url: 'http://127.0.0.1:1'}
redaction:
  patterns:
    - 'x{3}'   # three
    - "y{4}"
"""
ENTRY = {"repo": "/srv/web", "room": "memory:web", "budget": {"tokens": "2M", "window": "day"}}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths.of({"MUSTER_HOME": str(tmp_path), "HOME": str(tmp_path)})
    made.prepare()
    made.muster_yaml.write_text(OLD)
    return made


def test_everything_else_stays_as_it_is(paths: Paths) -> None:
    assert add_project(paths, "web", ENTRY)
    text = paths.muster_yaml.read_text()
    assert text.startswith(OLD)
    assert "projects:\n  web:\n    repo: /srv/web\n" in text
    assert not add_project(paths, "web", ENTRY)
    with pytest.raises(ConfigError, match="another project web"):
        add_project(paths, "web", {"repo": "/srv/other"})
    assert add_project(paths, "api", {"repo": "/srv/api"})
    assert remove_project(paths, "api")
    assert paths.muster_yaml.read_text() == text
    assert remove_project(paths, "web")
    assert not remove_project(paths, "web")
    assert paths.muster_yaml.read_text() == OLD


def test_lists_that_are_flush_left_stay_so(paths: Paths) -> None:
    old = OLD.replace("    - ", "  - ")
    paths.muster_yaml.write_text(old)
    add_project(paths, "web", ENTRY)
    assert paths.muster_yaml.read_text().startswith(old)


def test_a_file_that_is_not_there_is_made_for_this_person_only(paths: Paths) -> None:
    paths.muster_yaml.unlink()
    add_project(paths, "web", {"repo": "/srv/web"})
    assert paths.muster_yaml.read_text() == "projects:\n  web:\n    repo: /srv/web\n"
    assert paths.muster_yaml.stat().st_mode & 0o777 == 0o600


def test_an_invalid_file_or_project_changes_nothing(paths: Paths) -> None:
    with pytest.raises(ConfigError, match="no connector is called 'nowhere'"):
        add_project(paths, "web", {"repo": "/srv/web", "room": "nowhere:x"})
    assert paths.muster_yaml.read_text() == OLD
    paths.muster_yaml.write_text("operators: [")
    with pytest.raises(ConfigError):
        add_project(paths, "web", ENTRY)
    assert paths.muster_yaml.read_text() == "operators: ["


@pytest.mark.parametrize("place", both("muster_yaml.write"))
def test_killed_at_this_place_muster_yaml_is_the_old_one_or_the_new_one(paths: Paths, place: str) -> None:
    die_at(place, lambda: add_project(paths, "web", ENTRY))
    assert ("web:" in paths.muster_yaml.read_text()) == place.endswith("after")
    add_project(paths, "web", ENTRY)
    assert paths.muster_yaml.read_text().count("/srv/web") == 1
