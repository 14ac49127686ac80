"""Formatting of agents: as a table that fits a phone, and as the JSON that ``--json`` prints. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.messaging.fleet_port import AgentView
from bot.setup.agent_readiness import BlockedAgent, in_words
from bot.text import markdown
from bot.text.markdown import some
from bot.text.timestamps import timestamp
from budget import amounts
from fleet.journal import events
from fleet.journal.events import JournalEntry
from fleet.runtimes import RUNTIMES
from fleet.supervision.health_findings import HealthFinding

_CHUNKS = (events.TextChunk, events.ThoughtChunk)
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


#: Names in `--json` for the differences between the roster, the register and the running agents.
_DRIFT = {
    "missing": "not_running", "unrostered": "not_in_roster", "stray": "not_in_register", "changed": "changed",
}  # fmt: skip
#: The keys of an agent in JSON.
_SHAPE = (
    "name", "alias", "role", "runtime", "model", "model_answering", "state", "evidence", "evidence_age_s", "activity",
    "activity_s", "session_id", "turns", "queued", "sandbox", "workspace", "detail", "host", "tenant_id", "started_at",
    "tries_again_s", "tokens_today", "drift", "elsewhere",
    "accounts",
)  # fmt: skip
#: Maximum number of characters of an agent's activity in the table.
_CELL = 30
#: Maximum number of characters of the reason why agents could not start.
_REASON = 500
#: Maximum number of agents in a table of `ps`; those that need attention come first.
_ROWS = 30
#: Number of agents from which on `ps` starts with a count per state.
_COUNTED = 10
#: States in the order in which they need attention.
_URGENCY = {
    state: place
    for place, state in enumerate(
        ("waiting", "unknown", "failed", "starting", "working", "stopping", "idle", "frozen", "stopped")
    )
}


def is_up(view: AgentView) -> bool:
    """Return whether the agent runs, should run, or ended without being stopped."""
    return view.row.wanted == "running" or view.liveness.state != "stopped"


def as_json(
    view: AgentView,
    now: float,
    *,
    unrostered: bool = False,
    changed: bool = False,
    alias: str | None = None,
    tokens_today: int | None = None,
    accounts: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    row, status = view.row, view.status
    return {
        "name": row.name,
        "alias": alias,
        "role": row.role,
        "runtime": row.runtime,
        "model": row.model,
        "model_answering": row.model_answering,
        "state": view.liveness.state,
        "evidence": view.liveness.evidence,
        "evidence_age_s": _age(view.liveness.evidence_at, now),
        "activity": view.activity,
        "activity_s": _age(view.activity_since, now),
        "session_id": status.session if status is not None else None,
        "turns": status.turns if status is not None else None,
        "queued": view.queued,
        "sandbox": row.sandbox,
        "workspace": row.workspace,
        "detail": _detail(view, now),
        "host": row.host,
        "tenant_id": row.tenant_id,
        "started_at": timestamp(row.started_at),
        "tries_again_s": None if view.tries_at is None else round(max(0.0, view.tries_at - now), 3),
        "tokens_today": tokens_today,
        "drift": _DRIFT["unrostered"] if unrostered else _DRIFT["changed"] if changed else None,
        "elsewhere": view.elsewhere,
        "accounts": dict(accounts),
    }


def drift_as_json(finding: HealthFinding) -> dict[str, Any]:
    """Return the JSON of an agent that is missing from the register, and only in the roster or only running."""
    stray = finding.kind == "stray"
    known: dict[str, Any] = {
        "name": finding.agent,
        "state": "unknown" if stray else "stopped",
        "evidence": "process" if stray else "none",
        "queued": 0,
        "drift": _DRIFT[finding.kind],
        "elsewhere": False,
        "accounts": {},
    }
    return {name: known.get(name) for name in _SHAPE}


def blocked_as_json(agent: BlockedAgent) -> dict[str, Any]:
    """Return the JSON of an agent of the roster that could not start."""
    known: dict[str, Any] = {
        "name": agent.name,
        "state": "failed",
        "evidence": "none",
        "queued": 0,
        "detail": agent.reason,
        "drift": _DRIFT["missing"],
        "elsewhere": False,
        "accounts": {},
    }
    return {name: known.get(name) for name in _SHAPE}


def named(name: str, alias: str | None) -> str:
    """Return an agent's name for people: the name that commands take, and its alias."""
    return name if alias is None else f"{name} ({alias})"


def how_known(view: AgentView, now: float) -> str:
    """Return the evidence and its age, such as ``protocol, 3 s ago``."""
    at = view.liveness.evidence_at
    return view.liveness.evidence if at is None else f"{view.liveness.evidence}, {markdown.span(now - at)} ago"


def _detail(view: AgentView, now: float) -> str | None:
    """Return what else is known of the agent, such as ``the runtime has not answered for 40 s``."""
    since = view.liveness.detail_since
    lasting = "" if since is None else f" for {markdown.span(now - since)}"
    return f"{view.liveness.detail}{lasting}" if view.liveness.detail else view.row.detail


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


def fleet_text(
    views: Sequence[AgentView],
    *,
    hidden: int,
    now: float,
    everybody: bool = False,
    drift: Sequence[HealthFinding] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
    unconfined: Collection[str] = ("none",),
    used: Mapping[str, int] | None = None,
    blocked: Sequence[BlockedAgent] = (),
) -> str:
    """Return the table of `ps`, with warnings about agents that are not isolated.

    Args:
        views: the agents to show.
        hidden: the number of stopped agents that are not shown.
        now: seconds since the epoch.
        everybody: show all agents, regardless of the table's length.
        drift: differences between the roster, the register and the running agents.
        aliases: aliases by agent name.
        unconfined: the sandbox profiles without isolation.
        used: today's tokens by agent name, or None if unknown.
        blocked: the agents of the roster that could not start.
    """
    apart = "".join(f"\n{line}" for line in (*_unable(blocked), *_apart(drift)))
    if not views:
        listed, start = command_line("ps --all"), command_line("launch NAME")
        more = f"{hidden:,} are stopped: {listed}." if hidden else "" if blocked else f"{start} starts one."
        return f"No agent runs. {more}".rstrip() + (f"\n{apart}" if apart else "")
    shown = views
    if len(views) > _ROWS and not everybody:
        shown = sorted(views, key=lambda view: (_URGENCY.get(view.liveness.state, 0), view.row.name))[:_ROWS]
    lines = []
    if len(views) >= _COUNTED:
        counted = Counter(view.liveness.state for view in views)
        states = sorted(counted, key=lambda state: _URGENCY.get(state, 0))
        counts = ", ".join(f"{_STATE_MARKS.get(state, '')} {counted[state]:,} {state}" for state in states)
        lines.append(f"{len(views):,} agents: {counts}.\n")
    lines.append(
        markdown.table(
            ("agent", "state", "doing", *(() if used is None else ("tokens today",))),
            [(*_row(view, now, aliases.get(view.row.name)), *_tokens(view, used)) for view in shown],
        )
    )
    if len(views) > len(shown):
        lines.append(f"\n{len(views) - len(shown):,} more run: {command_line('ps --all')}.")
    loose = [view.row.name for view in views if view.row.sandbox in unconfined and view.liveness.state != "stopped"]
    if loose:
        lines.append(f"\n⚠️ Without a sandbox, and so able to give Muster orders as you: {some(loose)}.")
    bold = [view.row.name for view in views if view.row.runtime in RUNTIMES and not RUNTIMES[view.row.runtime].asks]
    if bold:
        lines.append(f"\n⚠️ Never asking for permission, since their runtime cannot: {some(bold)}.")
    if swapped := [view.row for view in views if view.row.model_answering]:
        whose = some([f"{row.name} ({row.model_answering} for {row.model})" for row in swapped])
        lines.append(f"\n⚠️ Another model answers than was asked for: {markdown.one_line(whose, 600)}.")
    if hidden:
        lines.append(f"\n{hidden:,} stopped: {command_line('ps --all')}.")
    return "\n".join(lines) + apart


def _tokens(view: AgentView, used: Mapping[str, int] | None) -> tuple[str, ...]:
    """Return the cell with the tokens that the agent used today; no cell if they are unknown."""
    return () if used is None else (amounts.tokens(used.get(view.row.name, 0)),)


def _row(view: AgentView, now: float, alias: str | None) -> tuple[str, str, str]:
    """Return the agent in three short cells that fit a phone."""
    at = view.liveness.evidence_at
    known = view.liveness.evidence if at is None else f"{view.liveness.evidence}, {markdown.span(now - at)}"
    state = view.liveness.state
    return named(view.row.name, alias), f"{_STATE_MARKS.get(state, '')} {state} ({known})", _doing(view, now, _CELL)


def _apart(drift: Sequence[HealthFinding]) -> Iterator[str]:
    told = {
        "missing": f"📋 In the roster, and never started: {{}}. {command_line('launch NAME')} starts one.",
        "unrostered": f"📋 Running, and not in the roster: {{}}. {command_line('stop NAME')} stops one.",
        "changed": f"✏️ The roster has changed: {{}}. {command_line('roster apply')} does it.",
        "stray": f"👻 Running, and unknown to the register: {{}}. {command_line('launch NAME')} takes one over.",
    }
    for kind, sentence in told.items():
        if names := [finding.agent for finding in drift if finding.kind == kind]:
            yield f"\n{sentence.format(some(names))}"


def _unable(blocked: Sequence[BlockedAgent]) -> Iterator[str]:
    for line in in_words(blocked):
        yield f"\n🔴 {markdown.one_line(line, _REASON)}"


def _doing(view: AgentView, now: float, width: int) -> str:
    words = []
    if view.activity:
        lasting = f", {markdown.span(now - view.activity_since)}" if view.activity_since is not None else ""
        words.append(markdown.one_line(view.activity, width) + lasting)
    elif view.tries_at is not None:
        words.append(f"tries again in {markdown.span(view.tries_at - now)}")
        words.append(markdown.one_line(_detail(view, now) or "", 60))
    elif view.liveness.state in {"failed", "unknown"}:
        words.append(markdown.one_line(_detail(view, now) or "", 60))
    if view.queued:
        words.append(f"{view.queued} queued")
    return ", ".join(word for word in words if word) or "-"


def agent_text(
    view: AgentView, now: float, alias: str | None = None, accounts: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return one agent as `watch` shows it; `accounts` are its accounts by provider."""
    row, status = view.row, view.status
    lines = [
        f"{_STATE_MARKS.get(view.liveness.state, '')} **{named(row.name, alias)}** {view.liveness.state} "
        f"({how_known(view, now)})",
        " · ".join(
            word
            for word in (
                row.role,
                row.runtime,
                row.model,
                f"⚠️ {row.model_answering} answers" if row.model_answering else None,
                f"sandbox {row.sandbox}",
                *(f"account {name}" for _, name in sorted(accounts.items())),
            )
            if word
        ),
        _doing(view, now, 60),
    ]
    if status is not None and status.turn_started_at is not None:
        lines.append(f"turn {status.turns}, for {markdown.span(now - status.turn_started_at)}")
    return "  \n".join(lines)


def unsplit(entries: Sequence[JournalEntry], redact: Callable[[str], str]) -> list[JournalEntry]:
    """Merge the pieces of a secret that a runtime split, and mask it. Entries without a secret are not changed."""
    shown: list[JournalEntry] = []
    for kind, run in groupby(entries, key=lambda entry: type(entry.event)):
        said = list(run)
        if kind in _CHUNKS:
            texts = [_gist(entry.event) for entry in said]
            whole = redact("".join(texts))
            if whole != "".join(map(redact, texts)):
                said = [_with_text(entry, whole if entry is said[0] else "") for entry in said]
        shown += said
    return shown


def _with_text(entry: JournalEntry, text: str) -> JournalEntry:
    event = entry.event
    return replace(entry, event=replace(event, text=text)) if isinstance(event, _CHUNKS) else entry


def journal_text(entries: Sequence[JournalEntry], zone: ZoneInfo, redact: Callable[[str], str]) -> str:
    """Return the end of a journal, one line per entry, with times in this zone. Secrets are masked before the cut."""
    if not entries:
        return "The journal is empty."
    lines = []
    for entry in entries:
        clock = datetime.fromtimestamp(entry.at, zone)
        said = markdown.gist(_gist(entry.event), redact, _room(entry.event))
        lines.append(f"{clock:%H:%M:%S} {_kind(entry)}  {said}")
    return markdown.code_block("\n".join(lines)) + f"\n\nTimes are in {zone.key}."


def _room(event: events.Event) -> int:
    """Return the number of characters shown of an entry; failures get more, because people look for them."""
    return 300 if isinstance(event, events.TurnEnded | events.RuntimeFailed | events.RuntimeDied) else 100


def _kind(entry: JournalEntry) -> str:
    return entry.event.kind if isinstance(entry.event, events.Unknown) else entry.event.KIND


def _gist(event: events.Event) -> str:
    match event:
        case events.TextChunk(text=text) | events.ThoughtChunk(text=text) | events.MessageQueued(text=text):
            return text
        case events.ToolCall():
            return " ".join(word for word in (event.title, event.status) if word)
        case events.PermissionAsked(title=title, request=request):
            return f"{request}: {title}"
        case events.PermissionAnswered(rule=str(rule), outcome=outcome, title=title):
            return f"{'denied' if outcome == 'denied' else 'allowed'} by rule {rule}: {title}"
        case events.PermissionAnswered(request=request, outcome=outcome):
            return f"{request}: {outcome}"
        case events.RuntimeFailed(reason=reason) | events.RuntimeDied(reason=reason) | events.Closing(reason=reason):
            return reason
        case events.RuntimeStarted(session=session):
            return session
        case events.TurnStarted(turn=turn) | events.TurnAccepted(turn=turn):
            return turn
        case events.TurnEnded(turn=turn, stop_reason=reason, detail=detail):
            return f"{turn}: {reason}" + (f": {detail}" if detail else "")
        case _:
            return ""
