"""What meters, paces and hands out work: the egress, windows, what follows at limits, the dispatch queue, reports.

Each part only knows `services`, and asks it for another when it needs that. They are made in two steps, since agents
are kept with some of them and others need the agents.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from bot import dispatching
from bot.continuing import Continuing
from bot.outlet.outlet import Outlet
from bot.pacing.pace import Pace
from bot.questions import Questions
from bot.reports.painting import Painter
from bot.reports.posting import Reports
from bot.runaway import Breaker

if TYPE_CHECKING:
    from bot.commands.execution import Executor
    from bot.outlet.source import Source
    from bot.saying import Speaker
    from bot.services import Services
    from fleet.latest_roster import LatestRoster


def meter(services: Services, egress: Source | None) -> None:
    """Make what agents are kept with.

    Args:
        services: what there is by now.
        egress: where the egress is to be had. None: there is none.
    """
    services.questions = Questions(services)
    services.continuing = Continuing(services)
    services.runaway = Breaker(services)  # asks questions
    if egress is not None:
        services.outlet = Outlet(services=services, source=egress, environ=services.environ, host=socket.gethostname())
        services.outlet.is_over = services.runaway.is_over
    services.pace = Pace(services=services)


def hand_out(services: Services, executor: Executor, speaker: Speaker, roster: LatestRoster) -> None:
    """Make what gives agents their tasks, and what reports of all.

    Args:
        services: what there is by now; agents among it.
        executor: starts agents for tasks.
        speaker: puts words into the shape of a connector.
        roster: roster.yaml as it was read last.
    """
    dispatching.install(services, executor, roster)
    services.reports = Reports(
        services=services,
        speaker=speaker,
        painter=Painter(folder=services.paths.drawing, environ=services.environ),
        folder=services.paths.outgoing,
    )
