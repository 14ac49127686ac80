"""Formatting of `budget log`: what was done to limits and because of them. Pure, and loads nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.read_models.limits import Enforcement, LimitsModel
from bot.text import markdown, timestamps
from bot.text.timestamps import timestamp
from budget.scope_names import shown_scope

#: Maximum rows of the table in a chat room, the newest.
_ROWS: Final = 30
_WORDS: Final = {
    "budget_set": "limit set",
    "budget_cleared": "limit taken back",
    "authorized": "authorized",
    "used_up": "🔴 used up",
    "cut_off": "🔌 cut off",
    "restored": "🟢 restored",
    "frozen": "❄️ frozen",
    "killed": "⛔ killed",
    "paused": "🏃 paused",
    "refused": "🔴 refused",
    "held_by_pace": "⏳ held by the pace",
    "ran_alone": "⚠️ ran alone",
    "estop": "🛑 emergency stop",
    "estop_over": "emergency stop over",
}


def chosen(model: LimitsModel, *, agent: str | None, since: float | None) -> list[Enforcement]:
    """Return the entries about an agent, or all, since a time, the newest first."""
    return [
        each
        for each in model.enforcements
        if agent in (None, each.agent) and (since is None or (each.last_at or each.at) >= since)
    ]


def log_text(found: Sequence[Enforcement], model: LimitsModel) -> str:
    """Return the answer of `budget log`."""
    if not found:
        return f"Nothing was enforced or changed in that time. {command_line('budget')} shows the limits."
    zone = ZoneInfo(model.zone)
    rows = [
        (
            timestamps.shown(each.at if each.last_at is None else each.last_at, zone, model.at),
            f"{_WORDS[each.kind]}{f', {each.times:,} times' if each.times > 1 else ''}",
            markdown.one_line(_about(each), 40),
            markdown.one_line(each.by, 40),
            markdown.one_line(each.why or "-", 160),
        )
        for each in found[:_ROWS]
    ]
    more = f"\n\n{len(found) - _ROWS:,} more: ask for a shorter time with `--since`." if len(found) > _ROWS else ""
    return markdown.table(("when", "what", "of", "by", "why"), rows) + more


def log_json(found: Sequence[Enforcement]) -> list[dict[str, Any]]:
    """Return the entries as ``budget log --json`` prints them."""
    return [
        {
            "at": timestamp(each.at),
            "last_at": timestamp(each.last_at),
            "times": each.times,
            "what": each.kind,
            "agent": each.agent,
            "scope": each.scope,
            "by": each.by,
            "why": each.why,
        }
        for each in found
    ]


def _about(each: Enforcement) -> str:
    scope = "" if each.scope is None else shown_scope(each.scope)
    if each.agent is None or scope == f"agent:{each.agent}":
        return scope or each.agent or "all"
    return f"{each.agent} ({scope})" if scope else each.agent
