"""Which version each process of an installation runs: by the interpreter that it was started with."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bot.config.instance_lock import holder
from bot.egress_client.process import command_of as command_of
from bot.egress_client.process import pid_of
from fleet.supervision import host_lock

if TYPE_CHECKING:
    from bot.config.paths import Paths

ORCHESTRATOR = ""
#: No agent can be called so.
EGRESS = "the egress"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningVersion:
    """An orchestrator or an agent host."""

    agent: str
    """Whose host; empty for the orchestrator, and `EGRESS`."""
    pid: int
    prefix: Path | None
    """The environment that it was started from; None: not known."""
    version: str
    """As far as that is known: the name of the environment's folder, or where it is."""

    def is_of(self, prefix: Path) -> bool:
        """Return whether it was started from that environment, by whatever way that is named."""
        return self.prefix is not None and self.prefix.resolve() == prefix.resolve()


def running(paths: Paths) -> list[RunningVersion]:
    """Return the orchestrator, the agent hosts and the egress that run, as far as they are on this machine."""
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
    """Return whether anything here was started from that environment."""
    return any(each.is_of(prefix) for each in running(paths))


def of(paths: Paths, agent: str, pid: int) -> RunningVersion:
    """Return one process, and which version it runs."""
    prefix = _prefix(pid)
    if prefix is None:
        version = "unknown"
    elif prefix.parent.resolve() == (paths.state / "versions").resolve():
        version = prefix.name
    else:
        version = f"the one in {prefix}"
    return RunningVersion(agent=agent, pid=pid, prefix=prefix, version=version)


def is_detached(pid: int, log: Path) -> bool:
    """Return whether an orchestrator is one that `muster up --detach` started: its output goes to the log."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/fd/1"), os.stat(log))
    except OSError:
        return False


def _prefix(pid: int) -> Path | None:
    command = command_of(pid)
    program = Path(command[0]) if command else Path()
    return program.parent.parent if program.is_absolute() and program.parent.name == "bin" else None
