"""The version that each process of an installation runs, according to the interpreter that started it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bot.config.instance_lock import holder
from bot.config.paths import Paths
from bot.egress_client.process import command_of as command_of
from bot.egress_client.process import pid_of
from fleet.supervision import host_lock

ORCHESTRATOR = ""
#: Not a valid agent name.
EGRESS = "the egress"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningVersion:
    """A running orchestrator, agent host or egress, and its version."""

    agent: str
    """The agent of the host; `ORCHESTRATOR` or `EGRESS` for those processes."""
    pid: int
    prefix: Path | None
    """The environment from which it was started; None if unknown."""
    version: str
    """The name of the environment's folder if it is a known version, or else a description."""

    def is_of(self, prefix: Path) -> bool:
        """Return whether it was started from that environment; links are resolved."""
        return self.prefix is not None and self.prefix.resolve() == prefix.resolve()


def running(paths: Paths) -> list[RunningVersion]:
    """Return the running orchestrator, agent hosts and egress of this machine."""
    found = []
    orchestrator = holder(paths.lock)
    if orchestrator is not None and orchestrator.pid > 0:
        found.append(of(paths, ORCHESTRATOR, orchestrator.pid))
    for folder in sorted(paths.agents.glob("*")):
        pid = host_lock.holder(folder) if folder.is_dir() else None
        if pid is not None:
            found.append(of(paths, folder.name, pid))
    if (egress := pid_of(paths)) is not None:
        found.append(of(paths, EGRESS, egress))
    return found


def runs(paths: Paths, prefix: Path) -> bool:
    """Return whether any process here was started from that environment."""
    return any(each.is_of(prefix) for each in running(paths))


def of(paths: Paths, agent: str, pid: int) -> RunningVersion:
    """Return one process with the version that it runs."""
    prefix = _prefix(pid)
    if prefix is None:
        version = "unknown"
    elif prefix.parent.resolve() == (paths.state / "versions").resolve():
        version = prefix.name
    else:
        version = f"the one in {prefix}"
    return RunningVersion(agent=agent, pid=pid, prefix=prefix, version=version)


def is_detached(pid: int, log: Path) -> bool:
    """Return whether `muster up --detach` started the orchestrator: its output goes to the log."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/fd/1"), os.stat(log))
    except OSError:
        return False


def _prefix(pid: int) -> Path | None:
    command = command_of(pid)
    program = Path(command[0]) if command else Path()
    return program.parent.parent if program.is_absolute() and program.parent.name == "bin" else None
