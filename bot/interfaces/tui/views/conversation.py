"""An agent's page: its facts, and its conversation turn by turn."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from bot.interfaces.tui.views.fleet import ago, doing, gate, pace, seen, state_of
from bot.interfaces.tui.widgets.text_pane import Look, TextLine
from bot.read_models.agent import (
    AgentModel,
    NoticeItem,
    PermissionItem,
    SaidItem,
    ThoughtItem,
    ToolItem,
    TurnItem,
    TurnModel,
)
from bot.text.markdown import span
from budget import amounts

_TOOLS: Final[dict[str | None, tuple[str, Look]]] = {
    "pending": ("◌", "dim"),
    "in_progress": ("▶", "accent"),
    "completed": ("✓", "good"),
    "failed": ("✗", "bad"),
}
#: Characters of a folded thought.
_FOLDED: Final = 60


def facts(model: AgentModel, now: float) -> list[TextLine]:
    """Return the head of the page: two lines."""
    agent = model.agent
    state, look = state_of(agent)
    known, _ = seen(agent, now)
    gated, _ = gate(agent, now)
    paced, _ = pace(agent, now)
    who = [agent.role, agent.runtime, agent.model or "", f"sandbox {agent.sandbox}"]
    who += [f"account {name}" for _, name in sorted(agent.accounts.items())]
    tokens = amounts.UNKNOWN if agent.tokens_today is None else amounts.tokens(agent.tokens_today)
    first = f"{agent.name}  {state} ({known})  {doing(agent, now)}"
    second = [*filter(None, who), f"queue {agent.queued}", f"tokens today {tokens}", f"gate {gated}", paced]
    return [TextLine(first, look or "strong"), TextLine(" · ".join(filter(None, second)), "dim")]


def conversation(model: AgentModel, *, thoughts: bool, now: float) -> list[TextLine]:
    """Return the turns, oldest first.

    Args:
        model: the agent.
        thoughts: whether thoughts are shown in full; otherwise one line stands for each.
        now: seconds since the epoch.
    """
    lines = [TextLine("Older turns are in its journal: :tail NAME.", "dim")] if model.before is not None else []
    for turn in model.turns:
        lines += _turn(turn, thoughts=thoughts, now=now)
    return lines or [TextLine("Nothing was said yet.", "dim")]


def _turn(turn: TurnModel, *, thoughts: bool, now: float) -> Iterator[TextLine]:
    if turn.turn is not None:
        lasted = ""
        if turn.began_at is not None:
            lasted = f" · {_clock(turn.began_at)}"
            if turn.ended_at is not None:
                lasted += f" · {span(turn.ended_at - turn.began_at)}"
        yield TextLine(f"── {turn.asked_by or 'a message'}{lasted} ──", "accent")
        if turn.asked:
            yield TextLine(turn.asked, "strong")
    for item in turn.items:
        yield from _item(item, thoughts=thoughts, now=now)
    if turn.turn is not None and turn.ended_at is not None and turn.stop_reason not in (None, "end_turn"):
        detail = f": {turn.detail}" if turn.detail else ""
        yield TextLine(f"The turn ended: {turn.stop_reason}{detail}", "warn")


def _item(item: TurnItem, *, thoughts: bool, now: float) -> Iterator[TextLine]:
    match item:
        case SaidItem():
            yield TextLine(item.text.strip("\n"))
        case ThoughtItem():
            if thoughts:
                yield TextLine(f"∴ {item.text.strip()}", "dim", 2)
            else:
                first = " ".join(item.text[: 4 * _FOLDED].split())
                cut = len(first) > _FOLDED or len(item.text) > 4 * _FOLDED
                yield TextLine(f"∴ {first[:_FOLDED]}{'… (t)' if cut else ''}", "dim", 2)
        case ToolItem():
            mark, look = _TOOLS.get(item.status, ("·", "dim"))
            yield TextLine(f"{mark} {item.title or item.tool_kind or 'a tool'}", look, 2)
            if item.detail and item.detail != item.title:
                yield TextLine(item.detail, "dim", 4)
        case PermissionItem():
            yield from _permission(item, now)
        case NoticeItem():
            yield TextLine(f"! {item.text}", "warn", 2)


def _permission(item: PermissionItem, now: float) -> Iterator[TextLine]:
    if item.outcome is None:
        left = "" if item.expires_at is None else f", denied in {span(item.expires_at - now)}"
        yield TextLine(f"? asks for permission{left}: {item.title}", "warn", 2)
    else:
        by = f" by rule {item.rule}" if item.rule else f" by {item.by}" if item.by else ""
        look: Look = "good" if item.outcome == "selected" else "dim"
        yield TextLine(f"? {item.outcome}{by}, {ago(item.answered_at, now)} ago: {item.title}", look, 2)
    if item.detail and item.detail != item.title:
        yield TextLine(item.detail, "", 4)
    if item.why:
        yield TextLine(item.why, "dim", 4)


def _clock(at: float) -> str:
    try:
        return time.strftime("%H:%M", time.localtime(at))
    except (ValueError, OverflowError, OSError):
        return "?"
