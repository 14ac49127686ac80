"""Projects in muster.yaml, added and removed by command."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from bot.config.paths import Paths
from bot.setup.muster_yaml_editor import Content, edit
from bot.text.errors import ConfigError


def add_project(paths: Paths, name: str, entry: Mapping[str, object]) -> bool:
    """Add a project, unless it is there already. The file as it was stays beside it as ``muster.yaml.bak``.

    Returns:
        Whether the file was changed; False if it has this very project already.

    Raises:
        ConfigError: the file, or the project, is not valid, or another project has this name; nothing is changed.
    """
    return edit(paths, partial(_added, name, entry))


def check_project(paths: Paths, name: str, entry: Mapping[str, object]) -> bool:
    """Check whether a project could be added, and change nothing. Return True.

    Raises:
        ConfigError: as `add_project`.
    """
    edit(paths, partial(_added, name, entry), write=False)
    return True


def _added(name: str, entry: Mapping[str, object], content: Content) -> bool:
    projects = content.setdefault("projects", {}) or {}
    if name in projects:
        if dict(projects[name]) == dict(entry):
            return False
        raise ConfigError(
            f"muster.yaml has another project {name}. Edit it there, or remove it first.", code="project.exists"
        )
    projects[name] = dict(entry)
    content["projects"] = projects
    return True


def remove_project(paths: Paths, name: str) -> bool:
    """Remove a project. Return whether there was one.

    Raises:
        ConfigError: the file is not valid, or other parts of it need the project; nothing is changed.
    """

    def change(content: Content) -> bool:
        projects = content.get("projects") or {}
        if name not in projects:
            return False
        del projects[name]
        if not projects:
            del content["projects"]
        return True

    return edit(paths, change)
