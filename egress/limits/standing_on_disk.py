"""The limits of an egress that does not run, with what its ledger says was used of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from budget.limits.precedence import governing
from budget.limits.scopes import Draw, Limit, counted_on, of_role
from egress.ledger.hourly_aggregates import Used
from egress.limits.agent_counter_index import draws_of, limit_of, weights_of
from egress.limits.limit_counters import LimitCounter, key
from egress.limits.view import limit_row
from egress.settings import AgentRegistration, EgressSettings

#: What a pool draws on does not depend on the agent.
_NOBODY = Draw(agent="", launch_id="", provider="", account="")


def limits_on_disk(
    settings: EgressSettings,
    agents: Iterable[AgentRegistration],
    used_since: Callable[[float], Sequence[Used]],
    now: float,
) -> list[dict[str, Any]]:
    """Return the limits as `egress.limits.view` has them. What requests reserve is unknown: None.

    Args:
        settings: what the egress was told last.
        agents: the agents that it serves.
        used_since: returns the usage from a time on.
        now: seconds since the epoch.

    Raises:
        SettingsRefused: a limit is invalid.
    """
    counters: dict[tuple[Any, ...], tuple[LimitCounter, str | None]] = {}

    def add(limit: Limit, draw: Draw) -> None:
        counted = counted_on(limit, draw)
        name = key(limit, counted)
        known = counters.get(name)
        # Of two equal limits, the lower amount applies.
        if known is None or limit.amount < known[0].limit.amount:
            owner = draw.agent if limit.kind == "allowance" else None
            counters[name] = LimitCounter(limit, counted, now), owner

    common = [limit_of(each) for each in settings.limits]
    for agent, draw in draws_of(agents):
        for limit in governing([*common, *map(limit_of, agent.limits)], draw):
            add(limit, draw)
    for limit in common:
        if limit.kind == "pool":
            add(limit, _NOBODY)
    weights = weights_of(settings)
    for start in {counter.spending.start for counter, _ in counters.values()}:
        waiting: dict[str, list[LimitCounter]] = {}
        for counter, _ in counters.values():
            if counter.spending.start == start:
                waiting.setdefault(counter.counted_on, []).append(counter)
        for used in used_since(start):
            for scope in _scopes(used):
                for counter in waiting.get(scope, ()):
                    counter.load(used.tokens, used.nano_usd, used.requests, weights)
    unknown = dict.fromkeys(("reserved", "streaming", "remaining", "paced"))
    return [limit_row(counter, owner, now) | unknown for counter, owner in counters.values()]


def _scopes(used: Used) -> tuple[str, ...]:
    if used.role:
        return of_role(used.role, used.account)
    draw = Draw(
        agent=used.agent,
        launch_id=used.launch_id,
        profiles=used.profiles,
        provider=used.provider,
        account=used.account,
    )
    return draw.every_scope
