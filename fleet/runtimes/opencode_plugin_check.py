"""Programs of a repository that opencode would load by itself.

opencode (1.18) has two readers of configuration. The switch that keeps a project's configuration out is known to one
alone; the other walks up from the workspace to the root of the repository (where there is none, of the file system),
and loads the plugins that it finds on the way, whatever it is told. A plugin is a program in the runtime itself: it can
do what the runtime can, unasked.

So an agent is not started where there are any. What appears later is not loaded before the next start.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from fleet.errors import FleetError

_FILES = ("opencode.json", "opencode.jsonc")
_PLUGIN_FOLDERS = ("plugin", "plugins")
_PROGRAMS = (".js", ".ts")
#: A larger file of configuration is not looked through.
_FILE_BYTES = 2**20


def refuse(workspace: Path, *, alone: bool) -> None:
    """Refuse a workspace of which opencode would load programs.

    Args:
        alone: it sees nothing of what is around the workspace.

    Raises:
        FleetError: it would; the message says where they are.
    """
    for folder in [workspace] if alone else _walk(workspace):
        found = _in_folder(folder)
        if found is not None:
            raise FleetError(
                f"opencode would run programs that it finds with this workspace, unasked, and cannot be kept from it: "
                f"look at {found}. Move it away, or give the agent another runtime.",
                code="workspace.plugins",
            )


def _walk(workspace: Path) -> list[Path]:
    """Return the workspace, and what is around it up to the root of its repository."""
    around = [workspace, *workspace.parents]
    for number, folder in enumerate(around):
        if os.path.lexists(folder / ".git"):
            return around[: number + 1]
    return around


def _in_folder(folder: Path) -> Path | None:
    """Return what of a folder has opencode load a program, or may."""
    own = folder / ".opencode"
    for file in (*(folder / name for name in _FILES), *(own / name for name in _FILES)):
        if _names_plugins(file):
            return file
    if own.is_symlink():
        return own
    for name in _PLUGIN_FOLDERS:
        plugins = own / name
        if plugins.is_symlink():
            return plugins
        try:
            with os.scandir(plugins) as entries:
                programs = sorted(entry.name for entry in entries if entry.name.endswith(_PROGRAMS))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return plugins
        if programs:
            return plugins / programs[0]
    return None


def _names_plugins(file: Path) -> bool:
    """Return whether a file of configuration has the word anywhere, or cannot be looked at."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    with open(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return True
        content = opened.read(_FILE_BYTES + 1)
    if len(content) > _FILE_BYTES:
        return True
    # JSON may spell a letter by its number.
    text = re.sub(rb"\\u00([0-9a-fA-F]{2})", lambda found: bytes([int(found[1], 16)]), content)
    return b"plugin" in text
