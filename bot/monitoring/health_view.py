"""Formatting of `health`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bot.read_models.health import HealthModel, JobHealth, PartHealth
from bot.text.markdown import one_line, span
from bot.text.timestamps import timestamp

_MARKS: Final = {"up": "✓", "unknown": "?"}


def health_json(model: HealthModel, now: float) -> dict[str, Any]:
    """Return what ``health --json`` prints. Unknown values are None."""
    register: dict[str, Any] = {}
    for each in model.parts_of("register"):
        register |= {"reachable": each.reachable, "detail": each.detail}
    if model.standbys is not None:
        register["standby"] = [{"owner": each.owner, "since": timestamp(each.since)} for each in model.standbys]
    return {
        "status": model.status,
        "version": model.version,
        "uptime_s": round(max(0.0, now - model.started_at), 1),
        "connectors": [_connector_json(each) for each in model.parts_of("connector")],
        "egress": next(map(_egress_json, model.parts_of("egress")), None),
        "forge": None if model.forge is None else _forge_json(model),
        "register": register,
        "disks": [
            {"name": each.name, "reachable": each.reachable, "detail": each.detail} for each in model.parts_of("disk")
        ],
        "traces": next(map(_traces_json, model.parts_of("traces")), None),
        "jobs": [_job_json(each) for each in model.jobs],
        "agents": None if model.agents is None else dict(model.agents),
        "tasks": None if model.tasks is None else dict(model.tasks),
    }


def _connector_json(part: PartHealth) -> dict[str, Any]:
    return {
        "name": part.name,
        "kind": part.system,
        "reachable": part.reachable,
        "authenticated": part.authenticated,
        "last_seen": timestamp(part.seen_at),
        "detail": part.detail,
        "impaired": part.impaired,
    }


def _egress_json(part: PartHealth) -> dict[str, Any]:
    facts = part.egress
    return {
        "reachable": part.reachable,
        "estop": facts is not None and facts.estop,
        "agents": None if facts is None else facts.agents,
        "streams": None if facts is None else facts.streams,
        "pid": None if facts is None else facts.pid,
        "unwritable": None if facts is None else facts.unwritable,
        "detail": part.detail,
    }


def _forge_json(model: HealthModel) -> dict[str, Any]:
    forge = model.forge
    assert forge is not None
    (part,) = model.parts_of("forge")
    return {
        "host": forge.host,
        "reachable": part.reachable,
        "impaired": part.impaired,
        "detail": part.detail,
        "repositories": [{"name": name, "looked_at": timestamp(at)} for name, at in forge.looked_at.items()],
        "webhooks": {
            "listens": forge.listens,
            "outcomes": dict(forge.webhooks),
            "last_malformed": forge.last_malformed,
        },
        "waiting": forge.waiting,
        "runs": dict(forge.runs),
        "trouble": dict(forge.trouble),
    }


def _traces_json(part: PartHealth) -> dict[str, Any]:
    return {
        "reachable": part.reachable,
        "impaired": part.impaired,
        "last_seen": timestamp(part.seen_at),
        "detail": part.detail,
    }


def _job_json(job: JobHealth) -> dict[str, Any]:
    return {
        "name": job.name,
        "schedule": job.schedule,
        "last_run": timestamp(job.last_run),
        "next_run": timestamp(job.next_run),
        "duration_s": job.duration_s,
        "running_since": timestamp(job.running_since),
        "last_error": job.last_error,
        "missed": job.missed,
    }


def health_text(model: HealthModel, now: float) -> str:
    """Return the report as Markdown."""
    lines = [f"**{model.status}**, version {model.version}, up for {span(max(0.0, now - model.started_at))}."]
    lines += [
        f"- {_mark(each)} connector {one_line(each.name)}: {one_line(each.detail, 1_500)}"
        for each in model.parts_of("connector")
    ]
    lines += [f"- {_mark(each)} register: {one_line(each.detail, 300)}" for each in model.parts_of("register")]
    lines += [
        f"- ✓ {one_line(each.owner, 300)} stands by, since {timestamp(each.since)}" for each in model.standbys or ()
    ]
    lines += [
        f"- {_mark(each)} disk: {one_line(each.detail, 300)}" for each in model.parts_of("disk") if each.state != "up"
    ]
    lines += [f"- {_mark(each)} egress: {one_line(each.detail, 300)}" for each in model.parts_of("egress")]
    lines += [f"- {_mark(each)} forge: {one_line(each.detail, 1_000)}" for each in model.parts_of("forge")]
    lines += [f"- {_mark(each)} traces: {one_line(each.detail, 300)}" for each in model.parts_of("traces")]
    lines += _of_jobs(model.jobs)
    if model.agents is None:
        lines.append("- ? agents: not known while the register is away")
    else:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(model.agents.items()) if count)
        lines.append(f"- agents: {counts or 'none'}")
    if queue := {state: count for state, count in (model.tasks or {}).items() if count}:
        lines.append(f"- tasks: {', '.join(f'{count} {state}' for state, count in sorted(queue.items()))}")
    return "\n".join(lines)


def _of_jobs(jobs: Sequence[JobHealth]) -> list[str]:
    """Return a line per job that needs attention, and one line for all others."""
    lines, well = [], 0
    for job in jobs:
        schedule = f" ({one_line(job.schedule)})" if job.schedule else ""
        name = f"job {one_line(job.name)}{schedule}"
        if job.missed and job.running_since:
            lines.append(f"- ? {name}: running since {timestamp(job.running_since)}, {_missed(job)} meanwhile")
        elif job.last_error:
            lines.append(f"- ✗ {name}: {one_line(job.last_error, 300)}")
        elif job.missed:
            took = f"; the last took {span(job.duration_s)}" if job.duration_s else ""
            lines.append(f"- ? {name}: {_missed(job)}{took}")
        else:
            well += 1
    if well:
        lines.append(f"- ✓ {well} {'job runs' if well == 1 else 'jobs run'} at {'its' if well == 1 else 'their'} times")
    return lines


def _missed(job: JobHealth) -> str:
    return f"{job.missed} run{'s' if job.missed != 1 else ''} missed"


def _mark(part: PartHealth) -> str:
    return _MARKS.get(part.state, "✗")
