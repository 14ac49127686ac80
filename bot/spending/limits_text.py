"""Sentences about limits that several views share. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final
from zoneinfo import ZoneInfo

from bot.commands.syntax import command_line
from bot.read_models.limits import LAUNCH_SCOPE, LimitLine, LimitsModel, OverruledLimit, PaceHold, WindowPace
from bot.text import markdown, timestamps
from budget import amounts
from budget.scope_names import shown_scope
from egress.ledger.model import EXCESS

#: Maximum number of agents and tasks that a sentence names.
_NAMED: Final = 6
#: Seconds by which two times of a forecast may differ and are the same.
_SAME_S: Final = 60.0


def name_of(line: LimitLine) -> str:
    """Return whom a limit bounds."""
    if line.scope.startswith("launch:"):
        # Launch ids mean nothing to people.
        return f"{line.agent} (this launch)"
    scope = shown_scope(line.scope)
    return scope if line.agent is None or scope == f"agent:{line.agent}" else f"{line.agent} ({scope})"


def overruled_words(found: OverruledLimit) -> str:
    """Return one sentence: which limit does not apply to which agents, and which one does."""
    amount = amounts.amount(found.limit, found.unit)
    per = amounts.per(found.window) if found.unit != "share" else ""
    what = f"{markdown.code(shown_scope(found.scope))} ({amount}{per})"
    if found.by.scope == found.scope:
        return f"{what} of the files does not hold: a limit that was set by command replaces it."
    why = f"{markdown.code(found.by.scope)} is more specific and governs"
    if found.by.scope == LAUNCH_SCOPE:
        why = "an admin launched with `--budget`, which governs"
        if found.scope.startswith("agent:"):
            why = "an admin launched it with `--budget` after that, which governs"
    return f"{what} does not hold for {_some(found.by.agents)}: {why}."


def excess_words(line: LimitLine) -> str:
    """Return how far a limit was exceeded by a request that ran alone."""
    beyond = amounts.amount(line.excess, line.unit)
    return (
        f"{markdown.code(name_of(line))} is {beyond} beyond its limit: a request ran alone, and less of its input came "
        f"from the cache than expected. {command_line('audit')} lists it as `{EXCESS}`."
    )


def seen_words(window: WindowPace, now: float) -> str | None:
    """Return what is known of a window whose current use is unknown, or None."""
    if window.outdated_at is None:
        return None
    ago = f"{markdown.span(now - window.outdated_at)} ago"
    since = f"{amounts.tokens(window.outdated_tokens)} tokens went through here since"
    if window.outdated_used is None:
        return f"it was seen {ago}, before it reset, and {since}"
    return f"{amounts.amount(window.outdated_used, window.unit)} was seen {ago}, and {since}"


def reset_words(window: WindowPace, now: float, zone: ZoneInfo) -> str:
    """Return when a window resets and how this is known."""
    if window.resets_at is None:
        return "resets at an unknown time" if window.certainty == "unknown" else "has no end"
    at = timestamps.shown(window.resets_at, zone, now)
    if window.unit != "share":
        return f"resets {at}"
    known = {
        "provider": f"resets {at}, as the provider reports",
        "user": f"resets {at}, as an operator set",
        "estimated": f"resets {at} or somewhat later, by estimate",
        "unknown": "resets at an unknown time",
    }
    return known[window.certainty]


def authorized_words(model: LimitsModel) -> list[str]:
    """Return a line for each current authorization."""
    zone = ZoneInfo(model.zone)
    return [
        f"⚖️ {markdown.code(shown_scope(each.scope))}: {amounts.amount(each.left, each.unit)} of "
        f"{amounts.amount(each.amount, each.unit)} are authorized beyond its pace, until "
        f"{timestamps.shown(each.until, zone, model.at)} ({model.zone})."
        for each in model.authorizations
    ]


def outlook_words(window: WindowPace, now: float, zone: ZoneInfo) -> list[str]:
    """Return what the pace holds, and what it will hold if use goes on at the present rate. Empty: nothing."""
    made = window.projection
    held = [each for each in window.holds if each.since <= now]
    lines = []
    if held:
        again = min((each.until for each in held if each.until is not None), default=None)
        when = "" if again is None else f", until {timestamps.shown(again, zone, now)} if nothing else is used"
        lines.append(f"It holds {_held(held)}{when}.")
    if made is None or not made.rate:
        return lines
    full = math.inf if made.meets_limit_at is None else made.meets_limit_at
    coming = [
        f"{what} {timestamps.shown(at, zone, now)}"
        for what, at in (
            # Where only the limit holds work, that is the same moment.
            ("new work waits from", _before(made.holds_at, full)),
            ("running work is slowed down from", _before(made.throttles_at, full)),
            ("the limit is met", made.meets_limit_at),
        )
        if at is not None and at > now
    ]
    if coming:
        next_ = [each for each in window.holds if each.since > now]
        whom = f" It would hold {_held(next_)}." if next_ else ""
        lines.append(f"At the present rate, {_and(coming)}.{whom}")
    return lines


def _before(at: float | None, end: float) -> float | None:
    return at if at is not None and at < end - _SAME_S else None


def _held(holds: Sequence[PaceHold]) -> str:
    parts = []
    for what in ("task", "run"):
        if those := [each.name for each in holds if each.what == what]:
            parts.append(f"the {what}{'s' if len(those) > 1 else ''} {_some(those)}")
    agents = [each.name for each in holds if each.what == "agent"]
    if agents:
        parts.append(f"the requests of {_some(agents)}")
    return " and ".join(parts)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
