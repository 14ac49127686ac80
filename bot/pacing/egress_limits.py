"""What the egress enforces beyond plain limits: shares of windows, lifts by authorizations, and paces. Pure.

The egress counts tokens and money, and enforces limits even while Muster is down. So a share of a provider's window is
converted to tokens at the learned rate. An authorization becomes a lift of Muster's own limits by its unused rest. The
lift ends with the authorization or the window, whichever is first; otherwise the next window would grant it twice.

A pace is how far running work may get ahead of its line (budget.windows.overrun_allowance). A pace in shares of a
provider's window is converted to the tokens that went through this egress, plus the rest at the learned rate. Without a
known rate, the egress paces nothing. The egress gets no windows of model families, because it counts an account's
tokens regardless of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil, floor, inf, isfinite, log10
from typing import NamedTuple

from bot.pacing.window_inputs import (
    Budgeted,
    CountStart,
    Spender,
    UsedSince,
    WindowInputs,
    budgeted,
    governing_allowances,
)
from budget.limits.scopes import MOST, NANO_USD
from budget.windows import window_boundaries, window_key
from budget.windows.even_spread_line import PacePolicy, burst_on, line_at
from budget.windows.overrun_allowance import PaceAllowance, overrun
from budget.windows.pace_admission import WindowState, worth
from egress.settings import LimitSettings, PaceSettings

#: Number of significant digits of limits, so that not every token changes the settings.
_DIGITS = 3
#: Number of digits of paces, so that steps are at most a hundredth of a window.
_PACE_DIGITS = 2


def enforced(
    limits: Sequence[LimitSettings], facts: WindowInputs, standings: Mapping[str, WindowState], policy: PacePolicy
) -> tuple[LimitSettings, ...]:
    """Return the limits that the egress is to enforce now.

    Args:
        limits: limits in tokens and money, without lifts.
        facts: the window inputs.
        standings: the window states computed from these inputs.
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
    """Return how much may be used beyond the limit, in the window's unit. The rest below the limit is used first."""
    window = standing.window
    used = window.known_use
    if used is None or window.is_quota:
        return 0.0
    left = sum(worth(each, window, each.left(now)) for each in standing.authorizations)
    # Some of it may be used but not recorded yet (budget.windows.pace_admission.settled).
    line = standing.line
    paced = line_at(line, now) + max(0.0, burst_on(line, window, policy, now) - line.ahead)
    left -= max(0.0, used - min(paced, max(line.limit, line.drawn_used)))
    return _rounded(max(0.0, used + left - window.known_limit)) if left > 0 else 0.0


class _Known(NamedTuple):
    now: float
    policy: PacePolicy
    standings: Mapping[str, WindowState]


def _own(limits: Sequence[LimitSettings], mine: str, spender: Spender, known: _Known) -> list[LimitSettings]:
    """Return copies of the allowances that govern an agent with an authorization, scoped to that agent.

    Other agents under the same allowances must not profit from its authorization.
    """
    allowances = [limit for limit in limits if limit.kind == "allowance"]
    own = [limit.model_copy(update={"scope": mine}) for limit in governing_allowances(allowances, spender)]
    return [_lifted(limit, mine, known) for limit in own]


def _lifted(limit: LimitSettings, scope: str, known: _Known) -> LimitSettings:
    standing = known.standings.get(window_key.of_limit(scope, limit.unit, limit.window))
    return limit if standing is None else _with(limit, lift_of(standing, known.now, known.policy), standing)


def _with(limit: LimitSettings, lift: float, standing: WindowState) -> LimitSettings:
    # A lift below the smallest countable amount is none (budget.limits.scopes.amount_of).
    if lift * (NANO_USD if limit.unit == "usd" else 1) < 1:
        return limit
    until = min(each.until for each in standing.authorizations)
    if standing.window.resets_at is not None:
        until = min(until, standing.window.resets_at)
    return limit.model_copy(update={"lift": lift, "lift_until": until})


def _shares(facts: WindowInputs, known: _Known) -> Iterator[LimitSettings]:
    """Yield limits for shares of running windows whose size in tokens is known."""
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
    """Return the window in the egress's notation, or None if its start is unknown or the egress cannot count it.

    Providers may report arbitrary windows. The egress would refuse all limits if it could not count one of them.
    """
    begins, length = _begins(standing), standing.window.length
    if begins is None or length is None:
        return None
    written = window_boundaries.from_moment(begins, length)
    return written if window_boundaries.is_from_moment(written) else None


def _begins(standing: WindowState) -> float | None:
    """Return when the window began. A reported reset varies between responses, so the line's reset is used for it."""
    window, line = standing.window, standing.line
    if window.certainty in ("provider", "user") and line.resets_at is not None and window.length is not None:
        return line.resets_at - window.length
    return window.begins_at


def tokens_of(each: Budgeted, standing: WindowState, facts: WindowInputs) -> float | None:
    """Return the size of a share in weighted tokens, or None if that is not learned yet."""
    window = standing.window
    per_token = window.per_token
    if per_token is None or per_token <= 0:
        return None
    tokens = each.limit.amount / per_token
    if each.scope == f"account:{each.limit.of}":
        # Others use the account, too. Its rest is added to what went through this egress.
        if window.known_use is None or window.begins_at is None:
            return None
        ours = facts.used.get(CountStart(each.scope, window.begins_at, each.limit.of), UsedSince()).tokens
        tokens = ours + max(0.0, each.limit.amount - window.known_use) / per_token
    return max(1.0, _rounded(min(tokens, MOST)))


def _rounded(amount: float) -> float:
    """Round down to a few digits."""
    if amount <= 0:
        return 0.0
    step = 10.0 ** (floor(log10(amount)) + 1 - _DIGITS)
    return floor(amount / step + 1e-9) * step


def paces(facts: WindowInputs, standings: Mapping[str, WindowState], policy: PacePolicy) -> tuple[PaceSettings, ...]:
    """Return the paces that the egress is to enforce.

    Args:
        facts: the window inputs.
        standings: the window states computed from these inputs.
        policy: how strictly the pace is kept.
    """
    return (*_of_limits(facts, standings, policy), *_of_quotas(facts, standings, policy))


def _of_limits(facts: WindowInputs, standings: Mapping[str, WindowState], policy: PacePolicy) -> Iterator[PaceSettings]:
    for each in budgeted(facts.held, facts.spenders):
        standing = standings.get(each.key)
        if standing is None or (pace := overrun(standing, facts.now, policy)) is None:
            continue
        limit = each.limit
        if limit.unit != "share":
            made = _told(pace, counted_on=each.scope, window=limit.window)
            yield made.model_copy(update={"unit": limit.unit})
            continue
        in_tokens, window = _in_tokens(pace, standing, facts, limit.of), window_of(standing)
        if in_tokens is not None and window is not None:
            yield _told(in_tokens, counted_on=f"{each.scope}/account:{limit.of}", window=window)


def _of_quotas(facts: WindowInputs, standings: Mapping[str, WindowState], policy: PacePolicy) -> Iterator[PaceSettings]:
    for quota in facts.quotas:
        standing = standings.get(quota.key)
        if standing is None or "_" in quota.name:
            continue
        pace, window = overrun(standing, facts.now, policy), window_of(standing)
        if pace is None or window is None:
            continue
        in_tokens = _in_tokens(pace, standing, facts, None)
        if in_tokens is not None:
            told = _told(in_tokens, counted_on=f"account:{quota.account}", window=window)
            yield told.model_copy(update={"by_itself": True})


def _in_tokens(pace: PaceAllowance, standing: WindowState, facts: WindowInputs, of: str | None) -> PaceAllowance | None:
    """Convert a share's allowance to weighted tokens through this egress; return None without a learned rate."""
    window = standing.window
    per_token, used, begins = window.per_token, window.known_use, window.begins_at
    if per_token is None or not per_token > 0 or used is None or begins is None:
        return None
    ours = facts.used.get(CountStart(window.scope, begins, of))
    if ours is None and used > 0:
        return None
    here = (ours or UsedSince()).tokens

    def tokens(share: float) -> float:
        # Others use the account, too. Its rest is added to what went through this egress.
        return here + (share - used) / per_token

    made = replace(
        pace,
        from_amount=tokens(pace.from_amount),
        until_amount=tokens(pace.until_amount),
        lift=pace.lift / per_token,
    )
    return made if made.is_sane else None


def _told(pace: PaceAllowance, *, counted_on: str, window: str | None) -> PaceSettings:
    size = pace.until_amount - pace.from_amount
    return PaceSettings(
        counted_on=counted_on,
        window=window or "",
        from_at=pace.from_at,
        from_amount=_rounded_up(pace.from_amount, size),
        until_at=pace.until_at,
        until_amount=_rounded_up(pace.until_amount, size),
        lift=_rounded_up(pace.lift, size),
        lift_until=pace.lift_until if pace.lift > 0 else None,
    )


def _rounded_up(amount: float, size: float) -> float:
    """Round up, in steps that are small relative to the size."""
    step = 10.0 ** (floor(log10(size)) - _PACE_DIGITS) if isfinite(size) and size > 0 else 0.0
    steps = amount / step if step > 0 else inf
    return ceil(steps - 1e-9) * step if isfinite(steps) else amount
