"""The `budget` command: every limit with its use, the certainty of its reset, and its pace."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from bot.commands.context import Context
from bot.commands.registry import Reply
from bot.commands.syntax import command_line
from bot.egress_client.settings_push import HeldLimit, scope_of
from bot.pacing.services import PacingServices
from bot.pacing.window_status import PaceSnapshot
from bot.spending import overruled_limits
from bot.spending.held_limits import held_now, holding
from bot.spending.overruled_limits import Overruled
from bot.text import markdown, timestamps
from bot.text.errors import UserError
from bot.text.timestamps import timestamp
from budget import amounts
from budget.amounts import Unit
from budget.scope_names import shown_scope
from budget.windows import window_boundaries
from budget.windows.even_spread_line import LastSeen, Window
from budget.windows.pace_admission import WindowState
from budget.windows.window_state import Figures, figures
from database.queries.operations import audit_log
from database.queries.operations.audit_log import AuditRow
from egress.ledger.model import EXCESS

#: Maximum rows of the table in a chat room.
_ROWS = 40
#: Maximum number of requests that ran alone to search.
_EXCESSES = 1_000
_MARKS = {"open": "🟢", "used up": "🔴", "overruled": "⚪"}


async def show_budget(ctx: Context[PacingServices]) -> Reply:
    services = ctx.services
    now = services.clock()
    standing = None if services.egress_client is None else await services.egress_client.standing()
    snapshot = (await services.pace.snapshot()).seen_at_the_gate(standing)
    if standing is None:
        # Shares converted to tokens are left out, because they are shown as shares.
        plain = [each for each in await holding(services) if each.account is None]
        found = [_json(each.model_dump(), None, now, snapshot) for each in plain]
        note = "\n\n⚠️ The egress does not answer, so the current use is unknown."
    else:
        seen = [each for each in standing["limits"] if each.get("account") is None]
        found = [_json({**each, "amount": each["limit"] - each.get("lift", 0)}, each, now, snapshot) for each in seen]
        # Allowances of agents that do not run, so the egress does not know them.
        counted = {(each["scope"], each["unit"], each["window"]) for each in found}
        idle = []
        with contextlib.suppress(UserError):
            plain = [each for each in await holding(services) if each.account is None]
            idle = [_json(each.model_dump(), None, now, snapshot) for each in plain]
        found += [each for each in idle if (each["scope"], each["unit"], each["window"]) not in counted]
        note = ""
    shares = [] if snapshot is None else share_windows(snapshot)
    found += shares
    unheard: list[Overruled] = []
    with contextlib.suppress(UserError):
        unheard = await overruled_limits.look(services, await held_now(services))
    found = await _with_excess(services, _with_precedence(found, unheard), now)
    if not found:
        none = f"No limit is set. {command_line('budget set SCOPE LIMIT')} sets one."
        return Reply(none, [])
    note += _notes([overruled_limits.in_words(each) for each in unheard])
    note += _notes([_excess_words(each) for each in found if each["excess"]])
    if snapshot is not None:
        note += _notes([*_resets(snapshot, services), *_shares_kept(snapshot)])
        note += _authorized(snapshot, services)
    return Reply(table(found, unknown="?" if standing is None else "-") + note, found)


def _with_precedence(found: Sequence[dict[str, Any]], unheard: Sequence[Overruled]) -> list[dict[str, Any]]:
    """Add the governing scope to rows whose limit governs no agent now."""
    by = overruled_limits.governed_by(unheard)
    shown = []
    for row in found:
        governed_by = by.get((row["scope"], row["unit"], row["window"])) if row["kind"] == "allowance" else None
        shown.append({**row, "governed_by": governed_by, "state": "overruled" if governed_by else row["state"]})
    return shown


async def _with_excess(services: PacingServices, found: Sequence[dict[str, Any]], now: float) -> list[dict[str, Any]]:
    """Add the excess over the limit that a request that ran alone caused (budget.limits.request_admission)."""
    passed = [row for row in found if _is_passed(row)]
    if not passed:
        return list(found)
    since = min(window_boundaries.start_of(row["window"], now) for row in passed)
    async with services.store.read() as tx:
        alone = await audit_log.of_action(tx, EXCESS, since, limit=_EXCESSES)
    return [
        {**row, "excess": row["used"] - row["limit"]}
        if _is_passed(row) and any(_is_about(each, row, now) for each in alone)
        else row
        for row in found
    ]


def _is_passed(row: Mapping[str, Any]) -> bool:
    """Return whether use exceeds one of Muster's own limits. Provider windows do not count."""
    return row["unit"] != "share" and row["used"] is not None and row["used"] > row["limit"]


def _is_about(excess: AuditRow, row: Mapping[str, Any], now: float) -> bool:
    """Return whether a request ran alone under this limit in the current window."""
    told = excess.arguments
    return (
        all(told.get(name) == row[name] for name in ("kind", "scope", "unit", "window"))
        and (row["kind"] == "pool" or told.get("agent") == row["agent"])
        and excess.at >= window_boundaries.start_of(row["window"], now)
    )


def _excess_words(row: Mapping[str, Any]) -> str:
    beyond = amounts.amount(row["excess"], row["unit"])
    return (
        f"{markdown.code(_named(row))} is {beyond} beyond its limit: a request ran alone, and less of its input came "
        f"from the cache than expected. {command_line('audit')} lists it as `{EXCESS}`."
    )


def set_json(limit: HeldLimit, now: float) -> dict[str, Any]:
    """Return a limit that was just set, in the format of ``budget --json``."""
    if limit.unit != "share":
        return _json({"agent": None, **_plain(limit)}, None, now, None)
    return {
        **_json({"agent": None, **_plain(limit), "window": None}, None, now, None),
        "limit": limit.amount,
        "window": limit.window,
        "reset_at": timestamp(limit.reset_at),
        "reset_confidence": None if limit.reset_at is None else "user",
    }


def _plain(limit: HeldLimit) -> dict[str, Any]:
    return {
        "kind": limit.kind,
        "scope": limit.scope,
        "amount": limit.amount,
        "unit": limit.unit,
        "window": limit.window,
        "policy": limit.policy,
    }


def _json(
    limit: Mapping[str, Any], seen: Mapping[str, Any] | None, now: float, snapshot: PaceSnapshot | None
) -> dict[str, Any]:
    """Return a limit in the format of ``budget --json``. Unknown values are None."""
    # No one writes a fraction of a token: programs get whole numbers of them, from whichever side they come.
    amount = int(limit["amount"]) if limit["unit"] == "tokens" else limit["amount"]
    end = window_boundaries.end_of(limit.get("window"), now)
    agent = limit.get("agent")
    scope = scope_of(limit["kind"], limit["scope"])
    whose = f"agent:{agent}" if agent is not None else scope
    key = f"{whose}/{limit['unit']}/{limit.get('window') or 'all'}"
    paced = None if snapshot is None or limit.get("window") is None else snapshot.figures(key)
    # A limit without a window has no pace, and only the egress counts its use.
    used = paced.used if paced is not None else None if seen is None else seen["used"]
    reserved = paced.reserved if paced is not None else None if seen is None else seen["reserved"]
    if limit["unit"] == "tokens":
        used, reserved = (None if each is None else int(each) for each in (used, reserved))
    return {
        "scope": scope,
        "agent": agent,
        "kind": limit["kind"],
        "limit": amount,
        "unit": limit["unit"],
        "used": used,
        "reserved": reserved,
        "remaining": None if used is None or reserved is None else max(0, amount - used - reserved),
        "window": limit.get("window"),
        "reset_at": timestamp(end),
        # The calendar defines the start of Muster's own windows.
        "reset_confidence": None if end is None else "certain",
        "policy": limit["policy"],
        # Reserved amounts are not used up: most of a reservation is released again.
        "state": None if used is None else "used up" if used >= amount else "open",
        "pace": None if paced is None or end is None else pace_json(paced),
        # The egress counts its own use continuously, so it is either known or unknown.
        "at_least": None,
        "seen_at": None,
        "governed_by": None,
        "excess": 0,
    }


def share_windows(snapshot: PaceSnapshot) -> list[dict[str, Any]]:
    """Return the windows of subscriptions, and the configured shares of them."""
    found = []
    for standing in snapshot.standings.values():
        window = standing.window
        if window.unit != "share":
            continue
        each = figures(standing, snapshot.now, snapshot.policy, snapshot.gates.get(window.key))
        quota = "/share/" not in window.key
        found.append(
            {
                "scope": window.scope,
                "agent": window.scope.removeprefix("agent:") if window.scope.startswith("agent:") else None,
                "kind": "quota" if quota else "allowance" if window.scope.startswith("agent:") else "pool",
                "limit": each.limit,
                "unit": "share",
                "used": rounded(each.used),
                "reserved": rounded(each.reserved),
                "remaining": rounded(each.remaining),
                "window": window.key.rpartition("/")[2] if quota else window.key.partition("/share/account:")[2],
                "reset_at": timestamp(each.resets_at),
                "reset_confidence": each.certainty,
                # The provider itself rejects requests at the limit of its own window.
                "policy": "provider" if quota else snapshot.policies.get(window.key, "cutoff"),
                "state": each.state,
                "pace": pace_json(each),
                "at_least": rounded(each.at_least),
                "seen_at": timestamp(seen_at(window)),
                "governed_by": None,
                "excess": 0,
            }
        )
    return found


def rounded(amount: float | None) -> float | None:
    """Return a figure for programs; unknown values are None."""
    return None if amount is None else round(amount, 6)


def seen_at(window: Window) -> float | None:
    """Return the time of the last observation of a window, even if it is outdated."""
    return window.used_at if window.last_seen is None else window.last_seen.at


def seen_words(last: LastSeen | None, unit: Unit, now: float) -> str | None:
    """Return what is known of a window whose current use is unknown, as text, or None."""
    if last is None:
        return None
    ago = f"{markdown.span(now - last.at)} ago"
    since = f"{amounts.tokens(last.tokens_since)} tokens went through here since"
    if last.used is None:
        return f"it was seen {ago}, before it reset, and {since}"
    return f"{amounts.amount(last.used, unit)} was seen {ago}, and {since}"


def pace_json(found: Figures) -> dict[str, Any]:
    """Return a window's position relative to its line, in its unit. Unknown values are None."""
    return {
        "window": found.key,
        # Without a spread, all of the limit may be used at any time.
        "line": rounded(found.limit if found.line is None else found.line),
        "drawn_at": timestamp(found.drawn_at),
        "ahead": rounded(found.ahead),
        # If use is unknown, no amount is free: one task at a time measures it.
        "may_use_now": rounded(found.may_use_now),
        # Only authorizations that count in this unit: authorized tokens are no dollars.
        "authorized": rounded(found.authorized),
    }


def table(found: Sequence[Mapping[str, Any]], *, unknown: str) -> str:
    """Return limits in the format of ``budget --json`` as a table for a chat room; `unknown` marks unknown values."""
    shown = found[:_ROWS]
    # Nothing is reserved most of the time, and a phone is narrow.
    held = any(each["reserved"] for each in shown)
    rows = [
        (
            markdown.one_line(_named(each), 40),
            f"{amounts.amount(each['limit'], each['unit'])}{_per(each)}",
            _used(each, unknown),
            *([_reserved(each, unknown)] if held else []),
            unknown if each["remaining"] is None else amounts.amount(each["remaining"], each["unit"]),
            _pace(each),
            f"{_MARKS.get(str(each['state']), '❓' if unknown == '?' else '⚪')} {each['policy']}",
        )
        for each in shown
    ]
    more = f"\n\n{len(found) - _ROWS:,} more." if len(found) > _ROWS else ""
    titles = ("scope", "limit", "used", *(["reserved"] if held else []), "left", "now", "then")
    return markdown.table(titles, rows) + more


def _used(each: Mapping[str, Any], unknown: str) -> str:
    if each["used"] is not None:
        return amounts.amount(each["used"], each["unit"])
    return unknown if each["at_least"] is None else f"≥ {amounts.amount(each['at_least'], each['unit'])}"


def _reserved(each: Mapping[str, Any], unknown: str) -> str:
    return unknown if each["reserved"] is None else amounts.amount(each["reserved"], each["unit"])


def _per(each: Mapping[str, Any]) -> str:
    if each["unit"] != "share":
        return amounts.per(each["window"])
    account, _, window = str(each["window"]).rpartition("/")
    return f" of {window} of {account}" if account else f" of {window}"


def _pace(each: Mapping[str, Any]) -> str:
    """Return the amount that the pace allows now."""
    pace = each["pace"]
    if pace is None:
        return "-"
    return "one task at a time" if pace["may_use_now"] is None else amounts.amount(pace["may_use_now"], each["unit"])


def _shares_kept(snapshot: PaceSnapshot) -> list[str]:
    """Return a line for each share: whether the egress enforces it or it only paces."""
    lines = []
    for standing in snapshot.standings.values():
        window = standing.window
        if window.unit != "share" or "/share/" not in window.key:
            continue
        _, _, of = window.key.partition("/share/account:")
        account, _, name = of.partition("/")
        share = (
            f"{markdown.code(shown_scope(window.scope))} {amounts.percent(window.known_limit)} of {name} of {account}"
        )
        if window.per_token and window.begins_at is not None:
            tokens = amounts.tokens(window.known_limit / window.per_token)
            lines.append(f"{share}: about {tokens} tokens, which the egress enforces")
        else:
            lines.append(f"{share}: the pace follows it; the egress enforces it once the share of a token is known")
    return lines


def _notes(lines: Sequence[str]) -> str:
    return "\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _resets(snapshot: PaceSnapshot, services: PacingServices) -> list[str]:
    """Return when the windows of subscriptions reset, and how this is known."""
    lines = []
    zone = services.settings.timezone
    for standing in snapshot.standings.values():
        window = standing.window
        if window.unit != "share" or "/share/" in window.key:
            continue
        seen = seen_words(window.last_seen, window.unit, snapshot.now)
        also = "" if seen is None else f"; {seen}"
        lines.append(f"{markdown.code(window.key)} {reset_words(standing, snapshot, zone)}{also}")
    return lines


def reset_words(standing: WindowState, snapshot: PaceSnapshot, zone: ZoneInfo) -> str:
    """Return when a window resets and how this is known, as text."""
    window = standing.window
    if window.resets_at is None:
        how = "resets at an unknown time"
        return how if window.certainty == "unknown" else "has no end"
    at = timestamps.shown(window.resets_at, zone, snapshot.now)
    if window.unit != "share":
        return f"resets {at}"
    known = {
        "provider": f"resets {at}, as the provider reports",
        "user": f"resets {at}, as an operator set",
        "estimated": f"resets {at} or somewhat later, by estimate",
        "unknown": "resets at an unknown time",
    }
    return known[window.certainty]


def _authorized(snapshot: PaceSnapshot, services: PacingServices) -> str:
    lines = authorized_words(snapshot, services.settings.timezone)
    return "\n\n" + "\n".join(lines) if lines else ""


def authorized_words(snapshot: PaceSnapshot, zone: ZoneInfo) -> list[str]:
    """Return a line for each current authorization."""
    lines = {}
    for standing in snapshot.standings.values():
        for each in standing.authorizations:
            left = each.left(snapshot.now)
            lines[each.id] = (
                f"⚖️ {markdown.code(shown_scope(each.scope))}: {amounts.amount(left, each.unit)} of "
                f"{amounts.amount(each.amount, each.unit)} are authorized beyond its pace, until "
                f"{timestamps.shown(each.until, zone, snapshot.now)} ({zone.key})."
            )
    return list(lines.values())


def _named(each: Mapping[str, Any]) -> str:
    agent = each.get("agent")
    scope = str(each["scope"])
    if scope.startswith("launch:"):
        # Launch ids mean nothing to people.
        return f"{agent} (this launch)"
    scope = shown_scope(scope)
    return scope if agent is None or scope == f"agent:{agent}" else f"{agent} ({scope})"
