"""The `pace` command: each window relative to its even-spread line, as text that fits on a phone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.pacing.services import PacingServices
from bot.pacing.window_series import WindowFacts, gather_windows
from bot.pacing.window_status import PaceSnapshot
from bot.spending import overruled_limits
from bot.spending.budget_view import authorized_words, pace_json, reset_words, rounded, seen_at, seen_words
from bot.spending.held_limits import held_now
from bot.text import markdown
from bot.text.errors import UserError
from bot.text.timestamps import timestamp
from budget import amounts
from budget.scope_names import shown_scope
from budget.windows.pace_admission import WindowState
from budget.windows.window_state import Figures
from database.queries.spending import pacing_windows
from database.queries.spending.pacing_windows import Befell

#: Maximum number of windows in a message, the most used first.
_WINDOWS = 12
#: Share of the limit below which a difference from the line does not count.
_EVEN = 0.005


async def show_pace(ctx: Context[PacingServices]) -> Reply:
    services = ctx.services
    gate = None if services.egress_client is None else await services.egress_client.standing()
    snapshot: PaceSnapshot = (await services.pace.snapshot()).seen_at_the_gate(gate)
    zone: ZoneInfo = services.settings.timezone
    facts = {each.key: each for each in await gather_windows(services, snapshot.now)}
    order = snapshot.every()
    earliest = min((each.begins_at for each in order if each.begins_at is not None), default=snapshot.now)
    async with services.store.read() as tx:
        counts = await pacing_windows.waiting(tx)
        words = await pacing_windows.words_ahead(tx, earliest)
    said = {each.key: [one for one in words.get(each.key, ()) if one.at >= (each.begins_at or 0.0)] for each in order}
    data: dict[str, Any] = {
        "windows": [window_json(each, snapshot, facts.get(each.key), said[each.key]) for each in order],
        "waiting": {why: counts.get(why, 0) for why in _HELD},
        "spread": services.settings.pacing.spread,
    }
    text = _text(order, snapshot, facts, said, sum(data["waiting"].values()), zone, spread=data["spread"] == "even")
    with contextlib.suppress(UserError):
        unheard = await overruled_limits.look(services, await held_now(services))
        text = "\n\n".join([text, *map(overruled_limits.in_words, unheard)])
    return Reply(text, data)


#: Reasons for waiting that mean that spending limits hold a task.
_HELD = ("pace", "limit", "unknown", "price")


def window_json(
    found: Figures, snapshot: PaceSnapshot, facts: WindowFacts | None, words: Sequence[Befell]
) -> dict[str, Any]:
    """Return one window as JSON: its figures, its line and its events."""
    return {
        **pace_json(found),
        "scope": found.scope,
        "unit": found.unit,
        "limit": found.limit,
        "used": found.used,
        "reserved": rounded(found.reserved),
        "begins_at": timestamp(found.begins_at),
        "reset_at": timestamp(found.resets_at),
        "reset_confidence": "certain" if found.unit != "share" else found.certainty,
        "at_least": rounded(found.at_least),
        "seen_at": timestamp(seen_at(snapshot.standings[found.key].window)),
        "expected": None if facts is None else facts.expected,
        "expected_low": None if facts is None else facts.low,
        "expected_high": None if facts is None else facts.high,
        "words_ahead": len(words),
    }


def _text(
    order: Sequence[Figures],
    snapshot: PaceSnapshot,
    facts: Mapping[str, WindowFacts],
    words: Mapping[str, Sequence[Befell]],
    waiting: int,
    zone: ZoneInfo,
    *,
    spread: bool,
) -> str:
    if not order:
        return (
            "Nothing is paced: no limit has a window, and no account is a subscription. "
            f"{command_line('budget set SCOPE LIMIT --window day')} sets one."
        )
    parts = [_window(each, snapshot, facts.get(each.key), words[each.key], zone) for each in order[:_WINDOWS]]
    if len(order) > _WINDOWS:
        parts.append(f"{len(order) - _WINDOWS:,} more windows, with less use.")
    if not spread:
        parts.append("The spread is off: all of a limit may be used at any time.")
    parts += authorized_words(snapshot, zone)
    if waiting:
        parts.append(
            f"{waiting:,} {'task waits' if waiting == 1 else 'tasks wait'} for what may be spent: "
            f"{command_line('tasks')}."
        )
    return "\n\n".join(parts)


def _window(
    found: Figures, snapshot: PaceSnapshot, facts: WindowFacts | None, words: Sequence[Befell], zone: ZoneInfo
) -> str:
    unit, standing = found.unit, snapshot.standings[found.key]
    lines = [f"**{markdown.one_line(named(found.key), 60)}**"]
    limit = amounts.amount(found.limit, unit)
    if found.used is None:
        lines.append(_unknown(found, snapshot, limit))
    else:
        whole = f" of {limit}" if unit != "share" or found.limit < 1 else ""
        lines.append(f"{amounts.amount(found.used, unit)}{whole} used, {_against(found, standing)}")
        held = f"; {amounts.amount(found.reserved, unit)} reserved for what is under way" if found.reserved else ""
        lines.append(f"Now {amounts.amount(found.may_use_now, unit)} may be used{held}.")
    if words:
        times = "once" if len(words) == 1 else f"{len(words):,} times"
        lines.append(f"Words of people began ahead of it {times} since it began.")
    lines.append(f"It {reset_words(standing, snapshot, zone)}.")
    if facts is not None and facts.expected and facts.low is not None and facts.high is not None:
        band = f"{amounts.amount(facts.low, unit)} to {amounts.amount(facts.high, unit)}"
        lines.append(f"Expected by then: {amounts.amount(facts.expected, unit)} ({band}).")
    return "\n".join(lines)


def _unknown(found: Figures, snapshot: PaceSnapshot, limit: str) -> str:
    """Return what is known of a window whose use is unknown."""
    seen = seen_words(found.last_seen, found.unit, snapshot.now)
    if seen is None:
        return f"The use of {limit} is not known, so one task runs at a time."
    known = f"What is used is not known: {seen}."
    if found.at_least is not None:
        known = f"At least {amounts.amount(found.at_least, found.unit)} used: {seen}."
    even = "" if found.line is None else f" The line is at {amounts.amount(found.line, found.unit)}."
    return f"{known}{even}\nThe exact use is unknown, so one task runs at a time."


def named(key: str) -> str:
    """Return the key of a window as text for people."""
    key = shown_scope(key)
    scope, _, share = key.partition("/share/account:")
    if share:
        account, _, window = share.partition("/")
        return f"{scope}, share of {window} of {account}"
    if key.count("/") == 2:
        scope, unit, window = key.split("/")
        return f"{scope}, {unit} by {window}" if window != "all" else f"{scope}, {unit} in all"
    return key.replace("/", ", ")


def _against(found: Figures, standing: WindowState) -> str:
    if standing.line.resets_at is None:
        return "and no line, because the window has no end."
    if found.line is None or found.ahead is None:
        return f"and all of the limit may be used at any time ({amounts.amount(found.limit, found.unit)})."
    where = "on the line"
    if abs(found.ahead) > _EVEN * found.limit:
        off = amounts.amount(abs(found.ahead), found.unit)
        where = f"{off} ahead of the line" if found.ahead > 0 else f"{off} behind the line"
    return f"{where} ({amounts.amount(found.line, found.unit)} now)."
