"""Formatting of `pace`: each window relative to its even-spread line, as text that fits on a phone. Pure.

It imports nothing heavy, so that the pace can be shown without the orchestrator.
"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.read_models.limits import LimitLine, LimitsModel, PaceHold, WindowPace, WindowProjection
from bot.spending.budget_view import pace_json, rounded
from bot.spending.limits_text import authorized_words, outlook_words, overruled_words, reset_words, seen_words
from bot.text import markdown, timestamps
from bot.text.timestamps import timestamp
from budget import amounts
from budget.scope_names import shown_scope
from budget.windows import window_key
from budget.windows.window_key import WindowKey

#: Maximum number of windows in a message, the most used first.
_WINDOWS = 12
#: Share of the limit below which a difference from the line does not count.
_EVEN = 0.005


def pace_text(model: LimitsModel) -> str:
    """Return the answer of `pace`."""
    if not model.pace_known:
        return _text_without_pace(model)
    return "\n\n".join([_text(model), *map(overruled_words, model.overruled)])


def paces_json(model: LimitsModel) -> dict[str, Any]:
    """Return the windows as ``pace --json`` prints them. Unknown values are None."""
    known = model.pace_known
    windows = map(window_json, model.windows) if known else map(_json_without_pace, model.lines)
    return {
        "windows": list(windows),
        "waiting": dict(model.waiting) if known else None,
        "spread": ("even" if model.spread else "off") if known else None,
        "evidence": model.counted.source,
        "seen_at": timestamp(model.at if model.counted.at is None else model.counted.at),
    }


def window_json(window: WindowPace) -> dict[str, Any]:
    """Return one window as JSON: its figures, its line, its forecasts, and what it holds."""
    low, expected, high = (None, None, None) if window.band is None else window.band
    return {
        **pace_json(window),
        "scope": window.scope,
        "unit": window.unit,
        "limit": window.limit,
        "used": window.used,
        "reserved": rounded(window.reserved),
        "begins_at": timestamp(window.begins_at),
        "reset_at": timestamp(window.resets_at),
        "reset_confidence": window.reset_source,
        "at_least": rounded(window.at_least),
        "seen_at": timestamp(window.seen_at),
        "expected": expected,
        "expected_low": low,
        "expected_high": high,
        "words_ahead": window.words_ahead,
        "at_this_rate": None if window.projection is None else _projection_json(window.projection),
        "holds": [_hold_json(each) for each in window.holds],
    }


def _projection_json(made: WindowProjection) -> dict[str, Any] | None:
    if made.rate is None:
        return None
    return {
        "per_hour": rounded(made.rate * 3_600),
        "at_reset": rounded(made.at_reset),
        "meets_line_at": timestamp(made.meets_line_at),
        "holds_at": timestamp(made.holds_at),
        "throttles_at": timestamp(made.throttles_at),
        "meets_limit_at": timestamp(made.meets_limit_at),
    }


def _hold_json(hold: PaceHold) -> dict[str, Any]:
    return {
        "what": hold.what,
        "name": hold.name,
        "agent": hold.agent,
        "needs": rounded(hold.needs),
        "since": timestamp(hold.since),
        "until": timestamp(hold.until),
    }


def _text(model: LimitsModel) -> str:
    windows, waiting = model.windows, sum(model.waiting.values())
    if not windows:
        return (
            "Nothing is paced: no limit has a window, and no account is a subscription. "
            f"{command_line('budget set SCOPE LIMIT --window day')} sets one."
        )
    parts = [_window(each, model) for each in windows[:_WINDOWS]]
    if len(windows) > _WINDOWS:
        parts.append(f"{len(windows) - _WINDOWS:,} more windows, with less use.")
    if not model.spread:
        parts.append("The spread is off: all of a limit may be used at any time.")
    parts += authorized_words(model)
    if waiting:
        parts.append(
            f"{waiting:,} {'task waits' if waiting == 1 else 'tasks wait'} for what may be spent: "
            f"{command_line('tasks')}."
        )
    return "\n\n".join(parts)


def _window(window: WindowPace, model: LimitsModel) -> str:
    unit, zone = window.unit, ZoneInfo(model.zone)
    lines = [f"**{markdown.one_line(named(window.key), 60)}**"]
    limit = amounts.amount(window.limit, unit)
    if window.used is None:
        lines.append(_unknown(window, model.at, limit))
    else:
        whole = f" of {limit}" if unit != "share" or window.limit < 1 else ""
        lines.append(f"{amounts.amount(window.used, unit)}{whole} used, {_against(window)}")
        held = f"; {amounts.amount(window.reserved, unit)} reserved for what is under way" if window.reserved else ""
        lines.append(f"Now {amounts.amount(window.may_use_now, unit)} may be used{held}.")
    if window.words_ahead:
        times = "once" if window.words_ahead == 1 else f"{window.words_ahead:,} times"
        lines.append(f"Words of people began ahead of it {times} since it began.")
    lines.append(f"It {reset_words(window, model.at, zone)}.")
    if window.band is not None and window.band[1]:
        low, expected, high = (amounts.amount(each, unit) for each in window.band)
        lines.append(f"Expected by then: {expected} ({low} to {high}).")
    lines += outlook_words(window, model.at, zone)
    return "\n".join(lines)


def _unknown(window: WindowPace, now: float, limit: str) -> str:
    """Return what is known of a window whose use is unknown."""
    seen = seen_words(window, now)
    if seen is None:
        return f"The use of {limit} is not known, so one task runs at a time."
    known = f"What is used is not known: {seen}."
    if window.at_least is not None:
        known = f"At least {amounts.amount(window.at_least, window.unit)} used: {seen}."
    even = "" if window.line is None else f" The line is at {amounts.amount(window.line, window.unit)}."
    return f"{known}{even}\nThe exact use is unknown, so one task runs at a time."


def named(key: str) -> str:
    """Return the key of a window as text for people."""
    said = WindowKey.parse(shown_scope(key))
    if said.is_share:
        return f"{said.scope}, share of {said.window} of {said.account}"
    if said.account:
        return f"{said.scope}, {said.window}"
    return f"{said.scope}, {said.unit} " + ("in all" if said.window == window_key.ENDLESS else f"by {said.window}")


def _against(window: WindowPace) -> str:
    if not window.has_end:
        return "and no line, because the window has no end."
    if window.line is None or window.ahead is None:
        return f"and all of the limit may be used at any time ({amounts.amount(window.limit, window.unit)})."
    where = "on the line"
    if abs(window.ahead) > _EVEN * window.limit:
        off = amounts.amount(abs(window.ahead), window.unit)
        where = f"{off} ahead of the line" if window.ahead > 0 else f"{off} behind the line"
    return f"{where} ({amounts.amount(window.line, window.unit)} now)."


# --- without the orchestrator -----------------------------------------------------------------------------------------


def _json_without_pace(line: LimitLine) -> dict[str, Any]:
    window = WindowPace(
        key=_key(line),
        scope=line.scope,
        unit=line.unit,
        limit=line.limit,
        used=line.used,
        reserved=line.reserved,
        at_least=line.at_least,
        seen_at=_seen_at(line),
        resets_at=line.resets_at,
    )
    unknown = {"line": None, "authorized": None, "words_ahead": None, "begins_at": None, "holds": None}
    return {**window_json(window), "reset_confidence": line.reset_source, **unknown}


def _key(line: LimitLine) -> str:
    """Return the key that the window of a limit has while Muster runs."""
    whose = line.scope if line.agent is None else f"agent:{line.agent}"
    if line.unit != "share":
        return window_key.of_limit(whose, line.unit, line.window)
    if line.kind == "quota":
        return f"{whose}/{line.window}"
    account, _, window = str(line.window).partition("/")
    return window_key.of_share(whose, account, window)


def _seen_at(line: LimitLine) -> float | None:
    return line.known.at if line.seen_at is None else line.seen_at


def _text_without_pace(model: LimitsModel) -> str:
    if not model.lines:
        return "No limit is known without Muster."
    lines = sorted(model.lines, key=_least_share, reverse=True)
    parts = [_window_without_pace(each, model) for each in lines[:_WINDOWS]]
    if len(lines) > _WINDOWS:
        parts.append(f"{len(lines) - _WINDOWS:,} more windows, with less use.")
    return "\n\n".join(parts)


def _least_share(line: LimitLine) -> float:
    return (line.used or line.at_least or 0.0) / line.limit if line.limit > 0 else 0.0


def _window_without_pace(line: LimitLine, model: LimitsModel) -> str:
    seen, limit = _seen_at(line), amounts.amount(line.limit, line.unit)
    ago = "" if seen is None or seen >= model.at else f", as known {markdown.span(model.at - seen)} ago"
    if line.used is not None:
        used = f"{amounts.amount(line.used, line.unit)} of {limit} used{ago}"
    elif line.at_least is not None:
        used = f"At least {amounts.amount(line.at_least, line.unit)} of {limit} used{ago}"
    else:
        used = f"What is used of {limit} is not known{ago.replace('as known', 'last seen')}"
    name = f"**{markdown.one_line(named(_key(line)), 60)}**"
    if line.window is None:
        return f"{name}\n{used}. It has no end, and no line."
    resets = "at an unknown time"
    if line.resets_at is not None:
        resets = timestamps.shown(line.resets_at, ZoneInfo(model.zone), model.at)
    return f"{name}\n{used}. Its line is unknown.\nIt resets {resets}."
