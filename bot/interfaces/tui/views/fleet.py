"""The fleet as a table."""

from __future__ import annotations

from typing import Final

from bot.commands.syntax import written
from bot.interfaces.tui.widgets.row_table import Cell, TableColumn, TableShape
from bot.interfaces.tui.widgets.text_pane import Look, TextLine, look_of
from bot.read_models.fleet import FleetAgent, FleetModel
from bot.text.markdown import color_mark, some, span
from budget import amounts

#: States in the order in which they need attention, and how they look.
_STATES: Final[dict[str, tuple[int, str, Look]]] = {
    "waiting": (0, "?", "warn"),
    "unknown": (1, "?", "bad"),
    "failed": (2, "✗", "bad"),
    "starting": (3, "◌", "accent"),
    "working": (4, "▶", "good"),
    "stopping": (5, "■", "dim"),
    "idle": (6, "●", ""),
    "frozen": (7, "*", "accent"),
    "stopped": (8, "■", "dim"),
}
_GATES: Final[dict[str, tuple[str, Look]]] = {
    "open": ("open", ""),
    "estop": ("ESTOP", "bad"),
    "cut_off": ("cut off", "bad"),
    "paused": ("paused", "warn"),
    "used_up": ("used up", "warn"),
    "ended": ("ended", "dim"),
}


def ago(at: float | None, now: float) -> str:
    """Return how long ago something was; ``?`` if it is unknown when."""
    return "?" if at is None else span(now - at)


def called(agent: FleetAgent) -> str:
    """Return an agent's name, with its alias and the color of its run, which not every terminal shows."""
    parts = (agent.name, f"({agent.alias})" if agent.alias else "", color_mark(agent.color))
    return " ".join(filter(None, parts))


def state_of(agent: FleetAgent) -> Cell:
    """Return an agent's state, with a mark that needs no color."""
    _, mark, look = _STATES.get(agent.state, (9, "?", "bad"))
    return f"{mark} {agent.state}", look


def seen(agent: FleetAgent, now: float) -> Cell:
    """Return the evidence of the state, and its age."""
    if agent.seen.source == "none":
        return "no evidence", "warn"
    old = agent.seen.at is None or now - agent.seen.at > 120
    return f"{agent.seen.source} {ago(agent.seen.at, now)}", "warn" if old and agent.is_up else "dim"


def doing(agent: FleetAgent, now: float) -> str:
    """Return what an agent does, or why it does nothing."""
    if agent.activity:
        since = "" if agent.activity_since is None else f" · {span(now - agent.activity_since)}"
        return f"{agent.activity}{since}"
    if agent.tries_at is not None:
        return f"tries again in {span(agent.tries_at - now)}: {agent.detail or ''}"
    if agent.detail:
        since = "" if agent.detail_since is None else f" for {span(now - agent.detail_since)}"
        return f"{agent.detail}{since}"
    return "turn " + span(now - agent.turn_started_at) if agent.turn_started_at is not None else ""


def gate(agent: FleetAgent, now: float) -> Cell:
    """Return whether the egress admits an agent's requests."""
    if agent.gate is None:
        return "?", "dim"
    return _GATES.get(agent.gate.state, (agent.gate.state, "warn"))


def pace(agent: FleetAgent, now: float) -> Cell:
    """Return why an agent waits for a limit or for the pace, and until when."""
    wait = agent.wait
    if wait is None:
        return "", ""
    word = f"{wait.tasks} held" if wait.why == "pace" else "limit" if wait.why == "limit" else "ahead"
    return f"{word} {span(wait.until - now)}" if wait.until is not None else word, "warn"


def _tokens(agent: FleetAgent) -> Cell:
    return (amounts.UNKNOWN, "dim") if agent.tokens_today is None else (amounts.tokens(agent.tokens_today), "")


def _model(agent: FleetAgent) -> Cell:
    if agent.model_answering:
        return f"{agent.model_answering}!", "warn"
    return agent.model or "", ""


def _words(agent: FleetAgent) -> str:
    parts = (agent.name, agent.alias, agent.role, agent.runtime, agent.model, agent.state, agent.activity, agent.host)
    return " ".join(part for part in parts if part).casefold()


def _urgency(agent: FleetAgent) -> int:
    return _STATES.get(agent.state, (9, "", ""))[0]


def _limit_first(agent: FleetAgent) -> int:
    return 0 if agent.gate is None or agent.gate.state == "open" else -1


FLEET: Final = TableShape[FleetAgent](
    columns=(
        TableColumn(title="AGENT", width=11, grows=1, order=lambda a: (a.name,),
                    cell=lambda a, _: (called(a), look_of(a.color))),
        TableColumn(title="STATE", width=10, order=lambda a: (_urgency(a), a.name), cell=lambda a, _: state_of(a)),
        TableColumn(title="SEEN", width=14, rank=2, order=lambda a: (-(a.seen.at or 0.0),), cell=seen),
        TableColumn(title="ROLE", width=9, rank=6, order=lambda a: (a.role, a.name), cell=lambda a, _: (a.role, "")),
        TableColumn(title="RUNTIME", width=8, rank=7, order=lambda a: (a.runtime, a.name),
                    cell=lambda a, _: (a.runtime, "")),
        TableColumn(title="MODEL", width=14, rank=8, order=lambda a: (a.model or "", a.name),
                    cell=lambda a, _: _model(a)),
        TableColumn(title="DOING", width=12, grows=4, cell=lambda a, now: (doing(a, now), "")),
        TableColumn(title="QUEUE", width=5, right=True, rank=4, order=lambda a: (-a.queued, a.name),
                    cell=lambda a, _: (str(a.queued) if a.queued else "", "")),
        TableColumn(title="TOKENS", width=6, right=True, rank=3, order=lambda a: (-(a.tokens_today or 0), a.name),
                    cell=lambda a, _: _tokens(a)),
        TableColumn(title="GATE", width=7, rank=1, order=lambda a: (_limit_first(a), a.name), cell=gate),
        TableColumn(title="PACE", width=12, rank=5, order=lambda a: (0 if a.wait else 1, a.name), cell=pace),
    ),
    key=lambda a: a.name,
    words=_words,
    empty="No agent yet. :launch NAME starts one.",
)  # fmt: skip


def fleet_notes(fleet: FleetModel, now: float) -> list[TextLine]:
    """Return what else is to say about the fleet."""
    lines = []
    if fleet.estop is not None:
        by = f" by {fleet.estop.by}" if fleet.estop.by else ""
        lines.append(TextLine(f"EMERGENCY STOP{by}, {ago(fleet.estop.at, now)} ago. :estop --clear ends it.", "bad"))
    lines += [TextLine(f"{each.name} cannot start: {written(each.reason, '')}", "warn") for each in fleet.blocked]
    if fleet.missing:
        lines.append(TextLine(f"In the roster, and never started: {some(fleet.missing)}.", "dim"))
    if fleet.strays:
        lines.append(TextLine(f"Running, and unknown to the register: {some(fleet.strays)}.", "warn"))
    if loose := [each.name for each in fleet.agents if each.unconfined and each.state != "stopped"]:
        lines.append(TextLine(f"Without a sandbox, and so able to give orders as you: {some(loose)}.", "warn"))
    return lines
