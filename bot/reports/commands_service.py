"""Implementation of `report`, `schedules`, `schedule set`, `schedule off` and `schedule clear`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.config.projects import profile_of
from bot.config.reports import Kind
from bot.read_models.limits import UsageRow, WindowPace
from bot.reports import schedule
from bot.reports import text as wording
from bot.reports.model import ProjectFacts, ReportFacts, TaskFacts
from bot.reports.poster import Reports, file_of
from bot.reports.schedule import Schedule
from bot.reports.services import ReportServices
from bot.text import markdown
from bot.text.errors import UsageError
from bot.text.timestamps import timestamp
from budget.scope_names import shown_scope
from database.queries.operations import report_schedules
from database.queries.operations.report_schedules import ScheduleRow
from scheduler.cron import Cron, CronError, next_after


async def show_report(ctx: Context[ReportServices], kind: Kind) -> Reply:
    """Return the report as a reply, with its picture if it was requested in a chat room."""
    reports: Reports = ctx.services.reports
    connector = None if ctx.origin is None else ctx.origin.connector
    made = await reports.make(kind, now=ctx.services.clock(), connector=connector, key=f"report/{ctx.run_id}")
    file = None if made.picture is None else file_of(made.picture)
    return Reply(made.text, facts_json(made.facts), file=file)


# --- schedules -----------------------------------------------------------------------------------------------------


async def show_schedules(ctx: Context[ReportServices]) -> Reply:
    services = ctx.services
    planned, now = await services.reports.schedules(), services.clock()
    zone: ZoneInfo = services.settings.timezone
    rows = [(each.kind, _when(each), _next(each, now, zone), _source(each)) for each in planned]
    hours = services.settings.schedules.quiet
    quiet = None if hours is None else {"from": f"{hours.from_:%H:%M}", "to": f"{hours.to:%H:%M}"}
    lines = [markdown.table(("report", "when", "next", "set by"), rows)]
    if quiet is not None:
        lines.append(f"Quiet hours: {quiet['from']} to {quiet['to']}. What is due then is posted at their end.")
    lines += [f"⚠️ {each.kind}: {markdown.code(each.problem)}" for each in planned if each.problem]
    lines.append(f"Times are in {zone.key}. {command_line('report KIND')} shows one at once.")
    data = {
        "timezone": zone.key,
        "quiet": quiet,
        "room": services.settings.schedules.room,
        "schedules": [_schedule_json(each, now) for each in planned],
    }
    return Reply("\n\n".join(lines), data)


async def set_schedule(ctx: Context[ReportServices], kind: Kind, cron: str) -> Reply:
    services = ctx.services
    zone: ZoneInfo = services.settings.timezone
    if kind == "budget":
        if cron.strip().casefold() != schedule.ON:
            raise UsageError(
                "The budget report has no times: it is posted at once when a share of a window is passed. "
                f"{command_line('schedule set budget on')} switches it on, {command_line('schedule off budget')} off."
            )
        text = schedule.ON
    elif cron.strip().casefold() in (schedule.ON, "off"):
        raise UsageError(
            f"CRON is the time of the posts. {command_line(f'schedule off {kind}')} switches it off, "
            f"{command_line(f'schedule clear {kind}')} goes back to what muster.yaml says."
        )
    else:
        try:
            Cron(cron, zone)
        except CronError as error:
            raise UsageError(str(error)) from None
        text = " ".join(cron.split())
    await _say(ctx, kind, text)
    if kind == "budget":
        return Reply("**budget** is posted when a share of a window is passed.", await _now_json(ctx, kind))
    coming = wording.moment(next_after(Cron(text, zone), services.clock()), zone, day=True)
    words = f"**{kind}** is posted at {markdown.code(text)} in {zone.key}, next {coming}."
    return Reply(words, await _now_json(ctx, kind))


async def switch_off(ctx: Context[ReportServices], kind: Kind) -> Reply:
    await _say(ctx, kind, "")
    again = "schedule set budget on" if kind == "budget" else f"schedule set {kind} CRON"
    text = (
        f"**{kind}** is not posted by itself any more. {command_line(again)} switches it on; "
        f"{command_line(f'schedule clear {kind}')} goes back to what muster.yaml says."
    )
    return Reply(text, await _now_json(ctx, kind))


async def clear(ctx: Context[ReportServices], kind: Kind) -> Reply:
    """Remove the schedule that a command set for a kind. The one in muster.yaml applies again."""
    services = ctx.services
    known = await ctx.commit("clear", lambda tx: report_schedules.remove(tx, kind))
    await services.reports.arrange()
    now = next(each for each in await services.reports.schedules() if each.kind == kind)
    begun = "What muster.yaml sets applies again" if known else "No command had set it; what muster.yaml sets applies"
    if not now.on:
        holds = f"it is off. {command_line(f'schedule set {kind} ' + ('on' if kind == 'budget' else 'CRON'))} switches "
        holds += "it on."
    elif now.cron is None:
        holds = "it is posted when a share of a window is passed."
    else:
        coming = _next(now, services.clock(), services.settings.timezone)
        holds = f"{markdown.code(now.cron.expression)} in {now.cron.zone.key}, next {coming}."
    return Reply(f"**{kind}**: {begun}: {holds}", _schedule_json(now, services.clock()))


async def _say(ctx: Context[ReportServices], kind: Kind, cron: str) -> None:
    services = ctx.services
    row = ScheduleRow(
        kind=kind, cron=cron, zone=services.settings.timezone.key, set_by=ctx.identity, set_at=services.clock()
    )
    await ctx.commit("schedule", lambda tx: report_schedules.put(tx, row))
    await services.reports.arrange()


async def _now_json(ctx: Context[ReportServices], kind: Kind) -> dict[str, Any]:
    planned: Sequence[Schedule] = await ctx.services.reports.schedules()
    return next(_schedule_json(each, ctx.services.clock()) for each in planned if each.kind == kind)


def _when(planned: Schedule) -> str:
    if not planned.on:
        return "off"
    return "when a share is passed" if planned.cron is None else planned.cron.expression


def _next(planned: Schedule, now: float, zone: ZoneInfo) -> str:
    at = planned.next_after(now)
    return "-" if at is None else wording.moment(at, zone, day=True)


def _source(planned: Schedule) -> str:
    return planned.source if planned.set_by is None else markdown.one_line(planned.set_by, 40)


def _schedule_json(planned: Schedule, now: float) -> dict[str, Any]:
    return {
        "kind": planned.kind,
        "on": planned.on,
        "cron": None if planned.cron is None else planned.cron.expression,
        "timezone": None if planned.cron is None else planned.cron.zone.key,
        "next": timestamp(planned.next_after(now)),
        "source": planned.source,
        "set_by": planned.set_by,
        "set_at": timestamp(planned.set_at),
        "problem": planned.problem,
    }


# --- a report for programs -----------------------------------------------------------------------------------------


def facts_json(facts: ReportFacts) -> dict[str, Any]:
    """Return a report in the format of `--json`, without what its kind does not include."""
    made: dict[str, Any] = {"kind": facts.kind, "at": timestamp(facts.now)}
    if facts.kind in ("daily", "weekly"):
        made |= {
            "from": timestamp(facts.begin),
            "to": timestamp(facts.end),
            "spent": None if facts.total is None else _spent_json(facts.total, None),
            "by_agent": [_spent_json(each, "agent") for each in facts.agents],
            "by_task": [_spent_json(each, "task") for each in facts.tasks],
            "projects": [_project_json(each) for each in facts.projects],
            "by_day": [_spent_json(each, "day") for each in facts.days],
            "waiting": {
                "count": facts.waiting_count,
                "runs": facts.waiting_runs,
                "tasks": [_task_json(each) for each in facts.waiting],
            },
            "ended": {"counts": dict(facts.ended_counts), "tasks": [_task_json(each) for each in facts.ended]},
        }
    if facts.kind == "fleet":
        made["states"] = dict(facts.fleet_states)
        made["agents"] = [
            {
                "name": each.name,
                "role": each.role,
                "state": each.state,
                "evidence": each.evidence,
                "evidence_age_s": None
                if each.evidence_at is None
                else round(max(0.0, facts.now - each.evidence_at), 3),
                "tasks_done": each.tasks_done,
                "tokens_today": each.tokens,
            }
            for each in facts.fleet
        ]
    if facts.kind != "budget":
        made["down"] = [
            {
                "agent": each.agent,
                "kind": each.kind,
                "from": timestamp(each.since),
                "to": timestamp(each.until),
                "cause": each.cause or None,
            }
            for each in facts.downs
        ]
    made["windows"] = [_window_json(each) for each in facts.windows]
    made["incomplete"] = facts.behind
    return made


def _spent_json(spent: UsageRow, key: str | None) -> dict[str, Any]:
    named = {} if key is None else {key: spent.name}
    usd = None if spent.usd is None else round(spent.usd, 9)
    return {**named, "requests": spent.requests, "tokens": spent.tokens, "usd": usd, "estimated": spent.estimated}


def _project_json(project: ProjectFacts) -> dict[str, Any]:
    ended = {words: project.ended.get(key, 0) for key, words in wording.ENDED.items()}
    return {
        **_spent_json(project.spent, "project"),
        "scope": shown_scope(f"profile:{profile_of(project.name)}"),
        "topics": {"opened": project.opened, **ended, "waiting": project.waiting},
        "budget": [
            {
                "unit": each.unit,
                "window": each.window,
                "limit": each.limit,
                "used": each.used,
                "remaining": each.left,
                "reset_at": timestamp(each.resets_at),
            }
            for each in project.budget
        ],
    }


def _task_json(task: TaskFacts) -> dict[str, Any]:
    return {
        "id": task.id,
        "text": task.text,
        "for": task.whose,
        "state": task.state,
        "reason": task.reason,
        "look_at": timestamp(task.look_at),
        "created_at": timestamp(task.created_at),
        "ended_at": timestamp(task.ended_at),
        "projected_tokens": task.projected_tokens,
        "actual_tokens": task.actual_tokens,
        "actual_usd": task.actual_usd,
    }


def _window_json(window: WindowPace) -> dict[str, Any]:
    return {
        "window": window.key,
        "scope": window.scope,
        "unit": window.unit,
        "limit": window.limit,
        "used": window.used,
        "at_least": window.at_least,
        "seen_at": timestamp(window.outdated_at),
        "reserved": window.reserved,
        "even": window.line,
        "authorized": window.authorized,
        "reset_at": timestamp(window.resets_at),
        "reset_confidence": window.certainty,
        "expected_by_role": dict(() if window.projection is None else window.projection.by_role),
        "expected": None if window.band is None else dict(zip(("low", "middle", "high"), window.band, strict=True)),
    }
