"""Tasks, the audit log and health as tables, each with the whole text of a row."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from bot.interfaces.tui.views.fleet import ago
from bot.interfaces.tui.widgets.row_table import Cell, TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import Look, TextLine
from bot.read_models.audit import AuditEntry, AuditModel
from bot.read_models.health import HealthModel, JobHealth, PartHealth
from bot.read_models.tasks import TaskLine, TasksModel
from bot.text.markdown import span
from budget import amounts

_TASK_LOOKS: Final[dict[str, Look]] = {"running": "good", "dispatched": "accent", "waiting": "warn", "failed": "bad",
                                       "done": "dim", "cancelled": "dim"}  # fmt: skip
_OUTCOMES: Final[dict[str, Look]] = {"refused": "warn", "failed": "bad", "expired": "warn", "lapsed": "dim"}


def moment(at: float | None) -> str:
    """Return a time of day with its date; ``-`` if there is none."""
    if at is None:
        return "-"
    try:
        return time.strftime("%d %b %H:%M:%S", time.localtime(at))
    except (ValueError, OverflowError, OSError):
        return "?"


# --- tasks ------------------------------------------------------------------------------------------------------


def task_items(model: TasksModel) -> tuple[TaskLine, ...]:
    """Return the open tasks as they will begin, then those that ended."""
    return (*model.open, *model.ended)


def _cost(task: TaskLine) -> Cell:
    if task.actual_tokens is not None:
        return amounts.tokens(task.actual_tokens), ""
    if task.used_tokens is not None:
        return amounts.tokens(task.used_tokens), "accent"
    return ("", "") if task.projected_tokens is None else (f"~{amounts.tokens(task.projected_tokens)}", "dim")


def _age(task: TaskLine, now: float) -> Cell:
    return ago(task.ended_at or task.started_at or task.created_at, now), "dim"


TASKS: Final = TableShape[TaskLine](
    columns=(
        TableColumn(title="TASK", width=8, order=lambda t: (t.id,), cell=lambda t, _: (t.id, "")),
        TableColumn(title="STATE", width=10, order=lambda t: (t.state, t.created_at),
                    cell=lambda t, _: (t.state, _TASK_LOOKS.get(t.state, ""))),
        TableColumn(title="AGENT", width=10, order=lambda t: (t.assigned or t.agent or t.role or "",),
                    cell=lambda t, _: (t.assigned or t.agent or (f"({t.role})" if t.role else ""), "")),
        TableColumn(title="TEXT", width=16, grows=4, cell=lambda t, _: (t.text, "")),
        TableColumn(title="WHY IT WAITS", width=14, grows=2, rank=2,
                    cell=lambda t, _: (t.reason or t.why or "", "warn")),
        TableColumn(title="URGENCY", width=7, rank=3, order=lambda t: (t.urgency,), cell=lambda t, _: (t.urgency, "")),
        TableColumn(title="TOKENS", width=6, right=True, rank=1, cell=lambda t, _: _cost(t),
                    order=lambda t: (-(t.actual_tokens or t.projected_tokens or 0.0),)),
        TableColumn(title="AGE", width=6, right=True, order=lambda t: (-t.created_at,), cell=_age),
    ),
    key=lambda t: t.id,
    words=lambda t: " ".join(filter(None, (t.id, t.text, t.state, t.assigned, t.agent, t.role, t.operator))).casefold(),
    empty="No task. :task add TEXT queues one.",
)  # fmt: skip


def task_text(task: TaskLine, now: float) -> list[TextLine]:
    """Return a task in full."""
    who = task.assigned or task.agent or task.role or "any agent"
    lines = [TextLine(f"{task.id} · {task.state} · {who} · {task.urgency} · from {task.operator}", "strong")]
    lines.append(TextLine(task.text))
    if task.reason or task.why:
        look = "" if task.look_at is None else f" It is looked at again in {span(max(0.0, task.look_at - now))}."
        lines.append(TextLine(f"{task.reason or task.why}{look}", "warn"))
    if task.summary:
        lines.append(TextLine(f"Result: {task.summary}"))
    dollars = f" · {amounts.money(task.actual_usd)}" if task.actual_usd is not None else ""
    attempt = "round" if task.kind == "issue" else "attempt"
    lines.append(TextLine(f"{attempt} {task.attempt} · created {ago(task.created_at, now)} ago{dollars}", "dim"))
    if task.kind in ("issue", "run") and task.ended_at is None:
        waits = f":runs now {task.id} begins it, " if task.state == "queued" else ""
        lines.append(TextLine(f"{waits}:runs stop {task.id} ends it or takes it off the queue.", "accent"))
    return lines


# --- audit ------------------------------------------------------------------------------------------------------


def audit_items(model: AuditModel) -> tuple[AuditEntry, ...]:
    """Return the page, newest first."""
    return model.entries


AUDIT: Final = TableShape[AuditEntry](
    columns=(
        TableColumn(title="WHEN", width=15, order=lambda e: (e.at,), cell=lambda e, _: (moment(e.at), "dim")),
        TableColumn(title="WHO", width=14, grows=1, order=lambda e: (e.identity,), cell=lambda e, _: (e.identity, "")),
        TableColumn(title="FROM", width=8, rank=2, order=lambda e: (e.door,),
                    cell=lambda e, _: (e.connector or e.door, "dim")),
        TableColumn(title="ACTION", width=12, order=lambda e: (e.action,), cell=lambda e, _: (e.action, "")),
        TableColumn(title="ARGUMENTS", width=14, grows=3, rank=1, cell=lambda e, _: (e.arguments, "")),
        TableColumn(title="OUTCOME", width=8, order=lambda e: (e.outcome,),
                    cell=lambda e, _: (e.outcome, _OUTCOMES.get(e.outcome, ""))),
    ),
    key=lambda e: str(e.seq),
    words=lambda e: f"{e.identity} {e.action} {e.arguments} {e.outcome} {e.door} {e.detail or ''}".casefold(),
    empty="Nothing was done yet.",
)  # fmt: skip


def audit_text(entry: AuditEntry, now: float) -> list[TextLine]:
    """Return an entry in full."""
    through = f" (by {entry.through})" if entry.through else ""
    lines = [TextLine(f"{moment(entry.at)} · {entry.identity}{through} · {entry.outcome}", "strong")]
    lines.append(TextLine(f"{entry.action} {entry.arguments}"))
    if entry.detail:
        lines.append(TextLine(entry.detail, "warn"))
    return lines


# --- health -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRow:
    """A part, a job, or a count."""

    what: str
    name: str
    state: str
    look: Look
    detail: str
    seen_at: float | None = None


def health_items(model: HealthModel) -> tuple[HealthRow, ...]:
    """Return Muster itself, its parts and its jobs."""
    look: Look = "good" if model.status == "ok" else "warn" if model.status == "degraded" else "bad"
    counts = ", ".join(f"{count} {state}" for state, count in (model.agents or {}).items() if count)
    agents = "unknown while the register is away" if model.agents is None else counts or "no agents"
    up = HealthRow(what="muster", name=model.version, state=model.status, look=look,
                   detail=f"up since {moment(model.started_at)}; {agents}")  # fmt: skip
    others = [
        HealthRow(what="standby", name=each.owner, state="waits", look="good",
                  detail=f"leads once this orchestrator ends; since {moment(each.since)}")
        for each in model.standbys or ()
    ]  # fmt: skip
    return (up, *others, *map(_part, model.parts), *map(_job, model.jobs))


def _part(part: PartHealth) -> HealthRow:
    look: Look = "good" if part.state == "up" else "bad" if part.state == "down" else "warn"
    return HealthRow(what=part.kind, name=part.name, state=part.state, look=look, detail=part.detail,
                     seen_at=part.seen_at)  # fmt: skip


def _job(job: JobHealth) -> HealthRow:
    state, look = (
        ("runs", "accent") if job.running_since is not None else ("failed", "bad") if job.last_error else ("ok", "")
    )
    parts = [job.last_error or "", f"next {moment(job.next_run)}" if job.next_run is not None else ""]
    parts += [f"{job.missed} missed" if job.missed else "", job.schedule or ""]
    return HealthRow(what="job", name=job.name, state=state, look=_look(look), detail=" · ".join(filter(None, parts)),
                     seen_at=job.last_run)  # fmt: skip


def _look(look: str) -> Look:
    looks: dict[str, Look] = {"warn": "warn", "good": "good", "bad": "bad", "accent": "accent"}
    return looks.get(look, "")


HEALTH: Final = TableShape[HealthRow](
    columns=(
        TableColumn(title="WHAT", width=10, order=lambda h: (h.what, h.name), cell=lambda h, _: (h.what, "dim")),
        TableColumn(title="NAME", width=16, grows=1, order=lambda h: (h.name,), cell=lambda h, _: (h.name, "")),
        TableColumn(title="STATE", width=9, order=lambda h: (h.state,), cell=lambda h, _: (h.state, h.look)),
        TableColumn(title="DETAIL", width=20, grows=4, cell=lambda h, _: (h.detail, "")),
        TableColumn(title="SEEN", width=7, right=True, rank=1,
                    cell=lambda h, now: ("" if h.seen_at is None else ago(h.seen_at, now), "dim")),
    ),
    key=lambda h: f"{h.what} {h.name}",
    words=lambda h: f"{h.what} {h.name} {h.state} {h.detail}".casefold(),
)  # fmt: skip


def health_text(row: HealthRow, now: float) -> list[TextLine]:
    """Return a row in full."""
    return [TextLine(f"{row.what} {row.name}: {row.state}", "strong"), TextLine(row.detail)]
