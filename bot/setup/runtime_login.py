"""`muster login`: a runtime's own login, kept in a folder of Muster's from which its agents use it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bot.config.paths import Paths
from bot.text.errors import UserError
from fleet.runtimes import RUNTIMES, login_command


def login_home(paths: Paths, runtime: str) -> Path:
    """Return the folder for the login of a runtime; it exists after the first login."""
    return paths.state / "logins" / runtime


def login(paths: Paths, name: str) -> int:
    """Run the login of a runtime in this terminal, and return the exit status of its program.

    Raises:
        UserError: there is no runtime of that name.
        FleetError: its program is missing, or it has no login of its own; the message says what to do.
    """
    runtime = RUNTIMES.get(name.casefold())
    if runtime is None:
        raise UserError(
            f'There is no runtime "{name[:40]}"; there are {", ".join(sorted(RUNTIMES))}.', code="runtime.unknown"
        )
    paths.prepare()
    home = login_home(paths, runtime.name)
    for folder in (home.parent, home):
        folder.mkdir(mode=0o700, exist_ok=True)
    entry = login_command(runtime, home)
    return subprocess.run(entry.command, env=dict(entry.environment), check=False).returncode
