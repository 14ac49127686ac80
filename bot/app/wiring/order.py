"""The order in which the parts of an orchestrator start; they stop in reverse."""

from __future__ import annotations

import contextlib

from bot.app import dispatcher
from bot.app.stages import Stage
from bot.app.wiring import forge, gateway, web
from bot.app.wiring.monitoring import Watching
from bot.commands.executor import Executor
from bot.interfaces.mcp.server import AgentToolServer
from bot.monitoring import agent_counts
from bot.reports.services import ReportServices
from core.errors import RegisterAway


def stages(services: ReportServices, executor: Executor, tools: AgentToolServer, watching: Watching) -> list[Stage]:
    """Return all parts in order, each after those that it uses."""

    async def start_jobs() -> None:
        services.jobs.start()

    async def stop_jobs() -> None:
        services.jobs.stop()

    return [
        Stage("job alarms", run=watching.job_alarms.run),
        # Events and their reports.
        Stage("agents", run=services.agents.run),
        Stage("delivery", run=services.delivery.run),
        Stage("watches", run=services.watches.run),
        Stage("headcount", run=lambda: agent_counts.run(services)),
        # Usage and its consequences.
        *([] if services.egress_client is None else [Stage("egress_client", run=services.egress_client.run)]),
        Stage("pace", run=services.pace.run),
        Stage("dispatch", run=lambda: dispatcher.run(services)),
        # Commands; first those that an earlier process left unfinished.
        Stage("interrupted commands", start=executor.resume),
        Stage("outages", run=lambda: _after_outages(services, executor)),
        Stage("commands", stop=executor.stop),
        Stage("topics", run=services.topics.run),
        Stage("runs", run=services.runs.run),
        *forge.stages(services),
        Stage("tools", run=tools.run),
        gateway.stage(services, executor),
        *filter(None, [gateway.metrics_stage(services)]),
        *web.stages(services, executor),
        # Scheduled work.
        Stage("reports", run=services.reports.run),
        Stage("jobs", start=start_jobs, stop=stop_jobs),
    ]


async def _after_outages(services: ReportServices, executor: Executor) -> None:
    """Resume the work that an outage of the register interrupted, as a restart would."""
    while True:
        await services.store.returned.wait()
        services.store.returned.clear()
        with contextlib.suppress(RegisterAway):
            await executor.resume()
        services.delivery.wake()
