"""Formatting of agents: as a table that fits a phone, and as the JSON that ``--json`` prints. Pure.

It imports nothing heavy, so that the fleet can be shown without the orchestrator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.read_models.fleet import AgentGate, FleetAgent, FleetModel, GateClosure, LimitWait
from bot.setup.blocked_agents import in_words
from bot.text import markdown
from bot.text.markdown import some
from bot.text.timestamps import timestamp
from budget import amounts
from fleet.journal import events
from fleet.journal.events import JournalEntry

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


#: The keys of an agent in JSON.
_SHAPE = (
    "name", "alias", "role", "runtime", "model", "model_answering", "state", "evidence", "evidence_age_s", "activity",
    "activity_s", "session_id", "turns", "queued", "sandbox", "unconfined", "never_asks", "workspace", "detail", "host",
    "tenant_id", "started_at", "tries_again_s", "tokens_today", "gate", "drift", "elsewhere", "run", "color",
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


def shown(fleet: FleetModel, *, everybody: bool) -> list[FleetAgent]:
    """Return the agents that `ps` shows: those that are up, or all."""
    return [agent for agent in fleet.agents if everybody or agent.is_up]


# --- JSON --------------------------------------------------------------------------------------------------------


def fleet_json(fleet: FleetModel, now: float, *, everybody: bool = False) -> list[dict[str, Any]]:
    """Return the agents that `ps` shows, and then those that are missing from the register, with the same keys."""
    missing = {name: {"state": "stopped", "evidence": "none", "drift": "not_running"} for name in fleet.missing}
    strays = {name: {"state": "unknown", "evidence": "process", "drift": "not_in_register"} for name in fleet.strays}
    apart = missing | strays
    return [
        *(agent_json(agent, now) for agent in shown(fleet, everybody=everybody)),
        *(
            _apart_json(each.name, state="failed", evidence="none", detail=each.reason, drift="not_running")
            for each in fleet.blocked
        ),
        *(_apart_json(name, **apart[name]) for name in sorted(apart)),
    ]


def agent_json(agent: FleetAgent, now: float) -> dict[str, Any]:
    """Return an agent as `ps` and `watch` print it."""
    return {
        "name": agent.name,
        "alias": agent.alias,
        "role": agent.role,
        "runtime": agent.runtime,
        "model": agent.model,
        "model_answering": agent.model_answering,
        "state": agent.state,
        "evidence": agent.seen.source,
        "evidence_age_s": _age(agent.seen.at, now),
        "activity": _activity(agent, now),
        "activity_s": _age(agent.activity_since, now),
        "session_id": agent.session,
        "turns": agent.turns,
        "queued": agent.queued,
        "sandbox": agent.sandbox,
        "unconfined": agent.unconfined,
        "never_asks": agent.never_asks,
        "workspace": agent.workspace,
        "detail": _detail(agent, now),
        "host": agent.host,
        "tenant_id": agent.tenant_id or None,
        "started_at": timestamp(agent.started_at),
        "tries_again_s": None if agent.tries_at is None else round(max(0.0, agent.tries_at - now), 3),
        "tokens_today": agent.tokens_today,
        "gate": None if agent.gate is None else _gate_json(agent.gate),
        "drift": agent.drift,
        "elsewhere": agent.elsewhere,
        "run": agent.run,
        "color": agent.color,
        "accounts": dict(agent.accounts),
    }


def _gate_json(gate: AgentGate) -> dict[str, Any]:
    closed = [{**asdict(each), "at": timestamp(each.at), "limits": list(each.limits)} for each in gate.closures]
    return {"state": gate.state, "closed": closed}


def _apart_json(name: str, **known: str) -> dict[str, Any]:
    """Return the JSON of an agent that is not in the register."""
    told: dict[str, Any] = {"name": name, "queued": 0, "elsewhere": False, "accounts": {}, **known}
    return {key: told.get(key) for key in _SHAPE}


def _age(at: float | None, now: float) -> float | None:
    return None if at is None else round(max(0.0, now - at), 3)


# --- text --------------------------------------------------------------------------------------------------------


def named(name: str, alias: str | None) -> str:
    """Return an agent's name for people: the name that commands take, and its alias."""
    return name if alias is None else f"{name} ({alias})"


def how_known(agent: FleetAgent, now: float) -> str:
    """Return the evidence and its age, such as ``protocol, 3 s ago``."""
    at = agent.seen.at
    return agent.seen.source if at is None else f"{agent.seen.source}, {markdown.span(now - at)} ago"


def fleet_text(fleet: FleetModel, now: float, *, everybody: bool = False) -> str:
    """Return the reply of `ps`, with warnings about agents that are not isolated, and about closed gates.

    Args:
        fleet: all agents.
        now: seconds since the epoch.
        everybody: show all agents, also stopped ones, regardless of the table's length.
    """
    closed = "".join(f"\n\n{line}" for line in _closed(fleet))
    apart = "".join(f"\n{line}" for line in (*_unable(fleet), *_apart(fleet)))
    agents = shown(fleet, everybody=everybody)
    hidden = len(fleet.agents) - len(agents)
    if not agents:
        listed, start = command_line("ps --all"), command_line("launch NAME")
        more = f"{hidden:,} are stopped: {listed}." if hidden else "" if fleet.blocked else f"{start} starts one."
        return f"No agent runs. {more}".rstrip() + (f"\n{apart}" if apart else "") + closed
    return "\n".join(_table(agents, hidden, now, everybody)) + apart + closed


def _table(agents: Sequence[FleetAgent], hidden: int, now: float, everybody: bool) -> Iterator[str]:
    first = agents
    if len(agents) > _ROWS and not everybody:
        first = sorted(agents, key=lambda agent: (_URGENCY.get(agent.state, 0), agent.name))[:_ROWS]
    if len(agents) >= _COUNTED:
        counted = Counter(agent.state for agent in agents)
        states = sorted(counted, key=lambda state: _URGENCY.get(state, 0))
        counts = ", ".join(f"{_STATE_MARKS.get(state, '')} {counted[state]:,} {state}" for state in states)
        yield f"{len(agents):,} agents: {counts}.\n"
    metered = any(agent.tokens_today is not None for agent in agents)
    yield markdown.table(
        ("agent", "state", "doing", *(("tokens today",) if metered else ())),
        [(*_row(agent, now), *((_tokens(agent),) if metered else ())) for agent in first],
    )
    if len(agents) > len(first):
        yield f"\n{len(agents) - len(first):,} more run: {command_line('ps --all')}."
    if loose := [agent.name for agent in agents if agent.unconfined and agent.state != "stopped"]:
        yield f"\n⚠️ Without a sandbox, and so able to give Muster orders as you: {some(loose)}."
    if bold := [agent.name for agent in agents if agent.never_asks]:
        yield f"\n⚠️ Never asking for permission, since their runtime cannot: {some(bold)}."
    if swapped := [agent for agent in agents if agent.model_answering]:
        whose = some([f"{agent.name} ({agent.model_answering} for {agent.model})" for agent in swapped])
        yield f"\n⚠️ Another model answers than was asked for: {markdown.one_line(whose, 600)}."
    if hidden:
        yield f"\n{hidden:,} stopped: {command_line('ps --all')}."


def _tokens(agent: FleetAgent) -> str:
    return "?" if agent.tokens_today is None else amounts.tokens(agent.tokens_today)


def _called(agent: FleetAgent) -> str:
    return f"{named(agent.name, agent.alias)} {markdown.color_mark(agent.color)}".rstrip()


def _row(agent: FleetAgent, now: float) -> tuple[str, str, str]:
    """Return the agent in three short cells that fit a phone."""
    at = agent.seen.at
    known = agent.seen.source if at is None else f"{agent.seen.source}, {markdown.span(now - at)}"
    state = f"{_STATE_MARKS.get(agent.state, '')} {agent.state} ({known})"
    return _called(agent), state, _doing(agent, now, _CELL)


def _apart(fleet: FleetModel) -> Iterator[str]:
    """Yield the differences between the roster, the register and the running agents."""
    unrostered = [agent.name for agent in fleet.agents if agent.drift == "not_in_roster"]
    changed = [agent.name for agent in fleet.agents if agent.drift == "changed"]
    for names, sentence in (
        (fleet.missing, f"📋 In the roster, and never started: {{}}. {command_line('launch NAME')} starts one."),
        (unrostered, f"📋 Running, and not in the roster: {{}}. {command_line('stop NAME')} stops one."),
        (changed, f"✏️ The roster has changed: {{}}. {command_line('roster apply')} does it."),
        (fleet.strays, f"👻 Running, and unknown to the register: {{}}. {command_line('launch NAME')} takes one over."),
    ):
        if names:
            yield f"\n{sentence.format(some(names))}"


def _unable(fleet: FleetModel) -> Iterator[str]:
    for line in in_words(fleet.blocked):
        yield f"\n🔴 {markdown.one_line(line, _REASON)}"


def _closed(fleet: FleetModel) -> Iterator[str]:
    """Yield the agents whose requests the egress does not admit, by what opens their gates."""
    if fleet.estop is not None:
        yield f"🛑 The emergency stop holds, and no agent gets out: {command_line('estop --clear')} ends it."
    if paused := _closed_by("paused", fleet):
        names = [f"{name} ({command_line(f'answer {each.question} go')})" for name, each in paused.items()]
        more = f" {command_line('questions')} says what is asked."
        yield f"🏃 Paused until somebody answers whether it may go on: {some(names)}.{more}"
    if cut := _closed_by("cut_off", fleet):
        yield f"🔌 Cut off: {some(list(cut))}. {command_line('restore NAME')} unblocks one."
    if used_up := _closed_by("used_up", fleet):
        yield f"🔴 A budget is used up: {some(list(used_up))}. {command_line('budget')} shows which."


def _closed_by(kind: str, fleet: FleetModel) -> dict[str, GateClosure]:
    """Return by name the agents whose gate this closes, except for those that ended."""
    return {
        agent.name: closure
        for agent in sorted(fleet.agents, key=lambda agent: agent.name)
        if agent.gate is not None
        and (closure := agent.gate.closed_by(kind)) is not None
        and not (agent.wanted == "stopped" and agent.state in {"stopped", "failed"})
    }


def _activity(agent: FleetAgent, now: float) -> str | None:
    return agent.activity if agent.activity is not None or agent.wait is None else _wait(agent.wait, now)


def _wait(wait: LimitWait, now: float) -> str:
    # Short, so that it fits into a cell of `ps`.
    left = markdown.span(wait.until - now) if wait.until is not None and wait.until > now else None
    if wait.why == "pace":
        held = "held" if wait.tasks == 1 else f"{wait.tasks:,} held"
        return f"{held} by the pace{'' if left is None else f' for {left}'}"
    scope = f" ({markdown.one_line(wait.scope, 40)})" if wait.scope else ""
    when = "soon" if left is None else f"in {left}"
    return f"{'ahead' if wait.why == 'ahead' else 'at a limit'}, goes on {when}{scope}"


def _detail(agent: FleetAgent, now: float) -> str | None:
    """Return what else is known of the agent, such as ``the runtime has not answered for 40 s``."""
    if agent.detail is None or agent.detail_since is None:
        return agent.detail
    return f"{agent.detail} for {markdown.span(now - agent.detail_since)}"


def _doing(agent: FleetAgent, now: float, width: int) -> str:
    words = []
    if activity := _activity(agent, now):
        lasting = f", {markdown.span(now - agent.activity_since)}" if agent.activity_since is not None else ""
        words.append(markdown.one_line(activity, width) + lasting)
    elif agent.tries_at is not None:
        words.append(f"tries again in {markdown.span(agent.tries_at - now)}")
        words.append(markdown.one_line(_detail(agent, now) or "", 60))
    elif agent.state in {"failed", "unknown"}:
        words.append(markdown.one_line(_detail(agent, now) or "", 60))
    if agent.queued:
        words.append(f"{agent.queued} queued")
    return ", ".join(word for word in words if word) or "-"


def agent_text(agent: FleetAgent, now: float) -> str:
    """Return one agent as `watch` shows it."""
    lines = [
        f"{_STATE_MARKS.get(agent.state, '')} **{_called(agent)}** {agent.state} ({how_known(agent, now)})",
        " · ".join(
            word
            for word in (
                agent.role,
                agent.runtime,
                agent.model,
                f"⚠️ {agent.model_answering} answers" if agent.model_answering else None,
                f"sandbox {agent.sandbox}",
                *(f"account {name}" for _, name in sorted(agent.accounts.items())),
            )
            if word
        ),
        _doing(agent, now, 60),
    ]
    if agent.turn_started_at is not None:
        lines.append(f"turn {agent.turns}, for {markdown.span(now - agent.turn_started_at)}")
    return "  \n".join(lines)


# --- journals ----------------------------------------------------------------------------------------------------


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
