"""What meters, paces and hands out work: the egress, windows, what follows at limits, the dispatch queue, reports.

Each part only knows `services`, and asks it for another when it needs that. They are made in two steps, since agents
are kept with some of them and others need the agents.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bot.app import dispatcher
from bot.approvals.questions import Questions
from bot.egress_client.client import EgressClient
from bot.pacing.auto_resume import Continuing
from bot.pacing.runaway_guard import Breaker
from bot.pacing.service import PaceService
from bot.reports.chart_subprocess import Painter
from bot.reports.poster import Reports
from bot.spending.service import holding

if TYPE_CHECKING:
    from bot.commands.executor import Executor
    from bot.egress_client.source import EgressSource
    from bot.messaging.composer import Composer
    from bot.reports.services import ReportServices
    from fleet.roster.cache import LatestRoster


def meter(services: ReportServices, egress: EgressSource | None) -> None:
    """Make what agents are kept with.

    Args:
        services: what there is now.
        egress: where the egress is to be had. None: there is none.
    """
    services.questions = Questions(services)
    services.continuing = Continuing(services)
    services.runaway = Breaker(services)  # asks questions
    if egress is not None:
        services.outlet = EgressClient(
            services=services,
            source=egress,
            environ=services.environ,
            host=socket.gethostname(),
            holding=lambda: holding(services),
        )
        services.outlet.is_over = services.runaway.is_over
    services.pace = PaceService(services=services)


def hand_out(services: ReportServices, executor: Executor, speaker: Composer, roster: LatestRoster) -> None:
    """Make what gives agents their tasks, and what reports of all.

    Args:
        services: what there is now; agents among it.
        executor: starts agents for tasks.
        speaker: puts words into the shape of a connector.
        roster: roster.yaml as it was read last.
    """
    dispatcher.install(services, executor, roster)
    services.reports = Reports(
        services=services,
        speaker=speaker,
        painter=Painter(folder=services.paths.drawing, environ=services.environ),
        folder=services.paths.outgoing,
    )
