"""Formatting of `budget`: every limit with its use, the certainty of its reset, and its pace. Pure.

It imports nothing heavy, so that limits can be shown without the orchestrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.read_models.limits import LimitLine, LimitsModel, WindowPace
from bot.spending.limits_text import (
    authorized_words,
    excess_words,
    name_of,
    overruled_words,
    reset_words,
    seen_words,
)
from bot.text import markdown
from bot.text.timestamps import timestamp
from budget import amounts
from budget.scope_names import shown_scope

#: Maximum rows of the table in a chat room.
_ROWS = 40
_MARKS = {"open": "🟢", "used up": "🔴", "overruled": "⚪"}


def budget_text(model: LimitsModel) -> str:
    """Return the answer of `budget`."""
    note = ""
    if model.counted.source == "none":
        note = "\n\n⚠️ The egress does not answer, so the current use is unknown."
    if not model.lines:
        return f"No limit is set. {command_line('budget set SCOPE LIMIT')} sets one."
    note += _notes([overruled_words(each) for each in model.overruled])
    note += _notes([excess_words(each) for each in model.lines if each.excess])
    note += _notes([*_resets(model), *_shares_kept(model)])
    authorized = authorized_words(model)
    return table(model) + note + ("\n\n" + "\n".join(authorized) if authorized else "")


def offline_words(model: LimitsModel) -> str:
    """Return where limits come from that are shown without the orchestrator, and what is unknown of them."""
    if model.counted.source == "egress":
        who = "This is what the egress counts and enforces now, while Muster does not run."
    elif model.counted.source == "ledger":
        last = "" if model.counted.at is None else f", last {markdown.span(max(0.0, model.at - model.counted.at))} ago"
        who = (
            f"The egress does not answer either, so this is what its ledger has{last}. What was under way then is "
            "unknown."
        )
    else:
        who = "Neither the egress nor its ledger says what is used."
    stop = " The emergency stop holds: nothing leaves." if model.estop is not None else ""
    return f"{who}{stop} The pace is unknown without Muster."


def budget_json(model: LimitsModel) -> list[dict[str, Any]]:
    """Return the limits as ``budget --json`` prints them. Unknown values are None."""
    return [line_json(line, model.pace_of(line)) for line in model.lines]


def line_json(line: LimitLine, pace: WindowPace | None) -> dict[str, Any]:
    """Return a limit in the format of ``budget --json``."""
    return {
        "scope": line.scope,
        "agent": line.agent,
        "kind": line.kind,
        "limit": int(line.limit) if line.unit == "tokens" else line.limit,
        "unit": line.unit,
        "used": _figure(line, line.used),
        "reserved": _figure(line, line.reserved),
        "remaining": _figure(line, line.remaining),
        "window": line.window,
        "reset_at": timestamp(line.resets_at),
        "reset_confidence": line.reset_source,
        "policy": line.policy,
        "state": line.state,
        "pace": None if pace is None else pace_json(pace),
        "at_least": rounded(line.at_least),
        "seen_at": timestamp(line.seen_at),
        "evidence": line.known.source,
        "governed_by": line.governing_scope,
        "overruled_for": [{"agents": list(each.agents), "governed_by": each.scope} for each in line.governed_by],
        "excess": _figure(line, line.excess) or 0,
    }


def pace_json(window: WindowPace) -> dict[str, Any]:
    """Return a window's position relative to its line, in its unit. Unknown values are None."""
    return {
        "window": window.key,
        # Without a spread, all of the limit may be used at any time.
        "line": rounded(window.limit if window.line is None else window.line),
        "drawn_at": timestamp(window.drawn_at),
        "ahead": rounded(window.ahead),
        # If use is unknown, no amount is free: one task at a time measures it.
        "may_use_now": rounded(window.may_use_now),
        # Only authorizations that count in this unit: authorized tokens are no dollars.
        "authorized": rounded(window.authorized),
    }


def rounded(amount: float | None) -> float | None:
    """Return a figure for programs; unknown values are None."""
    return None if amount is None else round(amount, 6)


def _figure(line: LimitLine, amount: float | None) -> float | None:
    """Return an amount for programs: whole tokens, and shares of six places."""
    if amount is None or line.unit == "usd":
        return amount
    return int(amount) if line.unit == "tokens" else round(amount, 6)


def table(model: LimitsModel) -> str:
    """Return the limits as a table for a chat room."""
    shown, unknown = model.lines[:_ROWS], "-" if model.counted.source == "egress" else "?"
    # Nothing is reserved most of the time, and a phone is narrow.
    held = any(each.reserved for each in shown)
    rows = [
        (
            markdown.one_line(name_of(each), 40),
            f"{amounts.amount(each.limit, each.unit)}{_per(each)}",
            _used(each, unknown),
            *([_known(each.reserved, each, unknown)] if held else []),
            _known(each.remaining, each, unknown),
            _pace(each, model),
            f"{_MARKS.get(str(each.state), '❓' if unknown == '?' else '⚪')} {each.policy}",
        )
        for each in shown
    ]
    more = f"\n\n{len(model.lines) - _ROWS:,} more." if len(model.lines) > _ROWS else ""
    titles = ("scope", "limit", "used", *(["reserved"] if held else []), "left", "now", "then")
    return markdown.table(titles, rows) + more


def _used(each: LimitLine, unknown: str) -> str:
    if each.used is not None:
        return amounts.amount(each.used, each.unit)
    return unknown if each.at_least is None else f"≥ {amounts.amount(each.at_least, each.unit)}"


def _known(amount: float | None, each: LimitLine, unknown: str) -> str:
    return unknown if amount is None else amounts.amount(amount, each.unit)


def _per(each: LimitLine) -> str:
    if each.unit != "share":
        return amounts.per(each.window)
    account, _, window = str(each.window).rpartition("/")
    return f" of {window} of {account}" if account else f" of {window}"


def _pace(each: LimitLine, model: LimitsModel) -> str:
    """Return the amount that the pace allows now."""
    pace = model.pace_of(each)
    if pace is None:
        return "-" if model.pace_known or each.window is None else amounts.UNKNOWN
    return "one task at a time" if pace.may_use_now is None else amounts.amount(pace.may_use_now, each.unit)


def _resets(model: LimitsModel) -> list[str]:
    """Return when the windows of subscriptions reset, and how this is known."""
    lines = []
    for line in model.lines:
        window = model.pace_of(line)
        if line.kind == "quota" and window is not None:
            seen = seen_words(window, model.at)
            also = "" if seen is None else f"; {seen}"
            lines.append(f"{markdown.code(window.key)} {reset_words(window, model.at, ZoneInfo(model.zone))}{also}")
    return lines


def _shares_kept(model: LimitsModel) -> list[str]:
    """Return a line for each share: whether the egress enforces it or it only paces."""
    lines = []
    for line in model.lines:
        window = model.pace_of(line)
        if line.unit != "share" or line.kind == "quota" or window is None:
            continue
        account, _, name = str(line.window).rpartition("/")
        share = f"{markdown.code(shown_scope(line.scope))} {amounts.percent(line.limit)} of {name} of {account}"
        if window.tokens is not None:
            lines.append(f"{share}: about {amounts.tokens(window.tokens)} tokens, which the egress enforces")
        else:
            lines.append(f"{share}: the pace follows it; the egress enforces it once the share of a token is known")
    return lines


def _notes(lines: Sequence[str]) -> str:
    return "\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
