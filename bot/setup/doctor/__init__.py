"""`muster doctor`: what this machine has and lacks, the consequences, and the remedies. Changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from bot.config import loader
from bot.config.loader import Check
from bot.config.paths import Paths
from bot.setup.doctor import agents, forge, hosting, installation, logins, machine, network, tmux
from bot.setup.doctor.finding import DoctorFinding
from fleet.sandbox import selection

__all__ = ["DoctorFinding", "bounds", "examine", "exit_status", "text"]


def examine(
    paths: Paths,
    environ: Mapping[str, str],
    *,
    which: Callable[[str], str | None] = shutil.which,
    clock: Callable[[], float] = time.time,
) -> list[DoctorFinding]:
    """Run all checks. Blocks for seconds, and longer if a homeserver does not answer."""
    checked = loader.check(paths)
    return [
        machine.python(sys.version_info[:3]),
        *machine.installed(which),
        machine.bubblewrap(selection.available(), sizes_tmpfs=selection.bounds_files_in_memory()),
        *machine.containers(checked),
        *bounds(checked),
        *machine.of_agents(which),
        machine.keyring(),
        *hosting.examine(checked, paths, which),
        *installation.configuration(checked, paths),
        *installation.secrets(checked, environ),
        *installation.subscriptions(checked, environ),
        installation.register(checked, paths, environ),
        installation.sockets(paths),
        installation.disk(paths),
        *network.homeservers(checked, clock),
        *logins.examine(checked, paths, environ),
        *agents.accounts(checked, environ),
        *agents.examine(checked, paths, environ),
        *tmux.examine(checked, which),
        *forge.examine(checked, paths, environ),
        installation.running(paths),
        installation.egress(paths),
    ]


def bounds(checked: Check) -> list[DoctorFinding]:
    """Return the limits of sandbox profiles that this machine cannot enforce."""
    return list(
        machine.limits_of_profiles(
            checked,
            root=os.geteuid() == 0,
            release=os.uname().release,
            controllers=machine.control_group_controllers(),
        )
    )


def text(findings: Sequence[DoctorFinding]) -> str:
    """Format the findings for a person."""
    width = max(len(finding.name) for finding in findings)
    marks = {"ok": "ok     ", "missing": "missing", "wrong": "WRONG  ", "unknown": "unknown"}
    lines = []
    for finding in findings:
        lines.append(f"{marks[finding.state]}  {finding.name:<{width}}  {finding.found}")
        pad = " " * (len(marks["ok"]) + width + 4)
        lines += [f"{pad}{each}" for each in (finding.costs, finding.way) if each and finding.state != "ok"]
    wrong = sum(finding.state == "wrong" for finding in findings)
    end = (
        "Muster can run here."
        if not wrong
        else f"{wrong} thing{'' if wrong == 1 else 's'} must be fixed before all of this configuration works."
    )
    return "\n".join([*lines, "", end])


def exit_status(findings: Sequence[DoctorFinding]) -> int:
    """Return 1 if anything is wrong. A missing program is the person's choice."""
    return int(any(finding.state == "wrong" for finding in findings))
