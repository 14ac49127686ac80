"""Metrics in the text format of Prometheus, gathered when they are asked for.

Every label has a bounded number of values: states, kinds, and names that muster.yaml gives. Agents and people are no
labels. What is not known now is left out, and `muster_register_up` says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from bot.agents.services import AgentServices
from bot.approvals import waiting_loader
from bot.monitoring import health_loader
from bot.read_models.health import ForgeHealth, HealthModel
from bot.read_models.waiting import WaitingModel
from budget.windows.calendar_days import midnight
from connectors.delivery import outbox
from core.errors import RegisterError
from database.queries.spending import usage_ledger
from database.queries.spending.usage_ledger import GroupUsage

#: The latency of the egress is that of the requests of so many seconds.
_RECENT_S: Final = 300.0
#: The quantiles that it is given in.
_QUANTILES: Final = (0.5, 0.9, 0.99)


async def exposition(services: AgentServices) -> bytes:
    """Return all metrics (Prometheus text format 0.0.4)."""
    health = await health_loader.load(services)
    now = services.clock()
    families = list(_of_parts(health, now))
    families += _of_forge(health.forge)
    try:
        families += _of_waiting(await waiting_loader.load(services), now)
        async with services.store.read() as tx:
            waiting = await outbox.waiting(tx)
            first_bytes = await usage_ledger.first_bytes(tx, since=now - _RECENT_S)
        today = midnight(now, services.settings.timezone)
        async with services.store.read() as tx:
            used = await usage_ledger.spent(tx, by="account", since=today)
        families += _of_delivery(waiting, now)
        families += _of_use(used)
        families += _of_egress(first_bytes)
    except RegisterError:
        pass  # the health of the register says so
    return await asyncio.to_thread(_written, families)


@dataclass(frozen=True, slots=True, eq=False)
class _Gathered(Collector):
    families: Iterable[GaugeMetricFamily]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self.families


def _written(families: Iterable[GaugeMetricFamily]) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Gathered(families))
    return generate_latest(registry)


def _gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"muster_{name}", what, labels=labels)


def _of_parts(health: HealthModel, now: float) -> Iterator[GaugeMetricFamily]:
    info = _gauge("info", "The version of Muster; always 1.", "version")
    info.add_metric([health.version], 1)
    yield info
    uptime = _gauge("uptime_seconds", "Time since Muster started.")
    uptime.add_metric([], max(0.0, now - health.started_at))
    yield uptime
    works = "Whether a connector, the register, the egress, the forge or a disk works; 0 also: not wholly."
    up = _gauge("part_up", works, "kind", "name")
    for part in health.parts:
        if part.reachable is not None:
            up.add_metric([part.kind, part.name], float(part.reachable and not part.impaired))
    yield up
    for name, what, counts in (
        ("agents", "Agents by state.", health.agents),
        ("tasks", "Tasks that have not ended, by state.", health.tasks),
    ):
        if counts is not None:
            family = _gauge(name, what, "state")
            for state, count in sorted(counts.items()):
                family.add_metric([state], count)
            yield family
    failed = _gauge("job_failed", "Whether the last run of a job failed.", "job")
    last = _gauge("job_last_run_timestamp_seconds", "When a job last ran, in seconds since the epoch.", "job")
    for job in health.jobs:
        failed.add_metric([job.name], float(job.last_error is not None))
        if job.last_run is not None:
            last.add_metric([job.name], job.last_run)
    yield failed
    yield last


def _of_forge(forge: ForgeHealth | None) -> Iterator[GaugeMetricFamily]:
    webhooks = _gauge("forge_webhooks", "Webhooks of the forge since the start, by what came of them.", "outcome")
    looks = _gauge(
        "forge_last_look_timestamp_seconds", "When a repository was last looked through, since the epoch.", "repository"
    )
    waiting = _gauge("forge_events_waiting", "Events of the forge that are not handled.")
    trouble = _gauge("forge_trouble", "How many things do not work at the forge.")
    runs = _gauge("issue_runs", "Runs of issues that have not ended, by state.", "state")
    if forge is not None:
        for outcome, count in sorted(forge.webhooks.items()):
            webhooks.add_metric([outcome], count)
        for repository, at in sorted(forge.looked_at.items()):
            if at is not None:
                looks.add_metric([repository], at)
        waiting.add_metric([], forge.waiting)
        trouble.add_metric([], forge.trouble)
        for state, count in sorted(forge.runs.items()):
            runs.add_metric([state], count)
    yield from (webhooks, looks, waiting, trouble, runs)


def _of_waiting(waiting: WaitingModel, now: float) -> Iterator[GaugeMetricFamily]:
    count = _gauge("waiting", "Permission requests and questions that wait for an answer.", "kind")
    oldest = _gauge("waiting_oldest_seconds", "How long the oldest of them waits; 0 if there is none.", "kind")
    for kind, asked in (
        ("request", [each.asked_at for each in waiting.requests]),
        ("question", [each.asked_at for each in waiting.questions]),
    ):
        count.add_metric([kind], len(asked))
        oldest.add_metric([kind], max((now - at for at in asked), default=0.0))
    yield count
    yield oldest


def _of_delivery(rows: dict[str, tuple[int, float]], now: float) -> Iterator[GaugeMetricFamily]:
    count = _gauge("outbox", "Messages that wait to be sent.", "connector")
    lag = _gauge("outbox_oldest_seconds", "How long the oldest of them waits.", "connector")
    for connector, (waiting, since) in sorted(rows.items()):
        count.add_metric([connector], waiting)
        lag.add_metric([connector], max(0.0, now - since))
    yield count
    yield lag


def _of_use(used: Iterable[GroupUsage]) -> Iterator[GaugeMetricFamily]:
    requests = _gauge("requests_today", "Model requests since midnight.", "account")
    tokens = _gauge("tokens_today", "Tokens since midnight, by kind.", "account", "kind")
    usd = _gauge("cost_usd_today", "US dollars since midnight; left out where no price is known.", "account")
    for each in used:
        account = each.key or ""
        requests.add_metric([account], each.requests)
        for kind, count in (
            ("input", each.input_tokens),
            ("output", each.output_tokens),
            ("cache_read", each.cache_read_tokens),
            ("cache_write", each.cache_write_tokens),
            ("reasoning", each.reasoning_tokens),
        ):
            tokens.add_metric([account, kind], count)
        if each.usd is not None:
            usd.add_metric([account], each.usd)
    yield requests
    yield tokens
    yield usd


def _of_egress(first_bytes: list[float]) -> Iterator[GaugeMetricFamily]:
    family = _gauge(
        "egress_first_byte_seconds",
        "Time to a model's first byte through the egress, of the requests of the last five minutes.",
        "quantile",
    )
    ordered = sorted(first_bytes)
    for quantile in _QUANTILES if ordered else ():
        family.add_metric([str(quantile)], ordered[min(len(ordered) - 1, int(quantile * len(ordered)))])
    yield family
