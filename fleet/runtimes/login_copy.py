"""Each agent has its own copy of its runtime's login."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fleet.runtimes import agent_home


def take_login(home: Path, login: Path, name: PurePosixPath) -> None:
    """Copy the login, unless the agent's own copy is newer: runtimes renew their tokens."""
    source = login / name
    written = agent_home.modified(login, name)
    if written is None:
        return
    own = agent_home.modified(home, name)
    if own is None or own < written:
        agent_home.place(home, name, source.read_bytes())
