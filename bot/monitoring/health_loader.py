"""The report of `health` as a read model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from bot.agents.services import AgentServices
from bot.monitoring import health_view
from bot.read_models.health import ForgeHealth, HealthModel, JobHealth, PartHealth


async def load(services: AgentServices) -> HealthModel:
    """Check all parts. This writes to the disks and asks the egress, so it is not for every second."""
    return _model(await health_view.report(services), started_at=services.started_at)


def _model(report: Mapping[str, Any], *, started_at: float) -> HealthModel:
    """Return the report that ``health --json`` prints as a read model."""
    parts = [_part("connector", each.get("name") or each["kind"], each) for each in report["connectors"]]
    parts.append(_part("register", "register", report["register"]))
    if (egress := report["egress"]) is not None:
        parts.append(_part("egress", "egress", egress))
    if (forge := report["forge"]) is not None:
        parts.append(_part("forge", forge["host"], forge))
    parts += [_part("disk", each["name"], each) for each in report["disks"]]
    return HealthModel(
        status=report["status"],
        version=report["version"],
        started_at=started_at,
        parts=tuple(parts),
        jobs=tuple(_job(each) for each in report["jobs"]),
        agents=report["agents"],
        tasks=report["tasks"],
        forge=None if forge is None else _forge(forge),
    )


def _part(
    kind: Literal["connector", "register", "egress", "forge", "disk"], name: str, part: Mapping[str, Any]
) -> PartHealth:
    return PartHealth(
        name=name,
        kind=kind,
        reachable=part["reachable"],
        impaired=bool(part.get("impaired") or part.get("unwritable") or part.get("estop"))
        or part.get("authenticated") is False,
        detail=part["detail"],
        seen_at=_seconds(part.get("last_seen")),
    )


def _forge(forge: Mapping[str, Any]) -> ForgeHealth:
    return ForgeHealth(
        webhooks=forge["webhooks"]["outcomes"],
        looked_at={each["name"]: _seconds(each["looked_at"]) for each in forge["repositories"]},
        waiting=forge["waiting"],
        runs=forge["runs"],
        trouble=len(forge["trouble"]),
    )


def _job(job: Mapping[str, Any]) -> JobHealth:
    return JobHealth(
        name=job["name"],
        schedule=job.get("schedule"),
        last_run=_seconds(job.get("last_run")),
        next_run=_seconds(job.get("next_run")),
        running_since=_seconds(job.get("running_since")),
        last_error=job.get("last_error"),
        missed=int(job.get("missed") or 0),
    )


def _seconds(at: str | None) -> float | None:
    return None if at is None else datetime.fromisoformat(at).timestamp()
