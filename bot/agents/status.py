"""The current view of an agent, combined from its row in the register and its supervisor's last reports.

No agent host is asked, so a view of a thousand agents is immediate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from bot.agents.supervisor import AgentSupervisor
from bot.messaging.fleet_port import AgentView
from bot.read_models.fleet import LimitWait
from bot.text import markdown
from database.queries.agents.agents import AgentRow
from database.queries.agents.auto_resume import Continuation
from database.queries.chat.approvals import Approval
from fleet.control.agent_host_client import HostStatus
from fleet.journal.events import Closing
from fleet.roster.drift import ENDED
from fleet.supervision import liveness, restart_policy
from fleet.supervision.liveness import Liveness
from fleet.supervision.restart_policy import RestartRecord


def view_of(
    row: AgentRow,
    supervisor: AgentSupervisor | None,
    *,
    now: float,
    waiting: int = 0,
    asks: Approval | None = None,
    stopped: Continuation | None = None,
    held: tuple[int, float | None] | None = None,
    fresh_s: float = liveness.FRESH_S,
    redact: Callable[[str], str] = str,
) -> AgentView:
    """Return the current view of an agent.

    Args:
        row: the agent's row in the register.
        supervisor: the agent's supervisor, if there is one.
        now: seconds since the epoch.
        waiting: the number of messages that have not reached its agent host.
        asks: the permission request that has waited longest.
        stopped: the automatic resume of an agent that a limit stopped.
        held: the number of its own tasks that the pace holds back, and when they are checked again.
        fresh_s: seconds for which a report of the agent counts as fresh.
        redact: masks secrets, before anything is cut.
    """
    seen = supervisor.seen if supervisor is not None else None
    status = seen.status if seen is not None else None
    verdict = _verdict(row, supervisor, now, fresh_s)
    verdict = replace(verdict, detail=verdict.detail and redact(verdict.detail))
    activity, since = _activity(verdict.state, supervisor, status, asks, redact)
    wait = None
    if activity is None and stopped is not None:
        why: Literal["ahead", "limit"] = "ahead" if stopped.is_ahead else "limit"
        wait = LimitWait(why=why, until=stopped.resume_at, scope=stopped.scope)
    elif activity is None and held is not None and verdict.state == "idle":
        wait = LimitWait(why="pace", tasks=held[0], until=held[1])
    queued = waiting + (status.queued if status is not None else 0)
    tries_at = (
        restart_policy.due(RestartRecord.from_json(row.revival), now)
        if row.wanted == "running" and verdict.state in ENDED
        else None
    )
    return AgentView(
        row=row,
        liveness=verdict,
        status=status,
        activity=activity,
        activity_since=since,
        wait=wait,
        queued=queued,
        tries_at=tries_at,
    )


def view_from_afar(row: AgentRow, *, waiting: int = 0) -> AgentView:
    """Return the view of an agent of another installation.

    If it was to run, its state is unknown; otherwise its last recorded state holds.
    """
    state = row.state if row.wanted != "running" and row.state in {*ENDED, "frozen"} else "unknown"
    detail = f"it is on {markdown.one_line(row.host)}, whose Muster does not lead now"
    verdict = Liveness(state=state, evidence="none", evidence_at=None, detail=detail)
    return AgentView(row=row, liveness=verdict, status=None, activity=None, queued=waiting, elsewhere=True)


def _activity(
    state: str,
    supervisor: AgentSupervisor | None,
    status: HostStatus | None,
    asks: Approval | None,
    redact: Callable[[str], str],
) -> tuple[str | None, float | None]:
    if state not in {"working", "waiting"} or status is None:
        return None, None
    if status.terminal_by is not None:
        return redact(f"handed over to {status.terminal_by}"), status.terminal_since
    if state == "waiting" and asks is not None:
        return f"asks: {markdown.gist(asks.title, redact, 60)}", asks.asked_at
    running = supervisor.running if supervisor is not None else None
    if running is not None:
        return markdown.gist(running.title, redact, 60), running.at or status.turn_started_at
    return status.activity and redact(status.activity), status.turn_started_at


def _verdict(row: AgentRow, supervisor: AgentSupervisor | None, now: float, fresh_s: float) -> Liveness:
    seen = supervisor.seen if supervisor is not None else None
    last = supervisor.last if supervisor is not None else None
    closed = last is not None and isinstance(last.event, Closing) and row.state in {"stopped", "failed", "frozen"}
    verdict = liveness.judge(
        seen.status if seen is not None else None,
        seen_at=supervisor.heard_at if supervisor is not None else None,
        host_runs=supervisor.host_runs if supervisor is not None else None,
        last_state=row.state,
        last_change=last.at if last is not None else row.stopped_at or row.started_at,
        unanswered_at=supervisor.unanswered_at if supervisor is not None else None,
        closed_at=last.at if last is not None and closed else None,
        now=now,
        fresh_s=fresh_s,
    )
    return verdict if verdict.detail is not None else replace(verdict, detail=row.detail)
