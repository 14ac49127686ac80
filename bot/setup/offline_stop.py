"""Stopping, freezing and resuming agents without the orchestrator and without the register.

An agent host answers on its own socket and holds its own lock, and the processes that it started have its marker. So a
shell can stop agents even if the orchestrator is dead and the register is damaged. A user with access to those files
owns this installation and is its admin.

Each order is in a file in the agent's folder before it is carried out (`fleet.supervision.offline_orders`). Such an
agent stays down, whatever the register says, until a person launches, restarts or resumes it. The orchestrator takes
the order into the register and the audit once it can. Agents that stop together with Muster (`down --all`) start with
it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from bot.auth.owner import owner_identity
from bot.commands.syntax import command_line
from bot.config.paths import Paths
from bot.text.errors import UserError
from core.errors import MusterError
from fleet.control.agent_host_client import AgentLink
from fleet.control.host_spec import AgentSpec
from fleet.errors import AgentUnreachable, FleetError
from fleet.journal.events import FREEZE as FROZEN
from fleet.supervision import host_lifecycle, offline_orders
from fleet.supervision.offline_orders import FREEZE, KILL, RESUME, SHELL, STOP, OfflineOrder

#: Seconds for an agent host to answer, and to end its runtime.
ANSWER_S: Final = 5.0
_END_S: Final = 30.0
_LOOK_AGAIN_S: Final = 0.02
_REASON: Final = "stopped from a shell, without Muster"


def running(paths: Paths) -> list[str]:
    """Return the names of the agents whose host runs."""
    return sorted(folder.name for folder in paths.agents.glob("*") if host_lifecycle.is_running(folder))


def stop(paths: Paths, name: str, *, now: bool, door: str = SHELL) -> str:
    """Tell an agent host to stop, and return a sentence about the result."""
    folder = _folder(paths, name)
    _order(folder, STOP, now=now, door=door)
    if not host_lifecycle.is_running(folder):
        return f"{name} does not run."
    ended = _ended(paths, name, now=now, reason=_REASON)
    return f"{name} is stopped." if ended else f"{name} stops when its turn ends."


def kill(paths: Paths, name: str, *, door: str = SHELL) -> str:
    """Kill an agent host and everything it started, and return a sentence about the result.

    Raises:
        MusterError: there is no such agent, or one of its processes does not end.
    """
    folder = _folder(paths, name)
    _order(folder, KILL, now=True, door=door)
    count = host_lifecycle.kill_now(folder)
    return f"{name} is killed ({count} process{'' if count == 1 else 'es'})." if count else f"{name} does not run."


def freeze(paths: Paths, name: str, *, now: bool, door: str = SHELL) -> str:
    """Tell an agent host to stop until its agent is resumed, and return a sentence about the result.

    Raises:
        MusterError: there is no such agent, its host does not answer, or the order cannot be written. In the last case
            nothing was done: without the order, the agent would count as stopped.
    """
    folder = _folder(paths, name)
    _order(folder, FREEZE, now=now, must=True, door=door)
    if not host_lifecycle.is_running(folder):
        return f"{name} does not run, and is frozen."
    ended = _ended(paths, name, now=now, reason=FROZEN)
    return f"{name} is frozen." if ended else f"{name} is frozen when its turn ends."


def resume(paths: Paths, name: str, *, door: str = SHELL) -> bool:
    """Start an agent again that was frozen without the orchestrator, as it was.

    Returns:
        False if only Muster can start it. Muster resumes it once it runs.

    Raises:
        MusterError: there is no such agent, it is not frozen, or it does not start.
    """
    folder = _folder(paths, name)
    given = offline_orders.read(folder)
    orders = given.orders if given is not None else ()
    wanted = offline_orders.desired_state(given)
    if wanted == "stopped":
        start = command_line(f"launch {name}")
        raise UserError(
            f"{name} is stopped, not frozen. {start} starts it once Muster runs; nothing was changed.",
            code="agent.not_frozen",
        )
    if host_lifecycle.is_running(folder):
        why = "It is frozen when its turn ends; resume it then." if wanted == "frozen" else "It is not frozen."
        raise UserError(f"{name} runs. {why} Nothing was changed.", code="agent.running")
    # Only Muster knows what changed since it froze the agent itself: settings, grants, messages that were taken back.
    ours = any(order.order == FREEZE and order.ran for order in orders)
    _order(folder, RESUME, must=True, door=door)
    if not ours:
        return False
    try:
        spec = AgentSpec.read(folder / host_lifecycle.SPEC)
    except (OSError, ValueError, TypeError):
        return False
    asyncio.run(host_lifecycle.spawn(replace(spec, resume_session=True)))
    return True


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
                await _shut_down(paths, name, now=True, limit_s=_END_S, reason=_REASON)
            if host_lifecycle.is_running(paths.agent_folder(name)):
                await host_lifecycle.kill(paths.agent_folder(name))
        except (FleetError, OSError) as error:
            return f"{name} does not end: {error}"
        return None

    return [problem for problem in await asyncio.gather(*map(end, names)) if problem is not None]


def _order(folder: Path, order: str, *, door: str, now: bool = False, must: bool = False) -> None:
    """Write an order before it is carried out. If it cannot be written, the agent is ended all the same.

    Raises:
        MusterError: it cannot be written, and it `must` be.
    """
    given = OfflineOrder(
        id=secrets.token_hex(8),
        order=order,
        by=owner_identity(),
        at=time.time(),
        now=now,
        ran=host_lifecycle.is_running(folder),
        door=door,
    )
    try:
        offline_orders.give(folder, given)
    except OSError as error:
        if must:
            raise MusterError(
                f"{folder / offline_orders.FILE} cannot be written: {error.strerror}. Nothing was done.",
                code="disk.unwritable",
            ) from None


def _ended(paths: Paths, name: str, *, now: bool, reason: str) -> bool:
    """Tell an agent host to end, and return whether it did already.

    Raises:
        MusterError: it does not answer.
    """
    try:
        ended = asyncio.run(_shut_down(paths, name, now=now, limit_s=_END_S if now else ANSWER_S, reason=reason))
    except FleetError as error:
        raise MusterError(f"{error} {command_line(f'kill {name}')} ends it by force.") from None
    # The host answers before it is gone, and until then its agent cannot be resumed.
    deadline = time.monotonic() + ANSWER_S
    while ended and host_lifecycle.is_running(paths.agent_folder(name)) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    return ended


async def _shut_down(paths: Paths, name: str, *, now: bool, limit_s: float, reason: str) -> bool:
    """Return whether it stopped within the limit.

    Raises:
        FleetError: it does not answer.
    """
    async with await AgentLink.connect(paths.agent_socket(name), timeout=ANSWER_S) as link:
        try:
            async with asyncio.timeout(limit_s):
                await link.shutdown(now=now, reason=reason)
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
