"""The reply to ``health``: all parts and an overall status. An unknown state is never shown as healthy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.agents.services import AgentServices
from bot.text.markdown import one_line, span


async def report(services: AgentServices) -> dict[str, Any]:
    """Return the object that ``health --json`` prints."""
    parts: dict[str, Any] = dict(await services.health()) if services.health is not None else {}
    connectors = list(parts.get("connectors") or [])
    register = parts.get("register") or {"reachable": None, "detail": "not checked"}
    jobs = list(parts.get("jobs") or [])
    disks = list(parts.get("disks") or [])
    return {
        "status": _status(connectors, register, jobs, parts.get("egress"), parts.get("forge"), disks),
        "version": services.version,
        "uptime_s": round(max(0.0, services.clock() - services.started_at), 1),
        "connectors": connectors,
        "egress": parts.get("egress"),
        "forge": parts.get("forge"),
        "register": register,
        "disks": disks,
        "jobs": jobs,
        "agents": parts.get("agents"),
        "tasks": parts.get("tasks"),
    }


def text(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"**{report['status']}**, version {report['version']}, up for {span(report['uptime_s'])}."]
    for connector in report["connectors"]:
        name = one_line(connector.get("name") or connector["kind"])
        lines.append(f"- {_mark(connector)} connector {name}: {one_line(connector['detail'], 1_500)}")
    register = report["register"]
    lines.append(f"- {_mark(register)} register: {one_line(register['detail'], 300)}")
    for each in register.get("standby") or ():
        lines.append(f"- ✓ {one_line(each['owner'], 300)} stands by, since {each['since']}")
    lines += [
        f"- {_mark(disk)} disk: {one_line(disk['detail'], 300)}" for disk in report["disks"] if _mark(disk) != "✓"
    ]
    if (egress := report["egress"]) is not None:
        lines.append(f"- {_mark(egress)} egress: {one_line(egress['detail'], 300)}")
    if (forge := report["forge"]) is not None:
        lines.append(f"- {_mark(forge)} forge: {one_line(forge['detail'], 1_000)}")
    lines += _of_jobs(report["jobs"])
    if (states := report["agents"]) is None:
        lines.append("- ? agents: not known while the register is away")
    else:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if count)
        lines.append(f"- agents: {counts or 'none'}")
    if queue := {state: count for state, count in (report.get("tasks") or {}).items() if count}:
        lines.append(f"- tasks: {', '.join(f'{count} {state}' for state, count in sorted(queue.items()))}")
    return "\n".join(lines)


def _of_jobs(jobs: list[Any]) -> list[str]:
    """Return a line per job that needs attention, and one line for all others."""
    lines, well = [], 0
    for job in jobs:
        schedule = f" ({one_line(job['schedule'])})" if job.get("schedule") else ""
        name = f"job {one_line(job['name'])}{schedule}"
        if job.get("missed") and job.get("running_since"):
            lines.append(f"- ? {name}: running since {job['running_since']}, {_missed(job)} meanwhile")
        elif job.get("last_error"):
            lines.append(f"- ✗ {name}: {one_line(job['last_error'], 300)}")
        elif job.get("missed"):
            took = f"; the last took {span(job['duration_s'])}" if job.get("duration_s") else ""
            lines.append(f"- ? {name}: {_missed(job)}{took}")
        else:
            well += 1
    if well:
        lines.append(f"- ✓ {well} {'job runs' if well == 1 else 'jobs run'} at {'its' if well == 1 else 'their'} times")
    return lines


def _missed(job: Mapping[str, Any]) -> str:
    return f"{job['missed']} run{'s' if job['missed'] != 1 else ''} missed"


def _mark(part: Mapping[str, Any]) -> str:
    if part["reachable"] is False or part.get("authenticated") is False or part.get("impaired"):
        return "✗"
    return "✓" if part["reachable"] else "?"


def _status(
    connectors: list[Any],
    register: Mapping[str, Any],
    jobs: list[Any],
    egress: Mapping[str, Any] | None,
    forge: Mapping[str, Any] | None,
    disks: list[Any],
) -> str:
    if register["reachable"] is False:
        return "down"
    well = all(_mark(part) == "✓" for part in (*connectors, register, *disks))
    # An egress that is not needed yet is healthy; one that blocks requests is not.
    out = egress is None or not (egress["reachable"] is False or egress.get("estop") or egress.get("unwritable"))
    # A forge that was not looked at yet is healthy.
    well = well and out and (forge is None or _mark(forge) != "✗")
    return "ok" if well and not any(job.get("last_error") for job in jobs) else "degraded"
