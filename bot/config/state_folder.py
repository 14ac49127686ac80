"""Where an installation keeps its state. It imports as little as possible, since each start of ``muster`` asks it."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from bot.text.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping


def state_folder(environ: Mapping[str, str]) -> str:
    """Return the absolute path of the folder with this user's state.

    Raises:
        UserError: there is no home folder.
    """
    uid = os.getuid()
    home = muster_home(environ, uid)
    if home is not None:
        return os.path.join(home, "state")
    return os.path.join(xdg_folder(environ, "XDG_STATE_HOME", ".local/state", uid), "muster")


def muster_home(environ: Mapping[str, str], uid: int, cwd: str | None = None) -> str | None:
    """Return MUSTER_HOME as an absolute path, or None if it is not set.

    Raises:
        UserError: it begins with ``~/``, and there is no home folder.
    """
    given = environ.get("MUSTER_HOME", "")
    if not given:
        return None
    if given.startswith("~/"):
        given = os.path.join(home_folder(environ, uid), given[2:])
    return os.path.normpath(os.path.join(cwd or os.getcwd(), given))


def home_folder(environ: Mapping[str, str], uid: int) -> str:
    """Return the home folder of a user.

    Raises:
        UserError: there is none.
    """
    home = environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        raise UserError(
            f"This user ({uid}) has no home folder, and HOME is not set. Set MUSTER_HOME to a folder of your own.",
            code="installation.folder",
        ) from None


def xdg_folder(environ: Mapping[str, str], variable: str, fallback: str, uid: int) -> str:
    """Return a base directory; `fallback` is relative to the home folder.

    Raises:
        UserError: the variable is not set, and there is no home folder.
    """
    # A relative path is invalid and must be ignored (XDG Base Directory Specification 0.8).
    value = environ.get(variable, "")
    return value if os.path.isabs(value) else os.path.join(home_folder(environ, uid), fallback)
