"""Changes of muster.yaml by command: comments and order stay, and the file is valid and whole at every moment."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
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


def edit(paths: Paths, change: Callable[[Content], bool], *, write: bool = True) -> bool:
    """Change the file. As it was, it stays beside it as ``muster.yaml.bak``.

    Args:
        paths: the installation.
        change: changes the content in place, and returns whether it did.
        write: False only checks whether the changed file would be valid.

    Returns:
        Whether the content was changed.

    Raises:
        ConfigError: the file is not valid, or would not be; nothing is changed.
    """
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
            if not write:
                return True
            if real.exists():
                durable_files.write(real.with_name(f"{real.name}.bak"), text)
            with crash_points.around(WRITE):
                durable_files.write(real, new)
            return True
    except YAMLError as error:
        raise ConfigError(f"{real} cannot be changed by command: {error}. Edit it by hand.") from None
    except OSError as error:
        raise ConfigError(f"{real} cannot be written: {error.strerror}. Edit it by hand.") from None
