"""The start of the roster's persistent agents together with Muster.

Muster itself gives the command `launch` for each agent. So the command is recorded before it takes effect, is resumed
after a crash, and does not affect a running agent. Agents that an operator stopped or froze stay down; those that `down
--all` stopped start again. The supervisor (`bot.agents.restart_executor`) restarts failed agents, persistent or not. An
agent that it gave up is launched again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.roster.service import usable
from bot.auth.permission import OPERATOR
from bot.commands.executor import Executor, RunOutcome, RunRequest
from bot.commands.syntax import written
from bot.messaging import rooms
from bot.reports.services import ReportServices
from bot.setup import shutdown_record, systemd_units
from bot.text.errors import UserError
from core.errors import MusterError
from database.queries.agents import agents
from fleet.roster.drift import ENDED
from fleet.roster.loader import Roster
from fleet.supervision import offline_orders, restart_policy
from fleet.supervision.restart_policy import RestartRecord

log = structlog.get_logger(__name__)

#: The identity that gives the commands.
IDENTITY = "muster:up"
#: Seconds between two starts, so that the agents of a fleet do not all start at once.
STAGGER_S = 1.0
#: Seconds to wait until it is known whether an agent runs.
_KNOWN_WITHIN_S = 30.0
_LOOK_AGAIN_S = 0.1


async def bring_up(services: ReportServices, executor: Executor, *, stagger_s: float = STAGGER_S) -> None:
    """Start every persistent agent that should run and does not. Failures are logged, and stop nothing else."""
    try:
        fleet = await usable(services)
    except UserError as error:
        await _refuse(services, executor, f"No agent was brought up. {error}")
        return
    try:
        await _bring_up(services, executor, fleet, stagger_s)
    except Exception:
        log.exception("core.not_brought_up")


async def _bring_up(services: ReportServices, executor: Executor, fleet: Roster, stagger_s: float) -> None:
    for refused in await asyncio.to_thread(systemd_units.settle, services.paths, fleet.agents):
        log.warning("units.not_settled", reason=refused)
    left = services.paths.brought_down
    stopped_with_us = await asyncio.to_thread(shutdown_record.read, left)
    launched = 0
    for entry in fleet.agents:
        if entry.persistent and await _is_due(services, entry.name, stopped_with_us):
            if launched:
                await asyncio.sleep(stagger_s)
            launched += 1
            await _launch(services, executor, entry.name)
    await asyncio.to_thread(left.unlink, missing_ok=True)


async def _launch(services: ReportServices, executor: Executor, name: str) -> None:
    async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
        if outcome.state != "done":
            await _tell(services, tx, outcome, f"{name} was not brought up. {outcome.text}")

    request = _request(services, name, "launch", {"name": name})
    try:
        outcome = await executor.run(request, finish=finish)
    except MusterError as error:
        log.error("core.not_brought_up", agent=name, reason=str(error))
        return
    services.delivery.wake()
    if outcome.state == "done":
        log.info("core.brought_up", agent=name)
    else:
        log.error("core.not_brought_up", agent=name, reason=written(outcome.text, ""))


async def _refuse(services: ReportServices, executor: Executor, sentence: str) -> None:
    async def finish(tx: AsyncConnection, outcome: RunOutcome) -> None:
        await _tell(services, tx, outcome, outcome.text)

    log.error("core.not_brought_up", reason=sentence)
    request = _request(services, "roster", "roster apply", {})
    with contextlib.suppress(MusterError):
        await executor.refuse(request, sentence, reason="roster", finish=finish)
        services.delivery.wake()


def _request(services: ReportServices, subject: str, name: str, arguments: Mapping[str, object]) -> RunRequest:
    return RunRequest(
        id=f"up-{services.started_at * 1000:.0f}-{subject}",
        name=name,
        arguments=arguments,
        identity=IDENTITY,
        permission=OPERATOR,
        door="up",
    )


async def _tell(services: ReportServices, tx: AsyncConnection, outcome: RunOutcome, sentence: str) -> None:
    """Post to the main room, if there is one."""
    await rooms.say(services, tx, f"up/{outcome.run_id}", f"⚠️ {sentence}")


async def _is_due(services: ReportServices, name: str, stopped_with_us: frozenset[str]) -> bool:
    """Return whether an agent is to be started now."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KNOWN_WITHIN_S):
            while True:
                async with services.store.read() as tx:
                    row = await agents.get(tx, name)
                if row is None:
                    return True
                if not services.agents.is_ours(row):
                    return False
                if await asyncio.to_thread(offline_orders.keeps_down, services.paths.agent_folder(name)):
                    return False
                if row.wanted != "running":
                    return row.wanted == "stopped" and name in stopped_with_us
                if row.state in ENDED:
                    # The supervisor restarts a failed agent until it gives up.
                    return restart_policy.is_over(RestartRecord.from_json(row.revival), services.clock())
                if services.agents.is_up(name):
                    return False
                await asyncio.sleep(_LOOK_AGAIN_S)
    # Its agent host runs but does not respond, which the watchdog handles.
    return False
