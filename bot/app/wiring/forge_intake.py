"""From what the forge tells to rows: the listener for webhooks, the looks at the forge, and the intake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bot.app.stages import Stage
from bot.config.surfaces.web import parse_listen
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake.looking import Looking
from bot.issue_runs.intake.pickups import Configured, pick_ups_of
from bot.issue_runs.intake.service import Intake
from bot.issue_runs.intake.troubles import Troubles
from bot.reports.services import ReportServices
from core.crash_points import declare
from database.queries.forge import forge_events
from database.queries.forge.forge_events import ForgeEventRow
from forge.webhooks.event import ForgeEvent
from forge.webhooks.listener import WebhookListener

RECEIVE = declare("forge.receive")


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """The parts of the intake."""

    intake: Intake
    looking: Looking
    listener: WebhookListener | None

    def stages(self) -> list[Stage]:
        """Return the stages, in order."""
        listener = self.listener
        return [
            Stage("forge intake", run=self.intake.run),
            Stage("forge looks", run=self.looking.run),
            *([] if listener is None else [Stage("webhooks", start=listener.start, stop=listener.stop)]),
        ]


def make(services: ReportServices, link: ForgeLink, ordered: Callable[[str], None]) -> IntakeParts:
    """Create `services.intake` and what it hears from.

    Args:
        services: the services so far, including agents, rounds and delivery.
        link: the forge.
        ordered: is told the key of a new order.

    Raises:
        MusterError: the webhook's secret cannot be resolved, or is none.
    """
    channel, clock = services.agents.journal_effects, services.clock

    def room() -> tuple[str, str]:
        return services.main_room(None)

    troubles = Troubles(services.store, link, channel, room, services.delivery.wake, clock)
    intake = Intake(
        store=services.store,
        link=link,
        channel=channel,
        source=Configured(services.planner, link),
        pickups=pick_ups_of(services, link),
        troubles=troubles,
        rounds=services.rounds,
        ordered=ordered,
        wake_delivery=services.delivery.wake,
        clock=clock,
    )
    services.intake = intake
    looking = Looking(services.store, link, intake, troubles, clock)
    return IntakeParts(intake, looking, _listener(services, link, intake))


def _listener(services: ReportServices, link: ForgeLink, intake: Intake) -> WebhookListener | None:
    block = link.settings
    if not block.listens or block.webhooks is None:
        return None

    async def write(events: Sequence[ForgeEvent]) -> None:
        now = services.clock()
        rows = [
            ForgeEventRow(
                forge=link.host,
                delivery=event.delivery,
                name=event.name,
                repository=str(link.configured(str(event.repository)) or event.repository),
                number=event.number,
                sha=event.sha,
                received_at=now,
            )
            for event in events
        ]
        async with services.store.write(RECEIVE) as tx:
            await forge_events.add(tx, rows)
        intake.wake()

    host, port = parse_listen(block.webhooks.listen)
    secret = block.webhooks.secret.resolve(services.environ)
    return WebhookListener(block.kind, secret, link.repositories, write, host=host, port=port, counts=link.counts)
