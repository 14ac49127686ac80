"""Paces for the egress: how far running work may get ahead of its line (budget.windows.overrun_allowance). Pure.

The egress counts tokens and money. A pace in shares of a provider's window is converted to the tokens that went through
this egress, plus the rest at the learned rate. Without a known rate, the egress paces nothing. The egress gets no
windows of model families, because it counts an account's tokens regardless of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil, floor, inf, isfinite, log10

from bot.pacing.egress_limits import window_of
from bot.pacing.window_inputs import CountStart, UsedSince, WindowInputs, budgeted
from budget.windows.even_spread_line import PacePolicy
from budget.windows.overrun_allowance import PaceAllowance, overrun
from budget.windows.pace_admission import WindowState
from egress.settings import PaceSettings

#: Number of digits: steps are at most a hundredth of a window, so that not every observation changes the settings.
_DIGITS = 2


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
        from_amount=_rounded(pace.from_amount, size),
        until_at=pace.until_at,
        until_amount=_rounded(pace.until_amount, size),
        lift=_rounded(pace.lift, size),
        lift_until=pace.lift_until if pace.lift > 0 else None,
    )


def _rounded(amount: float, size: float) -> float:
    """Round up, in steps that are small relative to the size."""
    step = 10.0 ** (floor(log10(size)) - _DIGITS) if isfinite(size) and size > 0 else 0.0
    steps = amount / step if step > 0 else inf
    return ceil(steps - 1e-9) * step if isfinite(steps) else amount
