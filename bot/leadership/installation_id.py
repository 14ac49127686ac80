"""Ownership of agents, where several installations take turns to lead with one register.

An agent's processes, journal and workspace are on one machine, in one MUSTER_HOME. An orchestrator on another machine
cannot see or reach them, so it never starts, ends or judges that agent.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from bot.leadership.lease import HOLD
from bot.text import markdown
from bot.text.errors import UserError
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow


class AgentElsewhere(UserError):
    """The agent belongs to another installation."""

    code = "agent.elsewhere"

    def __init__(self, row: AgentRow) -> None:
        host = markdown.one_line(row.host)
        super().__init__(
            f"{row.name} belongs to the Muster on {host}, which does not lead now. This Muster can neither see nor "
            f"change it; the agent keeps running. Stop this Muster so that the one on {host} leads again, and ask "
            "again there. If that machine is gone for good, `muster backup restore` restores its backup on another one."
        )


@dataclass(frozen=True, slots=True)
class Homes:
    """The identity of this installation, which decides which agents are its own."""

    #: The id of this installation.
    own: str
    host: str
    #: Whether other installations may have agents in the register.
    shared: bool

    def is_ours(self, row: AgentRow) -> bool:
        """Return whether this installation manages the agent's processes."""
        if not self.shared:
            return True
        return row.home == self.own if row.home is not None else row.host == self.host


async def settled(store: Store, home: str) -> Homes:
    """Return the identity of this installation, and claim this host's agents that have no installation id yet."""
    homes = Homes(home, socket.gethostname(), store.is_shared)
    if homes.shared:
        async with store.read() as tx:
            unsettled = any(row.home is None and row.host == homes.host for row in await agents.every(tx))
        if unsettled:
            async with store.write(HOLD) as tx:
                await agents.settle(tx, host=homes.host, home=home)
    return homes


def word_of(file: Path) -> str:
    """Return the unique id of this installation, creating it on first use.

    It is stored with the installation's state, so it does not change when the machine is renamed.
    """
    try:
        found = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        found = ""
    if found:
        return found
    word = secrets.token_hex(8)
    part = file.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, word.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.replace(file)
    return word
