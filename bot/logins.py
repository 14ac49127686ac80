"""`muster login`: a runtime's own login, into a folder of Muster's from which its agents take it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from bot.errors import UserError
from fleet.errors import RuntimeMissing
from fleet.runtimes import RUNTIMES, login_command

if TYPE_CHECKING:
    from bot.paths import Paths


def login(paths: Paths, name: str) -> int:
    """Run the login of a runtime at this terminal; its exit status, 0 when it went well.

    Raises:
        UserError: there is no runtime of that name.
        MusterError: its program is missing, or it needs no login; the message says what to do.
    """
    runtime = RUNTIMES.get(name.casefold())
    if runtime is None:
        raise UserError(f'There is no runtime "{name[:40]}"; there are {", ".join(sorted(RUNTIMES))}.')
    paths.prepare()
    home = paths.state / "logins" / name.casefold()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    entry = login_command(runtime, home)
    program = shutil.which(entry.command[0], path=entry.environment.get("PATH"))
    if program is None:
        raise RuntimeMissing(f"The program {entry.command[0]} is not installed, so {name} cannot log in with it.")
    return subprocess.run([program, *entry.command[1:]], env=dict(entry.environment), check=False).returncode
