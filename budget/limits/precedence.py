"""Precedence of limits: which of those that are set govern a request, and which do not."""

from __future__ import annotations

from collections.abc import Iterable

from budget.limits.scopes import Draw, Limit


def governing(limits: Iterable[Limit], draw: Draw) -> tuple[Limit, ...]:
    """Return the limits that a request must fit under: allowances first, then pools, each in their given order.

    The scopes are checked in this order: launch, agent, profile, extended profiles, host. The first scope with an
    allowance governs, with all its allowances (of several windows or units). Allowances of a launch apply in addition
    to those that would govern without them, so they only lower. If one of them may raise, the launch governs alone. An
    allowance of the agent that an admin sets later still applies, so that it lowers the limit at once. Of profiles that
    were joined, all allowances govern together, so the strictest holds. A pool applies to every request that draws on
    its scope.
    """
    mine = draw.scopes
    held = [limit for limit in limits if limit.scope in mine and limit.account in (None, draw.account)]
    allowances = [limit for limit in held if limit.kind == "allowance"]
    chosen: list[Limit] = []
    joined: tuple[str, ...] = ()
    for scope in mine:
        if joined and scope not in joined:
            break
        found = [limit for limit in allowances if limit.scope == scope]
        chosen += found
        if not found:
            continue
        if draw.is_joined and scope.startswith("profile:"):
            joined = draw.profile_scopes
            continue
        raised_at = max((limit.set_at for limit in found if limit.may_raise), default=None)
        if not scope.startswith("launch:"):
            break
        if raised_at is not None:
            own = f"agent:{draw.agent}"
            chosen += [limit for limit in allowances if limit.scope == own and limit.set_at > raised_at]
            break
    return (*chosen, *(limit for limit in held if limit.kind == "pool"))


def overruled(limits: Iterable[Limit], draw: Draw) -> tuple[tuple[Limit, Limit], ...]:
    """Return the agent's allowances that do not govern, each with the first allowance that governs instead."""
    given = tuple(limits)
    chosen = [limit for limit in governing(given, draw) if limit.kind == "allowance"]
    mine = [limit for limit in given if limit.kind == "allowance" and limit.scope in draw.scopes]
    return tuple((limit, chosen[0]) for limit in mine if limit.account in (None, draw.account) and limit not in chosen)
