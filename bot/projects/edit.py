"""Changes of muster.yaml by command: comments and order stay, and the file is valid and whole at every moment."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from bot.config.loader import check_text
from bot.config.paths import Paths
from bot.text.errors import ConfigError
from core import crash_points, durable_files

WRITE = crash_points.declare("muster_yaml.write")

#: The file as ruamel.yaml reads it, with its comments.
Content: TypeAlias = dict[str, Any]

_FLUSH_LEFT = re.compile(r"^( *)[^\s#-][^\n]*:[^\S\n]*\n\1- ", re.MULTILINE)


def add_project(paths: Paths, name: str, entry: Mapping[str, object]) -> bool:
    """Add a project. The file as it was stays beside it as ``muster.yaml.bak``.

    Returns:
        Whether the file was changed; False if it has this very project already.

    Raises:
        ConfigError: the file, or the project, is not valid, or another project has this name; nothing is changed.
    """

    def change(content: Content) -> bool:
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

    return _edit(paths, change)


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

    return _edit(paths, change)


def _edit(paths: Paths, change: Callable[[Content], bool]) -> bool:
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap
    from ruamel.yaml.error import YAMLError

    real = Path(os.path.realpath(paths.muster_yaml))
    try:
        with durable_files.locked(real):
            text = real.read_text(encoding="utf-8") if real.exists() else ""
            check_text(paths, text)
            yaml = YAML(typ="rt")
            yaml.preserve_quotes = True
            yaml.width = 10_000
            flush = _FLUSH_LEFT.search(text) is not None
            yaml.indent(mapping=2, sequence=2 if flush else 4, offset=0 if flush else 2)
            content = yaml.load(text)
            if content is None:
                content = CommentedMap()
            if not change(content):
                return False
            buffer = io.StringIO()
            yaml.dump(content, buffer)
            new = buffer.getvalue()
            check_text(paths, new)
            if real.exists():
                durable_files.write(real.with_name(f"{real.name}.bak"), text)
            with crash_points.around(WRITE):
                durable_files.write(real, new)
            return True
    except YAMLError as error:
        raise ConfigError(f"{real} cannot be changed by command: {error}. Edit it by hand.") from None
    except OSError as error:
        raise ConfigError(f"{real} cannot be written: {error.strerror}. Edit it by hand.") from None
