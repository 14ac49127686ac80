"""Gathers the health of each part of Muster. An unknown state is never taken as healthy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from bot.agents.service import Agents
from bot.commands.services import CommandServices
from bot.egress_client.client import EgressClient
from bot.egress_client.health import condition
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import health as forge_health
from bot.leadership import standby_registry
from bot.monitoring import disk_check
from bot.read_models.health import ForgeHealth, HealthModel, JobHealth, PartHealth, WaitingOrchestrator
from connectors.contract.messages import Health
from connectors.delivery import outbox
from connectors.delivery.service import Delivery
from core.errors import RegisterError
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agents
from scheduler.jobs import JobRecord, Jobs

#: Maximum number of agents named among those whose threads are out of reach.
_NAMED = 5


async def load(services: CommandServices) -> HealthModel:
    """Check all parts. This writes to the disks and asks the egress, so it is not for every second."""
    if services.health is not None:
        return await services.health()
    register = PartHealth(name="register", kind="register", detail="not checked")
    return HealthModel(status="degraded", version=services.version, started_at=services.started_at, parts=(register,))


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthInputs:
    version: str
    started_at: float
    delivery: Delivery
    jobs: Jobs
    agents: Agents
    store: Store
    clock: Callable[[], float]
    state: Path
    """The state folder of this installation."""
    egress_client: EgressClient | None = None
    traces: Callable[[], PartHealth | None] = lambda: None
    """Whether traces reach their collector; None if none are sent."""
    forge: Callable[[], ForgeLink | None] = lambda: None

    async def __call__(self) -> HealthModel:
        known = await self.delivery.health()
        connectors = [_connector(name, each) for name, each in known.items()]
        register = PartHealth(name="register", kind="register", reachable=True, detail=self.store.place)
        states: dict[str, int] | None = None
        queue: dict[str, int] | None = None
        standbys: tuple[WaitingOrchestrator, ...] | None = None
        link = self.forge()
        forge: ForgeHealth | None = None
        try:
            async with self.store.read() as tx:
                queue = dict((await tasks.counts(tx)).by_state)
                waiting = await outbox.waiting(tx)
                threads = [(row.connector, row.name) for row in await agents.every(tx)]
                connectors += [_gone(name, waiting[name][0], threads) for name in sorted(waiting.keys() - known.keys())]
                if link is not None:
                    forge = await forge_health.load(tx, link)
                if self.store.is_shared:
                    others = await standby_registry.others(tx, self.store, self.state, self.clock)
                    standbys = tuple(WaitingOrchestrator(owner=each.owner, since=each.acquired_at) for each in others)
            states = dict(Counter(view.liveness.state for view in await self.agents.view()))
        except RegisterError as error:
            register = PartHealth(name="register", kind="register", reachable=False, detail=str(error))
        parts = [*connectors, register]
        if self.egress_client is not None:
            parts.append(await condition(self.egress_client))
        parts += await disk_check.condition(
            [self.state] if self.store.file is None else [self.state, self.store.file.parent]
        )
        if forge is not None and link is not None:
            parts.append(forge_health.part(forge, every=link.settings.every, now=self.clock()))
        if (traces := self.traces()) is not None:
            parts.append(traces)
        jobs = [_job(each) for each in self.jobs.records()]
        return HealthModel(
            status=status_of(parts, jobs),
            version=self.version,
            started_at=self.started_at,
            parts=tuple(parts),
            jobs=tuple(jobs),
            standbys=standbys,
            agents=states,
            tasks=queue,
            forge=forge,
        )


def status_of(parts: Iterable[PartHealth], jobs: Iterable[JobHealth]) -> str:
    """Return ``ok``, ``degraded``, or ``down`` without a register."""
    # The work does not depend on traces.
    states = [(each.kind, each.state) for each in parts if each.kind != "traces"]
    if ("register", "down") in states:
        return "down"
    # An egress that is not needed yet is healthy, and a forge that was not looked at yet; what blocks requests is not.
    well = all(state == "up" or (kind in ("egress", "forge") and state == "unknown") for kind, state in states)
    well = well and any(kind == "register" for kind, _ in states)
    return "ok" if well and not any(each.last_error for each in jobs) else "degraded"


def _connector(name: str, found: Health) -> PartHealth:
    return PartHealth(
        name=name,
        kind="connector",
        system=found.kind,
        reachable=found.reachable,
        authenticated=found.authenticated,
        seen_at=found.last_seen,
        detail=found.detail,
        impaired=found.impaired,
    )


def _job(record: JobRecord) -> JobHealth:
    return JobHealth(
        name=record.name,
        schedule=record.schedule,
        last_run=record.last_run,
        next_run=record.next_run,
        duration_s=None if record.duration is None else round(record.duration, 3),
        running_since=record.running_since,
        last_error=record.last_error,
        missed=record.missed,
    )


def _gone(name: str, waiting: int, threads: Iterable[tuple[str, str]]) -> PartHealth:
    """Return the entry of a connector that is no longer configured but still has waiting messages."""
    there = sorted(agent for connector, agent in threads if connector == name)
    others = " and others" if len(there) > _NAMED else ""
    whose = f" It has the threads of {', '.join(there[:_NAMED])}{others}." if there else ""
    detail = (
        f"muster.yaml no longer has this connector, and {waiting} of Muster's messages wait for it in vain.{whose} Put "
        "its block back, or stop them and launch them from another room; waiting messages become dead letters."
    )
    return PartHealth(name=name, kind="connector", system=name, reachable=False, detail=detail, impaired=True)
