"""An agent host as a process that belongs to no one: in a session of its own, a child of init."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleet.hosting.host_command_line import LOG, environment, host_command
from fleet.hosting.kinds import NotHosted, Stuck


@dataclass(frozen=True, kw_only=True, slots=True)
class Detached:
    """A plain process."""

    folder: Path
    """The agent's."""

    def start(self, limit_s: float) -> int:
        """Start the process and wait until it is detached; its process group."""
        log = os.open(self.folder / LOG, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            process = start_process(self.folder, log)
        finally:
            os.close(log)
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Stuck(f"The agent host did not detach itself in {limit_s:g} s.", process.pid) from None
        if status != 0:
            raise NotHosted("The agent host did not start.")
        return process.pid

    def end(self) -> None:
        """Nothing is made around a process."""


def start_process(folder: Path, log: int) -> subprocess.Popen[bytes]:
    """Start the process that becomes the agent host's parent for a moment, in a session of its own.

    Args:
        folder: the agent's.
        log: the file descriptor of what it prints.
    """
    return subprocess.Popen(
        host_command(folder, "--detach"),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        env=environment(),
        start_new_session=True,
    )
