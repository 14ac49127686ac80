"""Loader of the facts of a report, from the register and this process. It makes no decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.config.reports import Kind
from bot.config.schema import Settings
from bot.messaging.fleet_port import AgentView
from bot.pacing import run_queue
from bot.pacing.window_series import gather_windows
from bot.read_models.tasks import TaskLine
from bot.reports import project_facts
from bot.reports.model import AgentFacts, Down, ReportFacts, TaskFacts
from bot.spending.limits_loader import largest_use, use_of
from bot.text import markdown
from budget.windows.calendar_days import midnight
from database.queries import tasks
from database.queries.operations import posted_reports
from database.queries.spending import usage_queries
from database.queries.tasks import Task
from fleet.supervision.liveness import STATES

#: Maximum number of agents, tasks and days that are named.
NAMED: Final = 12
_TEXT: Final = 60
#: Of a text, what is looked through for its beginning, characters.

#: Kinds of findings that mean that an agent was down; `DOWN` is the kind of the rows that record them.
MISSING: Final = frozenset({"silent", "failed", "stalled", "erring"})
DOWN: Final = "down"
#: Seconds for which an agent counts as down after the last sweep that found it so. Sweeps run each minute, and may
#: have to wait for a picture.
_SEEN_S: Final = 180.0


# --- which time it is about ----------------------------------------------------------------------------------------


def span_of(kind: Kind, at: float, zone: ZoneInfo, last: float | None = None) -> tuple[float, float]:
    """Return the period of a report that is due at `at`: its start, and its exclusive end.

    A daily report covers yesterday, or all days since the previous report. So a report after a weekend, or after missed
    reports, leaves no day out.

    Args:
        kind: the kind of the report.
        at: when the report is due.
        zone: the time zone of the midnights.
        last: when the previous report was due; None: there was none.
    """
    end = midnight(at, zone)
    if kind == "weekly":
        return midnight(at, zone, days=-7), end
    begin = midnight(at, zone, days=-1)
    if kind == "daily" and last is not None:
        begin = min(begin, max(midnight(last, zone), midnight(at, zone, days=-31)))
    return begin, end


# --- facts ---------------------------------------------------------------------------------------------------------


async def gather(services: AgentServices, kind: Kind, *, now: float, begin: float, end: float) -> ReportFacts:
    """Load the facts of a report.

    Args:
        services: the services to use.
        kind: the kind of the report; the facts include only what it needs.
        now: seconds since the epoch.
        begin: the start of the period for use and tasks.
        end: the exclusive end of this period.

    Raises:
        RegisterError: the register cannot be read.
    """
    zone: ZoneInfo = services.settings.timezone
    windows = await gather_windows(services, now, by_role=kind == "weekly")
    views: Sequence[AgentView] = await services.agents.view() if kind == "fleet" else ()
    left = await project_facts.budgets(services, windows)
    behind = services.egress_client.behind() if services.egress_client is not None else None
    async with services.store.read() as tx:
        facts = ReportFacts(kind=kind, now=now, zone=zone, begin=begin, end=end, behind=behind, windows=windows)
        if kind == "fleet":
            return await _with_fleet(tx, facts, views, known=services.egress_client is not None and behind is None)
        if kind == "budget":
            return facts
        facts = await _with_work(tx, facts, services.settings, services.redact)
        return replace(facts, projects=await project_facts.load(tx, services.settings.projects, left, begin, end))


async def _with_work(
    tx: AsyncConnection, facts: ReportFacts, settings: Settings, redact: Callable[[str], str]
) -> ReportFacts:
    """Add use and ended tasks of the period, waiting tasks and runs, and agents that were down."""
    by_agent = await usage_queries.groups(tx, ("agent",), facts.begin, facts.end)
    by_task = await usage_queries.groups(tx, ("task",), facts.begin, facts.end)
    by_day = await usage_queries.days(tx, facts.begin, facts.zone, until=facts.end) if facts.kind == "weekly" else {}
    waiting: list[Task | TaskLine] = [*await posted_reports.waiting_first(tx, limit=NAMED)]
    of_runs = [line for line in await run_queue.load(settings, tx, facts.now) if line.state == "queued"]
    waiting += of_runs[:NAMED]
    counts = await tasks.counts(tx)
    ended = await posted_reports.ended_last(tx, facts.begin, facts.end, limit=NAMED)
    downs = await _downs(tx, facts.begin, facts.end, facts.now)
    of_tasks = largest_use("task", {key[0]: sums for key, sums in by_task.items() if key[0]})
    texts = await posted_reports.texts(tx, [each.name for each in of_tasks[:NAMED]])
    return replace(
        facts,
        total=use_of("all", "", sum(by_agent.values(), usage_queries.NOTHING)),
        agents=largest_use("agent", {key[0] or "-": sums for key, sums in by_agent.items()}),
        tasks=of_tasks,
        days=[use_of("day", day, sums) for day, sums in by_day.items()],
        waiting=[_task(each, redact) for each in waiting],
        waiting_count=counts["queued"],
        waiting_runs=len(of_runs),
        ended=[_task(each, redact) for each in ended],
        ended_counts=sorted((await posted_reports.ended_counts(tx, facts.begin, facts.end)).items()),
        downs=downs,
        names=[(task_id, markdown.gist(text, redact, _TEXT)) for task_id, text in texts.items()],
    )


async def _with_fleet(
    tx: AsyncConnection, facts: ReportFacts, views: Sequence[AgentView], *, known: bool
) -> ReportFacts:
    """Add the state of every agent, with its use and its tasks since midnight."""
    today = midnight(facts.now, facts.zone)
    used = await usage_queries.groups(tx, ("agent",), today)
    done = await posted_reports.done_by(tx, today, facts.now + 1)
    fleet = [
        AgentFacts(
            name=view.row.name,
            role=view.row.role,
            state=view.liveness.state,
            evidence=view.liveness.evidence,
            evidence_at=view.liveness.evidence_at,
            tasks_done=done.get(view.row.name, 0),
            tokens=used.get((view.row.name,), usage_queries.NOTHING).tokens if known else None,
        )
        for view in sorted(views, key=lambda view: view.row.name)
    ]
    counted = Counter(each.state for each in fleet)
    order = {state: place for place, state in enumerate(STATES)}
    return replace(
        facts,
        fleet=fleet,
        fleet_count=len(fleet),
        fleet_states=sorted(counted.items(), key=lambda item: order.get(item[0], len(order))),
        downs=await _downs(tx, today, facts.now + 1, facts.now),
    )


async def _downs(tx: AsyncConnection, begin: float, end: float, now: float) -> list[Down]:
    """Return the agents that were down in this period, as recorded by the sweeps."""
    found = []
    for row in await posted_reports.of_kind(tx, DOWN):
        _, kind, agent, _, *cause = row.key.split("/", 4)
        lasted_until = row.posted_at
        if row.due_at < end and lasted_until >= begin:
            # Each sweep renews the row as long as the agent is down.
            until = None if lasted_until >= now - _SEEN_S else lasted_until
            since = max(row.due_at, begin)
            found.append(Down(agent=agent, kind=kind, since=since, until=until, cause="".join(cause)))
    return sorted(found, key=lambda each: (each.since, each.agent))


def _task(task: Task | TaskLine, redact: Callable[[str], str]) -> TaskFacts:
    return TaskFacts(
        id=task.id,
        text=markdown.gist(task.text, redact, _TEXT),
        whose=task.assigned or task.agent or task.role or "anyone",
        state=task.state,
        reason=None if task.reason is None else markdown.gist(task.reason, redact, 160),
        look_at=task.look_at,
        created_at=task.created_at,
        ended_at=task.ended_at,
        projected_tokens=task.projected_tokens,
        actual_tokens=task.actual_tokens,
        actual_usd=task.actual_usd,
    )
