"""What is done at times, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bot.task_threads import TaskThreads
from bot.telemetry import sending as telemetry
from bot.titles import TitleSweep
from bot.upkeep import forgetting
from bot.upkeep.recounting import Recount
from bot.upkeep.retention import bound_logs
from scheduler.jobs import Job, Jobs

if TYPE_CHECKING:
    from bot.config import Settings
    from bot.paths import Paths
    from bot.services import Services
    from bot.wiring.watching import Watching


def make(services: Services, watching: Watching) -> None:
    """Make `services.jobs`; everything that they call is there."""
    settings: Settings = services.settings
    paths: Paths = services.paths
    store, clock = services.store, services.clock
    titles = TitleSweep(
        services.agents.teller.titles, store, services.agents, services.delivery.wake, TaskThreads(services)
    )
    services.jobs = Jobs(
        (
            Job("confirmations", 30.0, services.conversations.confirmations.lapse),
            Job("retention", 3600.0, lambda: forgetting.sweep(store, paths, clock, settings.retention.files)),
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
            Job("watchdog", settings.watchdog.every, watching.watchdog.sweep),
        ),
        clock,
        on_ended=watching.job_alarms.ended,
        on_dropped=watching.job_alarms.dropped,
    )
