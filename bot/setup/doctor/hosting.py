"""The hosting of agents, and the start at boot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from bot.config.loader import Check
from bot.config.paths import Paths
from bot.setup import systemd_units
from bot.setup.doctor.finding import PATIENCE, DoctorFinding, State
from fleet import hosting
from fleet.errors import FleetError
from fleet.hosting import SYSTEMD, systemd
from fleet.hosting.host_command_line import finding

#: A folder with a file for each user whose systemd runs from boot (systemd-logind(8)).
LINGERING = Path("/var/lib/systemd/linger")


def examine(checked: Check, paths: Paths, which: Callable[[str], str | None]) -> Iterator[DoctorFinding]:
    """Check the roster's hostings and the systemd units."""
    wanted = {entry.hosting: entry.name for entry in (checked.roster.agents if checked.roster else ()) if entry.hosting}
    for kind, agent in wanted.items():
        try:
            hosting.check(agent, kind, which, reach=lambda: None)  # whether systemd answers is asked below
        except FleetError as error:
            costs = "The agents that are to run there do not start."
            yield DoctorFinding(name=f"hosting {kind}", state="wrong", found=str(error), costs=costs)
    if (program := which("systemctl")) is None:
        yield DoctorFinding(
            name="systemd",
            state="missing",
            found="not found",
            costs="Muster does not come back by itself when this machine starts (`muster install`).",
            way="Make your service manager run `muster up --unattended` as your user.",
        )
        return
    said = _asked([program, "--user", "show", "--property=Version", "--value"])
    if said is not None:
        state: State = "wrong" if SYSTEMD in wanted else "missing"
        costs = "No agent can have hosting: systemd, and `muster install` enables nothing."
        yield DoctorFinding(name="systemd", state=state, found=said, costs=costs, way=systemd.HOW_TO_REACH)
        return
    texts, enabled = systemd_units.present(paths, orchestrator=True)
    if not texts:
        yield DoctorFinding(name="systemd", state="ok", found="answers; `muster install` makes Muster start at boot")
        return
    found = f"{len(texts)} unit{'' if len(texts) == 1 else 's'} of this installation, {len(enabled)} enabled"
    if _lingers():
        yield DoctorFinding(name="systemd", state="ok", found=f"{found}, and it runs without a login")
        return
    yield DoctorFinding(
        name="systemd",
        state="wrong",
        found=f"{found}; but it runs only while you are logged in",
        costs="Muster and its agents end when you log out, and no boot brings them back.",
        way="loginctl enable-linger",
    )


def _lingers() -> bool:
    import pwd

    try:
        return (LINGERING / pwd.getpwuid(os.getuid()).pw_name).exists()
    except KeyError:
        return False


def _asked(command: list[str]) -> str | None:
    """Return the error of a program, or None if it succeeds."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=finding(), timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]} does not answer ({type(error).__name__})"
    text = done.stderr.decode("utf-8", "replace").strip().splitlines()
    line = "".join(sign for sign in text[0] if sign.isprintable())[:200] if text else f"status {done.returncode}"
    return None if done.returncode == 0 else line
