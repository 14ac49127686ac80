"""A tmux server of the test's own, on a socket in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIMIT = 60.0


class Server:
    """The default server of whoever has this ``TMUX_TMPDIR``; it starts with its first session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / f"tmux-{os.getuid()}" / "default"

    def __call__(self, *words: str) -> list[str]:
        """What tmux prints; nothing where it fails."""
        return self.run(*words).stdout.splitlines()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["tmux", "-u", "-f", "/dev/null", "-S", str(self.socket), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)

    def theirs(self, name: str = "theirs") -> None:
        """A session of a person's, with settings that are unkind to others."""
        self.socket.parent.mkdir(mode=0o700, exist_ok=True)
        self.run("new-session", "-d", "-s", name, "-n", "desk", "-x", "80", "-y", "24", "sleep", "600")
        self.run("set-option", "-g", "remain-on-exit", "on", ";", "set-option", "-g", "destroy-unattached", "off")

    def panes(self, form: str) -> list[str]:
        return self("list-panes", "-a", "-F", form)

    def shown(self, pane: str) -> str:
        """What stands in a pane, with what scrolled out of it."""
        return "\n".join(line for line in self("capture-pane", "-p", "-J", "-S", "-", "-t", pane) if line.strip())

    def end(self) -> None:
        for socket in self.folder.glob("tmux-*/*"):
            subprocess.run(["tmux", "-S", str(socket), "kill-server"], capture_output=True, timeout=LIMIT, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    # Short: a socket is in it.
    folder = Path(tempfile.mkdtemp(prefix="muster-tmux-", dir="/tmp"))
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.delenv("TMUX_PANE", raising=False)
    # Nobody's own settings of tmux.
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    server = Server(folder)
    try:
        yield server
    finally:
        server.end()


def until(true: Callable[[], object], what: Callable[[], object] = str) -> None:
    """Wait until something is so. `what` is told when it is not."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, what()
        time.sleep(0.03)
