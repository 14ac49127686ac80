"""The health of each part of Muster, in the form that ``health --json`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.agents.service import Agents
from bot.egress_client.client import EgressClient
from bot.egress_client.health import condition
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import health as forge_health
from bot.leadership import standby_registry
from bot.monitoring import disk_check
from bot.text.timestamps import timestamp
from connectors.delivery import outbox
from connectors.delivery.service import Delivery
from core.errors import RegisterError
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agents
from scheduler.jobs import Jobs

#: Maximum number of agents named among those whose threads are out of reach.
_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthInputs:
    delivery: Delivery
    jobs: Jobs
    agents: Agents
    store: Store
    clock: Callable[[], float]
    state: Path
    """The state folder of this installation."""
    egress_client: EgressClient | None = None
    forge: Callable[[], ForgeLink | None] = lambda: None

    async def __call__(self) -> Mapping[str, Any]:
        known = await self.delivery.health()
        connectors = [
            {
                "name": name,
                "kind": each.kind,
                "reachable": each.reachable,
                "authenticated": each.authenticated,
                "last_seen": timestamp(each.last_seen),
                "detail": each.detail,
                "impaired": each.impaired,
            }
            for name, each in known.items()
        ]
        jobs = [
            {
                "name": record.name,
                "schedule": record.schedule,
                "last_run": timestamp(record.last_run),
                "next_run": timestamp(record.next_run),
                "duration_s": None if record.duration is None else round(record.duration, 3),
                "running_since": timestamp(record.running_since),
                "last_error": record.last_error,
                "missed": record.missed,
            }
            for record in self.jobs.records()
        ]
        register: dict[str, Any] = {"reachable": True, "detail": self.store.place}
        states: dict[str, int] | None = None
        queue: dict[str, int] | None = None
        link = self.forge()
        forge: dict[str, Any] | None = None
        try:
            async with self.store.read() as tx:
                queue = dict((await tasks.counts(tx)).by_state)
                waiting = await outbox.waiting(tx)
                threads = [(row.connector, row.name) for row in await agents.every(tx)]
                connectors += [_gone(name, waiting[name][0], threads) for name in sorted(waiting.keys() - known.keys())]
                if link is not None:
                    forge = await forge_health.condition(tx, link, self.clock())
                if self.store.is_shared:
                    register["standby"] = [
                        {"owner": each.owner, "since": timestamp(each.acquired_at)}
                        for each in await standby_registry.others(tx, self.store, self.state, self.clock)
                    ]
            states = dict(Counter(view.liveness.state for view in await self.agents.view()))
        except RegisterError as error:
            register = {"reachable": False, "detail": str(error)}
        egress = None if self.egress_client is None else await condition(self.egress_client)
        parts = {
            "connectors": connectors,
            "egress": egress,
            "forge": forge,
            "register": register,
            "jobs": jobs,
            "agents": states,
        }
        folders = [self.state] if self.store.file is None else [self.state, self.store.file.parent]
        return {**parts, "disks": await disk_check.condition(folders), "tasks": queue}


def _gone(name: str, waiting: int, threads: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the entry of a connector that is no longer configured but still has waiting messages."""
    there = sorted(agent for connector, agent in threads if connector == name)
    others = " and others" if len(there) > _NAMED else ""
    whose = f" It has the threads of {', '.join(there[:_NAMED])}{others}." if there else ""
    detail = (
        f"muster.yaml no longer has this connector, and {waiting} of Muster's messages wait for it in vain.{whose} Put "
        "its block back, or stop them and launch them from another room; waiting messages become dead letters."
    )
    return {
        "name": name, "kind": name, "reachable": False, "authenticated": None, "last_seen": None, "detail": detail,
        "impaired": True,
    }  # fmt: skip
