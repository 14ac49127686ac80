"""`muster` as it was installed hands over to the version that an update put beside it.

Only a newer one: whoever upgrades the outer installation by hand is not sent back by an old link.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: In the environment: run what was called, whatever `current` says.
STAY = "MUSTER_STAY"


def handed_over(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str] | None:
    """Return the command line of the version that is to run instead of this one; None: it is this one."""
    from bot.config.paths import Paths
    from bot.text.errors import UserError

    try:
        paths = Paths.of(environ)
    except (UserError, OSError):
        return None
    if environ.get(STAY) or not os.path.islink(paths.state / "current"):
        return None
    from bot.maintenance.update import versions

    prefix = versions.current(paths)
    if prefix is None:
        print(
            f"{paths.state / 'current'} leads to no whole version of Muster, so this one runs.",
            file=sys.stderr,
        )
        return None
    if versions.runs_here(prefix) or not versions.is_newer(prefix.name, versions.of_this("")):
        return None
    return [str(versions.python_of(prefix)), "-P", "-m", "bot", *arguments]
