"""The pages, in the order of their keys. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from bot.interfaces.tui.screens.table_page import PageShape
from bot.interfaces.tui.views import enforced, fleet, limits, lists, runs, waiting
from bot.interfaces.tui.widgets.text_pane import TextLine
from bot.read_models.audit import AuditModel
from bot.read_models.fleet import FleetModel
from bot.read_models.health import HealthModel
from bot.read_models.limits import LimitsModel
from bot.read_models.runs import RunsModel
from bot.read_models.tasks import TasksModel
from bot.read_models.waiting import WaitingModel

_M = TypeVar("_M")
_T = TypeVar("_T")


def _rows(kind: type[_M], items: Callable[[_M], tuple[_T, ...]]) -> Callable[[object], tuple[_T, ...]]:
    return lambda value: items(value) if isinstance(value, kind) else ()


def _said(kind: type[_M], notes: Callable[[_M, float], list[TextLine]]) -> Callable[[object, float], list[TextLine]]:
    return lambda value, now: notes(value, now) if isinstance(value, kind) else []


FLEET_PAGE: Final = PageShape(
    id="fleet",
    title="Fleet",
    document="fleet",
    table=fleet.FLEET,
    items=_rows(FleetModel, lambda model: model.agents),
    notes=_said(FleetModel, fleet.fleet_notes),
)
WAITING_PAGE: Final = PageShape(
    id="waiting",
    title="Waiting",
    document="waiting",
    table=waiting.WAITING,
    items=_rows(WaitingModel, waiting.waiting_items),
    text=lambda item, now, width: waiting.whole(item, now),
)
TASKS_PAGE: Final = PageShape(
    id="tasks",
    title="Tasks",
    document="tasks",
    table=lists.TASKS,
    items=_rows(TasksModel, lists.task_items),
    text=lambda item, now, width: lists.task_text(item, now),
)
LIMITS_PAGE: Final = PageShape(
    id="limits",
    title="Limits",
    document="limits",
    table=limits.LIMITS,
    items=_rows(LimitsModel, limits.limit_items),
    text=limits.limit_text,
    notes=_said(LimitsModel, limits.limit_notes),
)
ACCOUNTS_PAGE: Final = PageShape(
    id="accounts",
    title="Accounts",
    document="limits",
    table=limits.ACCOUNTS,
    items=_rows(LimitsModel, limits.account_items),
    text=lambda item, now, width: limits.account_text(item, now),
)
AUDIT_PAGE: Final = PageShape(
    id="audit",
    title="Audit",
    document="audit",
    table=lists.AUDIT,
    items=_rows(AuditModel, lists.audit_items),
    text=lambda item, now, width: lists.audit_text(item, now),
    before=lambda value: value.before if isinstance(value, AuditModel) else None,
)
HEALTH_PAGE: Final = PageShape(
    id="health",
    title="Health",
    document="health",
    table=lists.HEALTH,
    items=_rows(HealthModel, lists.health_items),
    text=lambda item, now, width: lists.health_text(item, now),
)
ENFORCED_PAGE: Final = PageShape(
    id="enforced",
    title="Log",
    document="limits",
    table=enforced.ENFORCED,
    items=_rows(LimitsModel, enforced.enforced_items),
    text=lambda item, now, width: enforced.enforced_text(item, now),
)
RUNS_PAGE: Final = PageShape(
    id="runs",
    title="Runs",
    document="runs",
    table=runs.RUNS,
    items=_rows(RunsModel, runs.run_items),
    text=lambda item, now, width: runs.item_text(item, now),
)
#: In the order of their keys.
ALL: Final[tuple[PageShape[Any], ...]] = (
    FLEET_PAGE,
    WAITING_PAGE,
    TASKS_PAGE,
    LIMITS_PAGE,
    ACCOUNTS_PAGE,
    AUDIT_PAGE,
    HEALTH_PAGE,
    ENFORCED_PAGE,
    RUNS_PAGE,
)
