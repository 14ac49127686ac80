"""Running the programs of tmux and systemd: with no one to answer their questions, and not for longer than is said."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fleet.hosting.host_command_line import finding


def ask(command: Sequence[str], limit_s: float, *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, within so many seconds; its status and what it printed.

    Raises:
        FileNotFoundError: there is no such program.
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=cwd,
        env=finding(),
        timeout=limit_s,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
