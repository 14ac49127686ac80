"""What the egress is to hold besides plain limits: shares of windows, and what is authorized beyond a limit. Pure.

The egress counts tokens and money, and keeps them while no one else is there. So a share of a provider's window becomes
tokens, as learned; and an authorization a lift of Muster's own limits by what is left of it, until it ends or the
window does, whichever is first: in the next window it would be given twice.
"""

from __future__ import annotations

from math import floor, log10
from typing import TYPE_CHECKING, NamedTuple

from bot.pacing.window_inputs import CountStart, UsedSince, budgeted, governing_allowances
from budget.limits.scopes import MOST, NANO_USD
from budget.windows import window_boundaries
from budget.windows.even_spread_line import burst_on, line_at
from budget.windows.pace_admission import worth
from egress.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bot.pacing.window_inputs import Budgeted, Spender, WindowInputs
    from budget.windows.even_spread_line import PacePolicy
    from budget.windows.pace_admission import WindowState

#: Amounts are told with so many digits, so that not every token makes another.
_DIGITS = 3


def enforced(
    limits: Sequence[LimitSettings], facts: WindowInputs, standings: Mapping[str, WindowState], policy: PacePolicy
) -> tuple[LimitSettings, ...]:
    """Return the limits as the egress is to hold them now.

    Args:
        limits: in tokens and money, without lifts.
        facts: as they were found.
        standings: of the windows that these come to.
        policy: how strictly the pace is kept.
    """
    known = _Known(now=facts.now, policy=policy, standings=standings)
    plain = [limit if limit.kind == "allowance" else _lifted(limit, limit.scope, known) for limit in limits]
    authorized = {row.scope for row in facts.authorizations}
    made: list[LimitSettings] = []
    for spender in facts.spenders.values():
        mine = f"agent:{spender.name}"
        if mine in authorized:
            made += _own(plain, mine, spender, known)
            plain = [limit for limit in plain if not (limit.kind == "allowance" and limit.scope == mine)]
    return (*plain, *made, *_shares(facts, known))


def lift_of(standing: WindowState, now: float, policy: PacePolicy) -> float:
    """By how much more than its limit may be used, in the window's unit. What is left below the limit is used first."""
    window = standing.window
    used = window.known_use
    if used is None or window.is_quota:
        return 0.0
    left = sum(worth(each, window, each.left(now)) for each in standing.authorizations)
    # Some of it may be used up and not written down yet (budget.windows.pace_admission.settled).
    line = standing.line
    paced = line_at(line, now) + max(0.0, burst_on(line, window, policy, now) - line.ahead)
    left -= max(0.0, used - min(paced, max(line.limit, line.drawn_used)))
    return _rounded(max(0.0, used + left - window.known_limit)) if left > 0 else 0.0


class _Known(NamedTuple):
    now: float
    policy: PacePolicy
    standings: Mapping[str, WindowState]


def _own(limits: Sequence[LimitSettings], mine: str, spender: Spender, known: _Known) -> list[LimitSettings]:
    """Return the allowances of an agent for which something is authorized: those that govern it, as its own.

    No one else who has them from the same scope is to have more for it.
    """
    allowances = [limit for limit in limits if limit.kind == "allowance"]
    governed = governing_allowances(((limit.scope, limit.set_at) for limit in allowances), spender)
    governing = [limit for limit in allowances if (limit.scope, limit.set_at) in governed]
    own = [limit.model_copy(update={"scope": mine}) for limit in governing]
    return [_lifted(limit, mine, known) for limit in own]


def _lifted(limit: LimitSettings, scope: str, known: _Known) -> LimitSettings:
    standing = known.standings.get(f"{scope}/{limit.unit}/{limit.window or 'all'}")
    return limit if standing is None else _with(limit, lift_of(standing, known.now, known.policy), standing)


def _with(limit: LimitSettings, lift: float, standing: WindowState) -> LimitSettings:
    # What is less than can be counted is no lift (budget.limits.scopes.amount_of).
    if lift * (NANO_USD if limit.unit == "usd" else 1) < 1:
        return limit
    until = min(each.until for each in standing.authorizations)
    if standing.window.resets_at is not None:
        until = min(until, standing.window.resets_at)
    return limit.model_copy(update={"lift": lift, "lift_until": until})


def _shares(facts: WindowInputs, known: _Known) -> Iterator[LimitSettings]:
    """Shares of which it is known how many tokens they are, in the window that runs."""
    for each in budgeted(facts.held, facts.spenders):
        standing = known.standings.get(each.key)
        if each.limit.unit != "share" or standing is None:
            continue
        tokens = tokens_of(each, standing, facts)
        window = standing.window
        written = window_of(standing)
        if tokens is None or written is None:
            continue
        limit = LimitSettings(
            kind=each.limit.kind,
            scope=each.scope,
            amount=tokens,
            window=written,
            policy=each.limit.policy,
            account=each.limit.of,
        )
        lift = lift_of(standing, facts.now, known.policy)
        yield _with(limit, _rounded(min(lift / (window.per_token or 1.0), MOST)), standing)


def window_of(standing: WindowState) -> str | None:
    """Return a provider's window as the egress counts it; None: it is not known when it began, or it cannot be counted.

    A provider tells of windows what it likes; for one that the egress could not count all limits would be refused.
    """
    begins, length = _begins(standing), standing.window.length
    if begins is None or length is None:
        return None
    written = window_boundaries.from_moment(begins, length)
    return written if window_boundaries.is_from_moment(written) else None


def _begins(standing: WindowState) -> float | None:
    """Return when the window began. Where the reset is told, as the line has it: each response tells it a little
    otherwise."""
    window, line = standing.window, standing.line
    if window.certainty in ("provider", "user") and line.resets_at is not None and window.length is not None:
        return line.resets_at - window.length
    return window.begins_at


def tokens_of(each: Budgeted, standing: WindowState, facts: WindowInputs) -> float | None:
    """Return how many weighted tokens a share of a window is; None: that was not learned yet."""
    window = standing.window
    per_token = window.per_token
    if per_token is None or per_token <= 0:
        return None
    tokens = each.limit.amount / per_token
    if each.scope == f"account:{each.limit.of}":
        # Others use of the account, too: what is left of it is added to what went through here.
        if window.known_use is None or window.begins_at is None:
            return None
        ours = facts.used.get(CountStart(each.scope, window.begins_at, each.limit.of), UsedSince()).tokens
        tokens = ours + max(0.0, each.limit.amount - window.known_use) / per_token
    return max(1.0, _rounded(min(tokens, MOST)))


def _rounded(amount: float) -> float:
    """Down, to a few digits."""
    if amount <= 0:
        return 0.0
    step = 10.0 ** (floor(log10(amount)) + 1 - _DIGITS)
    return floor(amount / step + 1e-9) * step
