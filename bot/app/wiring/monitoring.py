"""The monitoring of the fleet and of Muster's own jobs."""

from __future__ import annotations

from dataclasses import dataclass

from bot.agents.watch import Watches
from bot.app import connectors
from bot.config.loader import Settings
from bot.monitoring.alerts import AlertPoster
from bot.monitoring.connector_outages import ConnectorOutages
from bot.monitoring.fleet_snapshot import SnapshotLoader
from bot.monitoring.job_alerts import JobAlertPoster
from bot.reports.services import ReportServices
from fleet.roster.cache import LatestRoster
from fleet.supervision.health_findings import HealthThresholds
from scheduler.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True, slots=True)
class Watching:
    lookout: SnapshotLoader
    watchdog: Watchdog
    job_alarms: JobAlertPoster
    outages: ConnectorOutages


def make(services: ReportServices, roster: LatestRoster) -> Watching:
    """Create `services.watches`, the watchdog, and the alarms for failing jobs.

    Args:
        services: the services so far, including agents and delivery.
        roster: the latest roster.yaml.
    """
    lookout = SnapshotLoader(
        store=services.store,
        agents=services.agents,
        roster=roster,
        folders=services.paths.agents,
        clock=services.clock,
        redact=services.redact,
    )
    services.watches = Watches(services)
    services.drift = lookout.drift
    alarms = AlertPoster(
        channel=services.agents.journal_effects,
        main_room=lambda: services.main_room(None),
        wake_delivery=services.delivery.wake,
        publish=services.events.publish,
    )
    job_alarms = JobAlertPoster(
        store=services.store,
        channel=services.agents.journal_effects,
        room=alarms.fleet_room,
        wake_delivery=services.delivery.wake,
    )
    watchdog = Watchdog(
        store=services.store,
        look=lookout.look,
        herald=alarms,
        cancel=lookout.cancel,
        limits=_limits(services.settings),
    )
    outages = ConnectorOutages(
        store=services.store,
        delivery=services.delivery,
        channel=services.agents.journal_effects,
        rooms=connectors.main_rooms(services.settings),
    )
    return Watching(lookout=lookout, watchdog=watchdog, job_alarms=job_alarms, outages=outages)


def _limits(settings: Settings) -> HealthThresholds:
    return HealthThresholds(
        turn_silence=settings.watchdog.turn_silence,
        cancel_after=settings.watchdog.cancel_after,
        expiry_notice=settings.watchdog.expiry_notice,
        settling=settings.watchdog.settling,
    )
