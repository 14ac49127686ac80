"""Muster in the background: starting it detached, and stopping it from another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bot.api_client import Client, LostConnection
from bot.config.database import is_shared
from bot.config.instance_lock import Holder, holder
from bot.config.loader import load
from bot.config.paths import Paths
from bot.setup import offline_stop, shutdown_record
from bot.text.errors import NotRunning, UserError
from core.errors import MusterError

#: Seconds for a detached start to answer, for an orchestrator to stop, and for agents to stop.
START_LIMIT = 60.0
STOP_LIMIT = 60.0
_PAUSE = 0.1
#: The gateway's status if the register cannot be used.
_REGISTER_AWAY = 503
#: Bytes of the log that are searched for the reason of a failed start.
_LOG_TAIL = 4000


class _Unable(MusterError):
    """The orchestrator cannot list or stop its agents, for example because its register is damaged."""


def start(paths: Paths, environ: Mapping[str, str], *, bring_up: bool = True) -> str:
    """Start the orchestrator in its own session, wait until it answers, and return a sentence that says so.

    With `bring_up`, it launches the persistent agents that do not run.

    Raises:
        MusterError: it runs already, or did not start; the message contains its last output.
    """
    running = holder(paths.lock)
    if running is not None and not _may_stand_by(paths):
        raise UserError(
            f"Muster is running here already (process {running.pid}). `muster down` stops it.", code="muster.running"
        )
    paths.prepare()
    options = [] if bring_up else ["--no-agents"]
    child = dict(environ)
    if paths.home is not None:
        child["MUSTER_HOME"] = str(paths.home)
    descriptor = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        begun = os.fstat(descriptor).st_size
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bot", "up", "--unattended", *options],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=child,
            cwd=paths.state,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    client = Client(paths.gateway_socket, retry_for=0)

    def stands_by() -> Holder | None:
        found = holder(paths.standby_lock)
        return found if found is not None and found.pid == process.pid else None

    def up() -> bool:
        if process.poll() is not None:
            raise MusterError(f"Muster did not come up. Its last words:\n\n{_words_since(paths.log, begun)}")
        # Another process may answer there: one that was started at the same time and has the lock.
        owner = holder(paths.lock)
        return stands_by() is not None or (owner is not None and owner.pid == process.pid and _answers(client))

    if not _wait(up, START_LIMIT):
        raise MusterError(f"Muster was started (process {process.pid}) but does not answer yet. See {paths.log}.")
    if (found := stands_by()) is not None:
        return f"Muster stands by in the background (process {process.pid}), and logs to {paths.log}. {found.note}"
    return f"Muster runs in the background (process {process.pid}), and logs to {paths.log}."


def _may_stand_by(paths: Paths) -> bool:
    return holder(paths.standby_lock) is None and is_shared(load(paths))


def stop(paths: Paths, *, agents_too: bool) -> str:
    """Stop the orchestrator, with `agents_too` after its agents, and return a sentence that says so.

    Raises:
        NotRunning: there is no orchestrator to stop; the message names agents that still run.
        MusterError: it does not stop.
    """
    # The standby stops first, or it would take over.
    waited = _end_standby(paths)
    running = holder(paths.lock)
    if waited and (running is None or running.pid <= 0):
        return "Muster was a standby here, and is now stopped."
    if running is None or running.pid <= 0:
        if not agents_too:
            raise NotRunning
        return _stop_the_rest(paths)
    stopped: list[str] = []
    past_it = False
    if agents_too:
        try:
            stopped = _stop_agents(Client(paths.gateway_socket))
        except (_Unable, NotRunning, LostConnection):
            # It goes first, because it would restart agents that are stopped without it.
            past_it = True
    if stopped:
        shutdown_record.write(paths.brought_down, stopped)
    os.kill(running.pid, signal.SIGTERM)
    if not _wait(lambda: _gone(paths.lock, running.pid), STOP_LIMIT):
        raise MusterError(
            f"Muster (process {running.pid}) was told to stop and has not yet. See {paths.log}; as a last resort "
            f"`kill -9 {running.pid}` loses nothing."
        )
    if not agents_too:
        return "Muster is stopped. Its agents keep running."
    if past_it:
        stopped = offline_stop.stop_all(paths)
    _stop_egress(paths)
    return "Muster and its agents are stopped." + (f" Stopped: {', '.join(stopped)}." if stopped else "")


def _end_standby(paths: Paths) -> bool:
    """Stop the standby here. Return False if there is none, or if it has just begun to lead."""
    waiting = holder(paths.standby_lock)
    if waiting is None or waiting.pid <= 0:
        return False
    os.kill(waiting.pid, signal.SIGTERM)
    if not _wait(lambda: _gone(paths.standby_lock, waiting.pid), STOP_LIMIT):
        raise MusterError(f"Muster stands by here (process {waiting.pid}), was told to stop and has not yet.")
    running = holder(paths.lock)
    return running is None or running.pid != waiting.pid


def _stop_egress(paths: Paths) -> bool:
    """Stop the egress, which is not needed without agents. Return False if it does not run."""
    import asyncio

    from bot.egress_client import process

    return asyncio.run(process.stop(paths))


def _stop_the_rest(paths: Paths) -> str:
    """Stop the agents and the egress of an installation without an orchestrator; return a sentence that says so.

    Raises:
        NotRunning: none of them runs.
        MusterError: an agent does not stop.
    """
    stopped = offline_stop.stop_all(paths)
    egress = _stop_egress(paths)
    if stopped:
        return f"Muster was not running here; its agents were, and are stopped. Stopped: {', '.join(stopped)}."
    if egress:
        return "Muster was not running here; its egress was, and is stopped."
    raise NotRunning


def _stop_agents(client: Client) -> list[str]:
    names = [agent["name"] for agent in _fleet(client)]
    for name in names:
        answer = client.run("stop", {"name": name, "now": True})
        if answer.status == _REGISTER_AWAY:
            raise _Unable
        if answer.status != 200:
            raise MusterError(f"{name} does not stop: {answer.body.get('text') or answer.body.get('error')}")
    if not _wait(lambda: not _fleet(client), STOP_LIMIT):
        still = ", ".join(agent["name"] for agent in _fleet(client))
        raise MusterError(
            f"These agents have not stopped yet: {still}. Muster is still running; `muster kill NAME` ends one."
        )
    return names


def _fleet(client: Client) -> list[dict[str, Any]]:
    answer = client.run("ps", {})
    if answer.status != 200:
        raise _Unable(f"The fleet cannot be listed: {answer.body.get('text') or answer.body.get('error')}")
    return [agent for agent in answer.body["data"] if _may_run(agent)]


def _may_run(agent: Mapping[str, Any]) -> bool:
    """Return whether an agent of this installation runs, or will be restarted automatically."""
    if agent.get("elsewhere"):
        return False
    return agent["state"] not in {"stopped", "failed", "frozen"} or agent.get("tries_again_s") is not None


def _answers(client: Client) -> bool:
    try:
        client.get("/v1/commands")
    except MusterError:
        return False
    return True


def _gone(lock: Path, pid: int) -> bool:
    found = holder(lock)
    return found is None or found.pid != pid


def _wait(condition: Callable[[], bool], limit: float) -> bool:
    until = time.monotonic() + limit
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE)
    return True


def _words_since(log: Path, position: int) -> str:
    with log.open("rb") as stream:
        stream.seek(position)
        words = stream.read()[-_LOG_TAIL:]
    return words.decode(errors="replace").strip() or "(none)"
