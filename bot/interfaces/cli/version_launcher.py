"""The handover from the installed `muster` to a version that an update installed beside it.

Only a newer version takes over, so that an old link does not undo a manual upgrade of the outer installation.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from bot.config.state_folder import state_folder
from bot.text.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: If this variable is set, run this version, whatever `current` links to.
STAY = "MUSTER_STAY"


def handed_over(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str] | None:
    """Return the command line of the version to run instead of this one, or None to run this one."""
    try:
        if environ.get(STAY) or not os.path.islink(os.path.join(state_folder(environ), "current")):
            return None
    except (UserError, OSError):
        return None
    from bot.config.paths import Paths
    from bot.maintenance import versions

    paths = Paths.of(environ)
    prefix = versions.current(paths)
    if prefix is None:
        print(
            f"{paths.state / 'current'} does not lead to a complete version of Muster, so this one runs.",
            file=sys.stderr,
        )
        return None
    if versions.runs_here(prefix) or not versions.is_newer(prefix.name, versions.of_this("")):
        return None
    return [str(versions.python_of(prefix)), "-P", "-m", "bot", *arguments]
