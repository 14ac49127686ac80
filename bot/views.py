"""How agents look: in a room (a table that fits a phone), and to programs (the shapes that ``--json`` prints). Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bot import rendering
from bot.timestamps import timestamp
from fleet import events
from fleet.runtimes import RUNTIMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bot.looking import AgentView
    from fleet.events import Entry

_STATE_MARKS = {
    "starting": "🔵",
    "idle": "🟢",
    "working": "⚙️",
    "waiting": "🔐",
    "stopping": "⏹",
    "frozen": "❄️",
    "stopped": "⚪",
    "failed": "🔴",
    "unknown": "❓",
}


def is_up(view: AgentView) -> bool:
    """Whether the agent runs, should run, or ended otherwise than by being stopped."""
    return view.row.wanted == "running" or view.liveness.state != "stopped"


def as_json(view: AgentView, now: float) -> dict[str, Any]:
    row, status = view.row, view.status
    return {
        "name": row.name,
        "role": row.role,
        "runtime": row.runtime,
        "model": row.model,
        "state": view.liveness.state,
        "evidence": view.liveness.evidence,
        "evidence_age_s": None if view.liveness.evidence_age_s is None else round(view.liveness.evidence_age_s, 3),
        "activity": view.activity,
        "session_id": status.session if status is not None else None,
        "turns": status.turns if status is not None else None,
        "queued": view.queued,
        "sandbox": row.sandbox,
        "workspace": row.workspace,
        "detail": view.liveness.detail or row.detail,
        "host": row.host,
        "tenant_id": row.tenant_id,
        "started_at": timestamp(row.started_at),
        "tokens_today": None,
    }


def how_known(view: AgentView) -> str:
    """``protocol, 3 s ago``."""
    age = view.liveness.evidence_age_s
    return view.liveness.evidence if age is None else f"{view.liveness.evidence}, {rendering.span(age)} ago"


def fleet_text(views: Sequence[AgentView], *, hidden: int, now: float) -> str:
    """The table of `ps`, and what must be said about agents that are not isolated."""
    if not views:
        more = f" {hidden} are stopped: `ps --all`." if hidden else " `launch NAME` starts one."
        return f"No agent runs.{more}"
    rows = [
        (
            view.row.name,
            f"{_STATE_MARKS.get(view.liveness.state, '')} {view.liveness.state}",
            how_known(view),
            _doing(view),
        )
        for view in views
    ]
    lines = [rendering.table(("agent", "state", "known by", "doing"), rows)]
    loose = [view.row.name for view in views if view.row.sandbox == "none" and view.liveness.state != "stopped"]
    if loose:
        lines.append(f"\n⚠️ Without a sandbox, and so able to give Muster orders as you: {', '.join(loose)}.")
    bold = [view.row.name for view in views if view.row.runtime in RUNTIMES and not RUNTIMES[view.row.runtime].asks]
    if bold:
        lines.append(f"\n⚠️ Never asking for permission, since their runtime cannot: {', '.join(bold)}.")
    if hidden:
        lines.append(f"\n{hidden} stopped: `ps --all`.")
    return "\n".join(lines)


def _doing(view: AgentView) -> str:
    words = []
    if view.activity:
        words.append(rendering.one_line(view.activity, 40))
    elif view.liveness.state in {"failed", "unknown"}:
        words.append(rendering.one_line(view.liveness.detail or view.row.detail or "", 60))
    if view.queued:
        words.append(f"{view.queued} queued")
    return ", ".join(word for word in words if word) or "-"


def agent_text(view: AgentView, now: float) -> str:
    """One agent, as `watch` keeps it up to date."""
    row, status = view.row, view.status
    lines = [
        f"{_STATE_MARKS.get(view.liveness.state, '')} **{row.name}** {view.liveness.state} ({how_known(view)})",
        " · ".join(word for word in (row.role, row.runtime, row.model, f"sandbox {row.sandbox}") if word),
        _doing(view),
    ]
    if status is not None and status.turn_started_at is not None:
        lines.append(f"turn {status.turns}, for {rendering.span(now - status.turn_started_at)}")
    return "  \n".join(lines)


def journal_text(entries: Sequence[Entry]) -> str:
    """The last of a journal, a line per entry."""
    if not entries:
        return "The journal is empty."
    lines = []
    for entry in entries:
        clock = datetime.fromtimestamp(entry.at, UTC)
        lines.append(f"{clock:%H:%M:%S} {_kind(entry)}  {rendering.one_line(_gist(entry.event), 100)}")
    return rendering.code_block("\n".join(lines)) + "\n\nTimes are UTC."


def _kind(entry: Entry) -> str:
    return entry.event.kind if isinstance(entry.event, events.Unknown) else entry.event.KIND


def _gist(event: events.Event) -> str:
    match event:
        case events.TextChunk(text=text) | events.ThoughtChunk(text=text) | events.MessageQueued(text=text):
            return text
        case events.ToolCall():
            return " ".join(word for word in (event.title, event.status) if word)
        case events.PermissionAsked(title=title, request=request):
            return f"{request}: {title}"
        case events.PermissionAnswered(request=request, outcome=outcome):
            return f"{request}: {outcome}"
        case events.RuntimeFailed(reason=reason) | events.RuntimeDied(reason=reason) | events.Closing(reason=reason):
            return reason
        case events.RuntimeStarted(session=session):
            return session
        case events.TurnStarted(turn=turn) | events.TurnAccepted(turn=turn):
            return turn
        case events.TurnEnded(turn=turn, stop_reason=reason):
            return f"{turn}: {reason}"
        case _:
            return ""
