"""The command line of an agent host and the environment that it starts in. Pure, but for a look at the environment.

Nothing is inherited but what is listed here: whoever starts an agent host may have secrets in the environment, a tmux
server has the variables of whoever started it long ago, and what Python reads from there would run in the agent host.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

#: The agent host's specification, in the agent's folder.
SPEC: Final = "host.json"
#: What an agent host prints, in the agent's folder: nothing, as long as all is well.
LOG: Final = "host.log"
#: In the environment of whoever starts an agent host: where that agent host is to die (core.crash_points).
CRASH_VARIABLE: Final = "MUSTER_HOST_CRASH"

_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "MUSTER_HOME")
#: What finds the servers of tmux and systemd; for their own programs alone.
_FINDING: Final = ("TMUX_TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "XDG_CONFIG_HOME")
_ENV: Final = "/usr/bin/env"


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what an agent host may know of the environment of whoever starts it."""
    kept = {name: environ[name] for name in _INHERITED if name in environ}
    kept.update({name: value for name, value in environ.items() if name.startswith("LC_")})
    if crash := environ.get(CRASH_VARIABLE):
        kept["MUSTER_CRASH"] = crash
    # A command line and a unit file hold lines of text.
    return {name: value for name, value in kept.items() if value.isprintable()}


def finding() -> dict[str, str]:
    """Return the environment of tmux's and systemd's own programs."""
    kept = {**environment(), **{name: os.environ[name] for name in _FINDING if os.environ.get(name)}}
    # Where no one is logged in, as in a job of cron, only the variable is missing (pam_systemd(8)).
    place = f"/run/user/{os.getuid()}"
    if "XDG_RUNTIME_DIR" not in kept and os.path.isdir(place):
        kept["XDG_RUNTIME_DIR"] = place
    return kept


def host_command(folder: Path, *options: str) -> list[str]:
    """Return the command line of the agent host of this folder."""
    return [sys.executable, "-P", "-m", "fleet.host.process", *options, str(folder / SPEC)]


def alone(command: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Return a command line that runs another with these variables and no others, whoever calls it."""
    return [_ENV, "-i", *(f"{name}={value}" for name, value in variables.items()), *command]
