"""Facts of a report about projects: what their topics used, how many began and ended, and what is left to spend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.services import AgentServices
from bot.config.projects import profile_of
from bot.read_models.limits import WindowPace
from bot.reports.model import BudgetLeft, ProjectFacts
from bot.spending.limit_lines import lines_of
from bot.spending.limits_loader import use_of
from budget.scope_names import PROJECT_PROFILE
from budget.windows.window_key import WindowKey
from database.queries.chat import topics
from database.queries.operations import posted_reports
from database.queries.spending import usage_queries


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectBudgets:
    """What is left of limits, by scope. `gather` loads them."""

    left: Mapping[str, Sequence[BudgetLeft]]

    def of(self, project: str) -> Sequence[BudgetLeft]:
        """Return what is left of a project's limits."""
        return self.left.get(_scope(project), ())


def _scope(project: str) -> str:
    return f"profile:{profile_of(project)}"


async def budgets(services: AgentServices, windows: Sequence[WindowPace]) -> ProjectBudgets:
    """Return what is left of the limits of all projects.

    Args:
        services: the services to use.
        windows: the windows of the report.
    """
    if not services.settings.projects:
        return ProjectBudgets(left={})
    # Only the egress counts the use of a limit that never resets.
    standing = None if services.egress_client is None else await services.egress_client.standing()
    left: dict[str, list[BudgetLeft]] = {}
    for scope, each in (*_windowed(windows), *_whole(standing, services.clock())):
        left.setdefault(scope, []).append(each)
    for project, block in services.settings.projects.items():
        known = {(each.unit, each.window) for each in left.get(_scope(project), ())}
        for limit in block.budget:
            if limit.window is None and (limit.unit, None) not in known:
                unknown = BudgetLeft(unit=limit.unit, window=None, limit=limit.amount, used=None, left=None)
                left.setdefault(_scope(project), []).append(unknown)
    return ProjectBudgets(left=left)


def _windowed(windows: Sequence[WindowPace]) -> Iterator[tuple[str, BudgetLeft]]:
    for each in windows:
        yield (
            each.scope,
            BudgetLeft(
                unit=each.unit,
                window=WindowKey.parse(each.key).window,
                limit=each.limit,
                used=each.used,
                left=each.remaining,
                resets_at=each.resets_at,
            ),
        )


def _whole(standing: Mapping[str, Any] | None, now: float) -> Iterator[tuple[str, BudgetLeft]]:
    """Yield the limits that never reset, as `budget` shows them."""
    for line in lines_of((), standing, {}, {}, now):
        if line.window is None and line.kind == "pool":
            left = line.remaining
            yield line.scope, BudgetLeft(unit=line.unit, window=None, limit=line.limit, used=line.used, left=left)


async def load(
    tx: AsyncConnection, known: Iterable[str], left: ProjectBudgets, begin: float, end: float
) -> Sequence[ProjectFacts]:
    """Return the facts about each project, those that used most first.

    A project that was removed is among them if its topics did anything in the period.

    Args:
        tx: the transaction.
        known: the projects in muster.yaml.
        left: what is left of their limits.
        begin: start of the period, in seconds since the epoch.
        end: its exclusive end.
    """
    used = await usage_queries.groups(tx, ("profile",), begin, end)
    spent = {
        profile.removeprefix(PROJECT_PROFILE): sums
        for (profile,), sums in used.items()
        if profile.startswith(PROJECT_PROFILE)
    }
    opened = await posted_reports.topics_opened(tx, begin, end)
    ended = await posted_reports.topics_ended(tx, begin, end)
    waiting = Counter(each.project for each in await topics.in_states(tx, topics.WAITING))
    names = {*known, *spent, *opened, *waiting, *(project for project, _ in ended)}
    found = [
        ProjectFacts(
            name=name,
            spent=use_of("project", name, spent.get(name, usage_queries.NOTHING)),
            opened=opened.get(name, 0),
            ended={outcome: count for (project, outcome), count in ended.items() if project == name},
            waiting=waiting[name],
            budget=left.of(name),
        )
        for name in names
    ]
    return sorted(found, key=lambda each: (-each.spent.tokens, each.name))
