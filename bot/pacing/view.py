"""What `pace` answers: each window against its even-spread line, in words that fit on a phone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bot import amounts, precedence, rendering
from bot.budget_view import authorized_words, least_json, pace_json, reserved_json, reset_words, seen_at, seen_words
from bot.commands.lines import command_line
from bot.commands.table import Reply
from bot.errors import UserError
from bot.timestamps import timestamp
from budget.pacing import admissible, line_at
from register.queries import pacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from bot.commands.context import Context
    from bot.pacing.snapshot import Snapshot
    from bot.reports.facts import WindowFacts
    from budget.pacing import Standing

#: Windows that a message shows; those that are used most come first.
_WINDOWS = 12
#: Differences from the line below this share of the limit are none.
_EVEN = 0.005


async def show_pace(ctx: Context) -> Reply:
    from bot.budgeting import held_now
    from bot.reports.windows import gather_windows

    services = ctx.services
    snapshot: Snapshot = await services.pace.snapshot()
    zone: ZoneInfo = services.settings.timezone
    facts = {each.key: each for each in await gather_windows(services, snapshot.now)}
    async with services.store.read() as tx:
        counts = await pacing.waiting(tx)
    order = sorted(snapshot.standings.values(), key=lambda each: (-_share(each), each.window.key))
    data: dict[str, Any] = {
        "windows": [_json(each, snapshot, facts.get(each.window.key)) for each in order],
        "waiting": {why: counts.get(why, 0) for why in _HELD},
        "spread": services.settings.pacing.spread,
    }
    text = _text(order, snapshot, facts, sum(data["waiting"].values()), zone, spread=data["spread"] == "even")
    with contextlib.suppress(UserError):
        unheard = await precedence.look(services, await held_now(services))
        text = "\n\n".join([text, *map(precedence.in_words, unheard)])
    return Reply(text, data)


#: Why a task waits, where what may be spent holds it.
_HELD = ("pace", "limit", "unknown", "price")


def _share(standing: Standing) -> float:
    window = standing.window
    return window.least_use / window.known_limit if window.known_limit else 0.0


def _json(standing: Standing, snapshot: Snapshot, facts: WindowFacts | None) -> dict[str, Any]:
    window = standing.window
    return {
        **pace_json(standing, snapshot),
        "scope": window.scope,
        "unit": window.unit,
        "limit": window.known_limit,
        "used": window.known_use,
        "reserved": reserved_json(standing),
        "begins_at": timestamp(window.begins_at),
        "reset_at": timestamp(window.resets_at),
        "reset_confidence": "certain" if window.unit != "share" else window.certainty,
        "at_least": least_json(window),
        "seen_at": timestamp(seen_at(window)),
        "expected": None if facts is None else facts.expected,
        "expected_low": None if facts is None else facts.low,
        "expected_high": None if facts is None else facts.high,
    }


def _text(
    order: Sequence[Standing],
    snapshot: Snapshot,
    facts: Mapping[str, WindowFacts],
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
    parts = [_window(each, snapshot, facts.get(each.window.key), zone) for each in order[:_WINDOWS]]
    if len(order) > _WINDOWS:
        parts.append(f"{len(order) - _WINDOWS:,} more windows, of which less is used.")
    if not spread:
        parts.append("The spread is off: all of a limit may be used at any time.")
    parts += authorized_words(snapshot, zone)
    if waiting:
        parts.append(
            f"{waiting:,} {'task waits' if waiting == 1 else 'tasks wait'} for what may be spent: "
            f"{command_line('tasks')}."
        )
    return "\n\n".join(parts)


def _window(standing: Standing, snapshot: Snapshot, facts: WindowFacts | None, zone: ZoneInfo) -> str:
    window, unit = standing.window, standing.window.unit
    used = window.known_use
    lines = [f"**{rendering.one_line(named(window.key), 60)}**"]
    limit = amounts.amount(window.known_limit, unit)
    if used is None:
        lines.append(_unknown(standing, snapshot, limit))
    else:
        whole = f" of {limit}" if unit != "share" or window.known_limit < 1 else ""
        lines.append(f"{amounts.amount(used, unit)}{whole} used, {_against(standing, snapshot)}")
    free = admissible(standing, "normal", snapshot.now, snapshot.policy)
    held = f"; {amounts.amount(standing.held, unit)} reserved for what is under way" if standing.held else ""
    if used is not None:
        lines.append(f"Now {amounts.amount(free, unit)} may be used{held}.")
    lines.append(f"It {reset_words(standing, snapshot, zone)}.")
    if facts is not None and facts.expected and facts.low is not None and facts.high is not None:
        band = f"{amounts.amount(facts.low, unit)} to {amounts.amount(facts.high, unit)}"
        lines.append(f"Expected by then: {amounts.amount(facts.expected, unit)} ({band}).")
    return "\n".join(lines)


def _unknown(standing: Standing, snapshot: Snapshot, limit: str) -> str:
    """What is known of a window all the same whose use is not known."""
    window = standing.window
    if (seen := seen_words(window.last_seen, window.unit, snapshot.now)) is None:
        return f"What is used of {limit} is not known, so one task runs at a time."
    least = "What is used" if window.surely is None else f"At least {amounts.amount(window.surely, window.unit)}"
    known = f"{least} is not known: {seen}." if window.surely is None else f"{least} used: {seen}."
    even = ""
    if standing.line.resets_at is not None and (standing.line.level or 0.0) < standing.line.limit:
        even = f" The line is at {amounts.amount(line_at(standing.line, snapshot.now), window.unit)}."
    return f"{known}{even}\nHow much exactly nobody knows, so one task runs at a time."


def named(key: str) -> str:
    """The key of a window as people read it."""
    scope, _, share = key.partition("/share/account:")
    if share:
        account, _, window = share.partition("/")
        return f"{scope}, share of {window} of {account}"
    if key.count("/") == 2:
        scope, unit, window = key.split("/")
        return f"{scope}, {unit} by {window}" if window != "all" else f"{scope}, {unit} in all"
    return key.replace("/", ", ")


def _against(standing: Standing, snapshot: Snapshot) -> str:
    window = standing.window
    if standing.line.resets_at is None:
        return "and no line: it has no end to spread it up to."
    line, used = line_at(standing.line, snapshot.now), window.known_use or 0.0
    if (standing.line.level or 0.0) >= standing.line.limit:
        return f"of which all may be used at any time ({amounts.amount(window.known_limit, window.unit)})."
    off = used - line
    by = amounts.amount(abs(off), window.unit)
    where = "on the line"
    if abs(off) > _EVEN * window.known_limit:
        where = f"{by} ahead of the line" if off > 0 else f"{by} behind the line"
    return f"{where} ({amounts.amount(line, window.unit)} by now)."
