"""What stands at the gate, as it is told to whoever asks. Ready for JSON; times are seconds since the epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from egress.ledger.rows import NANO
from egress.standing import fine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from egress.admission import LedgerUnwritable
    from egress.denials import Denials
    from egress.settings import Registration
    from egress.standing import Tally
    from egress.tallies import Tallies


def overview(
    *,
    tallies: Tallies,
    agents: Mapping[str, Registration],
    denials: Denials,
    streams: Mapping[str, int],
    unwritable: LedgerUnwritable | None,
    now: float,
) -> dict[str, Any]:
    """All of it.

    ``limits`` has a row for each limit and what it is counted on: amounts are weighted tokens or nano-USD, as ``unit``
    says (``tokens``, ``usd``). Under ``agents``, ``governing`` are the places in ``limits`` of those that hold for it.
    """
    places = {id(tally): place for place, tally in enumerate(tallies)}
    denied = {denial.agent: denial._asdict() for denial in denials}
    told = {}
    for name in agents:
        ways = tallies.ways_of(name)
        today = ways[0].today if ways else None
        if today is not None:
            today.roll(now)
        governing = dict.fromkeys(places[id(tally)] for way in ways for tally in way.tallies)
        told[name] = {
            "governing": list(governing),
            "streams": streams.get(name, 0),
            "tokens_today": today.tokens.total if today else 0,
            "nano_usd_today": today.nano_usd if today else 0,
            "usd_today": today.nano_usd / NANO if today else 0.0,
            "requests_today": today.requests if today else 0,
            "denied": denied.get(name),
        }
    return {
        "limits": [_limit(tally, now) for tally in tallies],
        "agents": told,
        "denials": list(denied.values()),
        "estop": denials.stopped,
        "streams": sum(streams.values()),
        "unwritable": None if unwritable is None else str(unwritable),
    }


def _limit(tally: Tally, now: float) -> dict[str, Any]:
    standing = tally.standing(now)
    limit = tally.limit
    return {
        "kind": limit.kind,
        "scope": limit.scope,
        "counted_on": tally.counted_on,
        "unit": limit.unit,
        "limit": limit.amount,
        "used": standing.used,
        "reserved": standing.reserved,
        "streaming": -(-tally.streaming // fine(limit)),
        "remaining": max(0, standing.left),
        "window": limit.window,
        "window_start": tally.spending.start if limit.window else None,
        "reset_at": standing.ends_at,
        "policy": limit.policy,
        "state": "spent" if tally.spent else "open",
    }
