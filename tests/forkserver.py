"""Processes that start at once.

    process = forkserver.process(main, address, place)
    process.start()

A server that has loaded what they need is forked for each. It starts at first use, and ends with the test process.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from typing import Any

_context = multiprocessing.get_context("forkserver")
# One list, as there is one server in a test process.
_loaded = [
    "tests.connectors.crash_subject",
    "tests.connectors.matrix.crash_subject",
    "tests.conduit.test_provision_killed",
    "tests.connectors.discord.crash_subject",
    "tests.connectors.discord.interactions.crash_subject",
    "database.engine.postgres",
    "alembic.command",
    "fleet.host.process",
    "fleet.host.agent_host",
    "fleet.host.journal_fanout",
    "fleet.host.control_server",
    "fleet.host.mcp.socket_server",
    "fleet.sim.agent.acp_agent",
    "tests.forked_hosts",
]
_context.set_forkserver_preload(_loaded)
#: Room in the environment of the server for that of what is forked (tests.forked_hosts).
_ROOM = "MUSTER_TESTS_ROOM"


def load(*modules: str) -> None:
    """Have the server load these, too. Call it when a module of tests is imported: later, the server runs."""
    _loaded.extend(modules)
    _context.set_forkserver_preload(_loaded)


def process(target: Callable[..., object], *arguments: Any) -> ForkServerProcess:
    """A process that does this and ends, not started yet; it dies with the test process."""
    os.environ[_ROOM] = " " * 2**15
    try:
        forkserver.ensure_running()
    finally:
        del os.environ[_ROOM]
    return _context.Process(target=target, args=arguments, daemon=True)
