"""`muster login`: a runtime's own login, kept in a folder of Muster's from which its agents use it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from bot.config.paths import Paths
from bot.text.errors import UserError
from fleet.runtimes import RUNTIMES, Runtime, login_command


def login_home(paths: Paths, runtime: str) -> Path:
    """Return the folder for the login of a runtime; it exists after the first login."""
    return paths.state / "logins" / runtime


def holds_login(home: Path, runtime: Runtime) -> bool:
    """Return whether a home holds a login of a runtime. pi makes the file at its first start, empty."""
    if runtime.login_file is None:
        return False
    try:
        content = (home / runtime.login_file).read_bytes()
    except OSError:
        return False
    return bool(content.strip(b"{} \r\n\t"))


def login(paths: Paths, name: str, tell: Callable[[str], None]) -> int:
    """Run the login of a runtime in this terminal, and return the exit status of its program.

    Args:
        paths: the installation.
        name: the runtime's.
        tell: shows the person what to do in it.

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
    if runtime.login_steps:
        tell(runtime.login_steps)
    return subprocess.run(entry.command, env=dict(entry.environment), check=False).returncode
