"""The periodic jobs and their intervals."""

from __future__ import annotations

from bot.app.wiring import forge
from bot.app.wiring.monitoring import Watching
from bot.config.loader import Settings
from bot.config.paths import Paths
from bot.interfaces.chat.router import ChatRouter
from bot.maintenance import retention_job
from bot.maintenance.ledger_recount import Recount
from bot.maintenance.retention_files import bound_logs
from bot.messaging.thread_lifecycle import TitleSweep
from bot.projects.forgetting import Forgetting
from bot.reports.services import ReportServices
from bot.runs.forgetting import RunForgetting
from bot.tasks.threads import TaskThreads
from bot.telemetry import sender as telemetry
from scheduler.jobs import Job, Jobs


def make(services: ReportServices, watching: Watching, conversations: ChatRouter) -> None:
    """Create `services.jobs`. All services that the jobs call must exist."""
    settings: Settings = services.settings
    paths: Paths = services.paths
    store, clock = services.store, services.clock
    titles = TitleSweep(
        services.agents.journal_effects.titles, store, services.agents, services.delivery.wake, TaskThreads(services)
    )
    services.jobs = Jobs(
        (
            Job("confirmations", 30.0, conversations.confirmations.lapse),
            Job("retention", 3600.0, lambda: retention_job.sweep(store, paths, clock, settings.retention.files)),
            Job("topics", 3600.0, Forgetting(services).sweep),
            Job("agents of runs", 3600.0, RunForgetting(services).sweep),
            Job("abandoned", 3600.0, services.delivery.abandon),
            Job("sums", 3600.0, Recount(store, clock, services.pace.doubt).next),
            Job("logs", 30.0, lambda: bound_logs(paths, settings.retention.logs)),
            Job("journals", 3600.0, services.agents.prune),
            Job("continuations", 5.0, services.continuing.look),
            Job("runaways", 15.0, services.runaway.look),
            Job("reports", 60.0, services.reports.sweep),
            Job("outages", 30.0, watching.outages.look),
            Job("titles", 60.0, titles.look),
            Job("telemetry", 3600.0, lambda: telemetry.send(services)),
            *forge.jobs(services),
            Job("watchdog", settings.watchdog.every, watching.watchdog.sweep),
        ),
        clock,
        on_ended=watching.job_alarms.ended,
        on_dropped=watching.job_alarms.dropped,
    )
