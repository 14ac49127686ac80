"""Metering, pacing and dispatch: the egress, windows, actions at limits, the task queue and reports.

Each part knows only `services` and finds others through it. They are created in two steps, because agents need some of
them, and others need the agents.
"""

from __future__ import annotations

import socket

from bot.app import dispatcher
from bot.approvals.questions import Questions
from bot.commands.executor import Executor
from bot.egress_client.client import EgressClient
from bot.egress_client.source import EgressSource
from bot.messaging.composer import Composer
from bot.pacing.auto_resume import AutoResume
from bot.pacing.runaway_guard import RunawayGuard
from bot.pacing.service import PaceService
from bot.projects import changes
from bot.projects.service import Topics
from bot.reports.chart_subprocess import ChartSubprocess
from bot.reports.poster import Reports
from bot.reports.services import ReportServices
from bot.spending.held_limits import holding
from fleet.roster.cache import LatestRoster


def meter(services: ReportServices, egress: EgressSource | None) -> None:
    """Create the parts that agents need.

    Args:
        services: the services so far.
        egress: the source of the egress, or None if there is none.
    """
    services.questions = Questions(services)
    services.continuing = AutoResume(services)
    services.runaway = RunawayGuard(services)  # asks questions
    if egress is not None:
        services.egress_client = EgressClient(
            services=services,
            source=egress,
            environ=services.environ,
            host=socket.gethostname(),
            holding=lambda: holding(services),
        )
        services.egress_client.is_over = services.runaway.is_over
    services.pace = PaceService(services=services)


def hand_out(services: ReportServices, executor: Executor, speaker: Composer, roster: LatestRoster) -> None:
    """Create the dispatcher, the topics and the reports.

    Args:
        services: the services so far, including agents.
        executor: starts agents for tasks.
        speaker: composes messages for connectors.
        roster: the latest roster.yaml.
    """
    dispatcher.install(services, executor, roster)
    services.topics = Topics(services)
    changes.listen(services)
    services.reports = Reports(
        services=services,
        speaker=speaker,
        painter=ChartSubprocess(folder=services.paths.drawing, environ=services.environ),
        folder=services.paths.outgoing,
    )
