"""The state of admission control, as the control socket reports it. Ready for JSON; times are seconds since the
epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from budget.limits.scopes import NANO_USD
from egress.ledger.model import LedgerUnwritable
from egress.limits.agent_counter_index import CounterIndex
from egress.limits.blocklist import Blocklist
from egress.limits.limit_counters import LimitCounter, fine
from egress.settings import AgentRegistration


def overview(
    *,
    counters: CounterIndex,
    agents: Mapping[str, AgentRegistration],
    denials: Blocklist,
    streams: Mapping[str, int],
    unwritable: LedgerUnwritable | None,
    now: float,
) -> dict[str, Any]:
    """Return limits, paces, agents and denials.

    ``limits`` has a row for each limit and the scope that it counts. Amounts are weighted tokens or USD, depending on
    ``unit`` (``tokens``, ``usd``). ``agent`` is the owner of an allowance. ``paced`` is what the pace allows now. Under
    ``agents``, ``governing`` lists the indexes in ``limits`` of those that apply to the agent. ``paces`` are the
    windows that have only a pace, because their providers enforce the limit.
    """
    bounding = [counter for counter in counters if counter.limit.bounds]
    places = {id(counter): place for place, counter in enumerate(bounding)}
    owners = {
        id(counter): way.draw.agent
        for way in counters.ways.values()
        for counter in way.counters
        if counter.limit.kind == "allowance"
    }
    denied = {denial.agent: denial._asdict() for denial in denials}
    told = {}
    for name in agents:
        ways = counters.ways_of(name)
        today = ways[0].today if ways else None
        if today is not None:
            today.roll(now)
        governing = dict.fromkeys(
            places[id(counter)] for way in ways for counter in way.counters if counter.limit.bounds
        )
        told[name] = {
            "governing": list(governing),
            "streams": streams.get(name, 0),
            "tokens_today": today.tokens.total if today else 0,
            "usd_today": today.nano_usd / NANO_USD if today else 0.0,
            "requests_today": today.requests if today else 0,
            "denied": denied.get(name),
        }
    return {
        "limits": [limit_row(counter, owners.get(id(counter)), now) for counter in bounding],
        "paces": [_pace(counter, now) for counter in counters if not counter.limit.bounds],
        "agents": told,
        "denials": list(denied.values()),
        "estop": denials.stopped,
        "streams": sum(streams.values()),
        "unwritable": None if unwritable is None else str(unwritable),
    }


def limit_row(counter: LimitCounter, agent: str | None, now: float) -> dict[str, Any]:
    """Return one limit as `overview` has it."""
    standing = counter.standing(now)
    limit = counter.limit

    def shown(amount: int) -> int | float:
        return amount / NANO_USD if limit.unit == "usd" else amount

    return {
        "agent": agent,
        "kind": limit.kind,
        "scope": limit.scope,
        "counted_on": counter.counted_on,
        "account": limit.account,
        "unit": limit.unit,
        "limit": shown(limit.amount),
        "used": shown(standing.used),
        "reserved": shown(standing.reserved),
        "streaming": shown(-(-counter.streaming // fine(limit))),
        "remaining": shown(max(0, standing.left)),
        "window": limit.window,
        "paced": _paced(counter, now),
        "lift": shown(counter.limit.amount - counter.written.amount),
        "window_start": counter.spending.start if limit.window else None,
        "reset_at": standing.ends_at,
        "policy": limit.policy,
        "state": "spent" if counter.spent else "open",
    }


def _pace(counter: LimitCounter, now: float) -> dict[str, Any]:
    return {
        "counted_on": counter.counted_on,
        "window": counter.limit.window,
        "used": counter.standing(now).used,
        "paced": _paced(counter, now),
        "reset_at": counter.spending.ends_at,
    }


def _paced(counter: LimitCounter, now: float) -> float | None:
    """Return what the pace allows now, in the displayed unit; None: all of it."""
    paced = None if counter.pace is None else counter.pace.at(now)
    return None if paced is None else paced / (NANO_USD if counter.limit.unit == "usd" else 1)
