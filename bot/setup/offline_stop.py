"""Stopping agents without the orchestrator and without the register.

An agent host answers on its own socket and holds its own lock, and the processes that it started have its marker. So a
shell can stop agents even if the orchestrator is dead and the register is damaged. A user with access to those files
owns this installation and is its admin.

Such an agent stays down, whatever the register says, until a person launches or restarts it. A file in its folder
records this (`fleet.supervision.host_lifecycle.STAY_DOWN`). Agents that stop together with Muster (`down --all`) start
with it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from bot.commands.syntax import command_line
from bot.config.paths import Paths
from bot.text.errors import UserError
from core.errors import MusterError
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentUnreachable, FleetError
from fleet.supervision import host_lifecycle

#: Seconds for an agent host to answer, and to end its runtime.
ANSWER_S: Final = 5.0
_END_S: Final = 30.0
_REASON: Final = "stopped from a shell, without Muster"


def running(paths: Paths) -> list[str]:
    """Return the names of the agents whose host runs."""
    return sorted(folder.name for folder in paths.agents.glob("*") if host_lifecycle.is_running(folder))


def stop(paths: Paths, name: str, *, now: bool) -> str:
    """Tell an agent host to stop, and return a sentence about the result."""
    folder = _folder(paths, name)
    host_lifecycle.stay_down(folder)
    if not host_lifecycle.is_running(folder):
        return f"{name} does not run."
    try:
        ended = asyncio.run(_shut_down(paths, name, now=now, limit_s=_END_S if now else ANSWER_S))
    except FleetError as error:
        raise MusterError(f"{error} {command_line(f'kill {name}')} ends it by force.") from None
    return f"{name} is stopped." if ended else f"{name} stops when its turn ends."


def kill(paths: Paths, name: str) -> str:
    """Kill an agent host and everything it started, and return a sentence about the result.

    Raises:
        MusterError: there is no such agent, or one of its processes does not end.
    """
    folder = _folder(paths, name)
    host_lifecycle.stay_down(folder)
    count = host_lifecycle.kill_now(folder)
    return f"{name} is killed ({count} process{'' if count == 1 else 'es'})." if count else f"{name} does not run."


def stop_all(paths: Paths) -> list[str]:
    """Stop all agent hosts at once, by force if one does not answer, and return their names.

    Raises:
        MusterError: some did not stop; the message names them. The others have stopped.
    """
    names = running(paths)
    problems = asyncio.run(_end_all(paths, names))
    if problems:
        raise MusterError(" ".join(problems))
    return names


async def _end_all(paths: Paths, names: list[str]) -> list[str]:
    async def end(name: str) -> str | None:
        try:
            with contextlib.suppress(FleetError):
                await _shut_down(paths, name, now=True, limit_s=_END_S)
            if host_lifecycle.is_running(paths.agent_folder(name)):
                await host_lifecycle.kill(paths.agent_folder(name))
        except (FleetError, OSError) as error:
            return f"{name} does not end: {error}"
        return None

    return [problem for problem in await asyncio.gather(*map(end, names)) if problem is not None]


async def _shut_down(paths: Paths, name: str, *, now: bool, limit_s: float) -> bool:
    """Return whether it stopped within the limit.

    Raises:
        FleetError: it does not answer.
    """
    async with await AgentLink.connect(paths.agent_socket(name), timeout=ANSWER_S) as link:
        try:
            async with asyncio.timeout(limit_s):
                await link.shutdown(now=now, reason=_REASON)
        except TimeoutError:
            if now:
                raise AgentUnreachable(f"The agent host of {name} did not end in {limit_s:g} s.") from None
            return False
    return True


def _folder(paths: Paths, name: str) -> Path:
    try:
        folder = paths.agent_folder(name)
    except ValueError:
        folder = None
    if folder is None or not folder.is_dir():
        there = ", ".join(running(paths)) or "no agent"
        raise UserError(
            f"No agent of this installation is called {name[:40]!r}. Running: {there}. Nothing was done.",
            code="agent.unknown",
        )
    return folder
