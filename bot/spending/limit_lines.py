"""Puts together what is known of each limit: its settings, the egress's count, its pace and its precedence. Pure.

It imports nothing heavy, so that limits can be shown without the orchestrator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bot.read_models.limits import GovernedBy, LimitLine, OverruledLimit, WindowPace
from bot.read_models.provenance import Provenance
from budget.scope_names import scope_of
from budget.windows import window_boundaries, window_key
from budget.windows.window_key import WindowKey


@dataclass(frozen=True, kw_only=True, slots=True)
class CountedUse:
    """What the egress counts of one limit (`egress.limits.view`)."""

    used: float
    reserved: float | None
    """None: unknown, because only its ledger was read."""


def lines_of(
    set_: Iterable[Mapping[str, Any]],
    standing: Mapping[str, Any] | None,
    paces: Mapping[str, WindowPace],
    policies: Mapping[str, str],
    now: float,
    *,
    known: Provenance | None = None,
) -> list[LimitLine]:
    """Return a line for each limit, in the order of `budget`, without precedence and excess.

    Args:
        set_: the limits that do not belong to one launch (`egress.settings.LimitSettings`, as plain values).
        standing: the state of admission control; None: the egress does not answer.
        paces: the windows by key.
        policies: the policy at the limit by window key.
        now: seconds since the epoch.
        known: who counted what `standing` says; None: the egress, now.
    """
    found = []
    # Shares converted to tokens are left out, because they are shown as shares.
    for each in () if standing is None else standing["limits"]:
        if each.get("account") is None:
            count = CountedUse(used=each["used"], reserved=each["reserved"])
            amount = each["limit"] - each.get("lift", 0)
            found.append(line_of({**each, "amount": amount}, count, paces, now, known or Provenance(source="egress")))
    # Limits of agents that do not run, so the egress does not know them.
    counted = {(each.scope, each.unit, each.window) for each in found}
    idle = [line_of(each, None, paces, now) for each in set_ if each.get("account") is None]
    found += [each for each in idle if (each.scope, each.unit, each.window) not in counted]
    found += [_share(each, policies.get(each.key, "cutoff")) for each in paces.values() if each.unit == "share"]
    return found


def with_precedence(lines: Sequence[LimitLine], overruled: Sequence[OverruledLimit]) -> list[LimitLine]:
    """Add to each allowance the scopes that govern instead of it."""
    by: dict[tuple[str, str, str | None], tuple[GovernedBy, ...]] = {}
    for each in overruled:
        # A limit of a file that a command replaced has no line.
        if each.by.scope != each.scope:
            key = each.scope, each.unit, each.window
            by[key] = (*by.get(key, ()), each.by)
    shown = []
    for line in lines:
        governed_by = by.get((line.scope, line.unit, line.window), ()) if line.kind == "allowance" else ()
        line = replace(line, governed_by=governed_by)
        shown.append(replace(line, state="overruled") if line.governing_scope is not None else line)
    return shown


def line_of(
    limit: Mapping[str, Any],
    count: CountedUse | None,
    paces: Mapping[str, WindowPace],
    now: float,
    known: Provenance | None = None,
) -> LimitLine:
    """Return the line of one limit in tokens or US dollars; see `lines_of`."""
    whole = limit["unit"] == "tokens"
    # No one writes a fraction of a token: views get whole numbers of them, from whichever side they come.
    amount = float(int(limit["amount"])) if whole else limit["amount"]
    window, agent = limit.get("window"), limit.get("agent")
    end = window_boundaries.end_of(window, now)
    scope = scope_of(limit["kind"], limit["scope"])
    whose = f"agent:{agent}" if agent is not None else scope
    pace = None if window is None else paces.get(window_key.of_limit(whose, limit["unit"], window))
    # A limit without a window has no pace, and only the egress counts its use.
    used = pace.used if pace is not None else None if count is None else count.used
    reserved = pace.reserved if pace is not None else None if count is None else count.reserved
    if whole:
        used, reserved = (None if each is None else float(int(each)) for each in (used, reserved))
    return LimitLine(
        scope=scope,
        agent=agent,
        kind=limit["kind"],
        limit=amount,
        unit=limit["unit"],
        used=used,
        reserved=reserved,
        remaining=None if used is None or reserved is None else max(0.0, amount - used - reserved),
        window=window,
        resets_at=end,
        # The calendar defines the start of Muster's own windows.
        reset_source=None if end is None else "certain",
        policy=limit["policy"],
        # Reserved amounts are not used up: most of a reservation is released again.
        state=None if used is None else "used up" if used >= amount else "open",
        pace=None if pace is None or end is None else pace.key,
        known=Provenance() if used is None else known or Provenance(source="register"),
    )


def _share(window: WindowPace, policy: str) -> LimitLine:
    """Return the window of a subscription, or a share of it."""
    key, agents = WindowKey.parse(window.key), window.scope.startswith("agent:")
    known = window.used is not None or window.at_least is not None
    return LimitLine(
        scope=window.scope,
        agent=window.scope.removeprefix("agent:") if agents else None,
        kind="quota" if not key.is_share else "allowance" if agents else "pool",
        limit=window.limit,
        unit="share",
        used=window.used,
        reserved=window.reserved,
        remaining=window.remaining,
        window=f"{key.account}/{key.window}" if key.is_share else key.window,
        resets_at=window.resets_at,
        reset_source=window.certainty,
        # The provider itself rejects requests at the limit of its own window.
        policy=policy if key.is_share else "provider",
        state=window.state,
        at_least=window.at_least,
        seen_at=window.seen_at,
        pace=window.key,
        known=Provenance(source="provider" if known else "none", at=window.seen_at),
    )
