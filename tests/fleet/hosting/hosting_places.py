"""Where agent hosts run in tests: a tmux server of the test's own, a systemd that records how it was called."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.hosting import SYSTEMD, TMUX

RECORDER = Path(__file__).with_name("systemctl.py")


@contextlib.contextmanager
def place_for(kind: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What agent hosts of this hosting need, for as long as it is entered."""
    if kind == TMUX:
        with tmux_server(monkeypatch):
            yield
    elif kind == SYSTEMD:
        systemd(home, monkeypatch)
        yield
    else:
        yield


@contextlib.contextmanager
def tmux_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A person's default tmux server, which has run for long; the folder of its socket.

    It has kept variables of whoever started it (`LEFT_BEHIND`), and settings that are unkind to sessions.
    """
    # Short: a socket is in it.
    folder = Path(tempfile.mkdtemp(prefix="muster-tmux-", dir="/tmp"))
    monkeypatch.setenv("TMUX_TMPDIR", str(folder))
    monkeypatch.delenv("TMUX", raising=False)
    kept = {**os.environ, "LEFT_BEHIND": "secret", "PYTHONSTARTUP": "/nowhere"}
    words = ["new-session", "-d", "-s", "theirs", "sleep", "600"]
    words += [";", "set-option", "-t", "=theirs:", "destroy-unattached", "off"]
    words += [";", "set-option", "-g", "remain-on-exit", "on", ";", "set-option", "-g", "destroy-unattached", "on"]
    try:
        subprocess.run(["tmux", "-f", "/dev/null", *words], env=kept, check=True)
        yield folder
    finally:
        environ = {**os.environ, "TMUX_TMPDIR": str(folder)}
        for socket in folder.glob("tmux-*/*"):
            subprocess.run(["tmux", "-S", str(socket), "kill-server"], env=environ, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def systemd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person with a recorder for a systemd; the folder of what it recorded."""
    person, programs = home / "person", home / "programs"
    record = person / "recorder"
    record.mkdir(parents=True)
    programs.mkdir()
    program = programs / "systemctl"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S '{RECORDER}' \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(person))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return record


def calls(record: Path) -> list[list[str]]:
    """How systemd's program was called, without ``--user``."""
    lines = (record / "calls").read_text().splitlines() if (record / "calls").exists() else []
    return [json.loads(line)[1:] for line in lines]
