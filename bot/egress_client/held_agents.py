"""The agents without outbound access, according to the egress."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from bot.egress_client.client import is_commanded
from bot.egress_client.services import EgressServices
from budget.scope_names import scope_of
from core.errors import MusterError

#: Seconds that a table of agents waits for the egress.
LOOK_S = 1.0


async def who_is_held(services: EgressServices) -> frozenset[str] | None:
    """Return the agents that are cut off or whose budget is used up, or None if the emergency stop holds all."""
    standing = await look(services) or {}
    if standing.get("estop"):
        return None
    return _commanded(standing) | frozenset(used_up(standing))


async def closed_by_people(services: EgressServices) -> frozenset[str] | None:
    """Return the agents whose outbound access a person closed, or None if the emergency stop holds all."""
    standing = await look(services) or {}
    return None if standing.get("estop") else _commanded(standing)


async def look(services: EgressServices) -> Mapping[str, Any] | None:
    """Return the status of the egress, or None if there is no egress or it does not answer in time."""
    with contextlib.suppress(TimeoutError, MusterError):
        async with asyncio.timeout(LOOK_S):
            return None if services.egress_client is None else await services.egress_client.standing()
    return None


def _commanded(standing: Mapping[str, Any]) -> frozenset[str]:
    told: dict[str, Any] = standing.get("agents") or {}
    return frozenset(name for name, each in told.items() if is_commanded(each.get("denied")))


def used_up(standing: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return by agent the scopes of the limits that are used up."""
    limits = standing.get("limits") or []
    found = {
        name: [
            scope_of(limits[place]["kind"], limits[place]["scope"])
            for place in each.get("governing") or ()
            if limits[place].get("state") == "spent"
        ]
        for name, each in (standing.get("agents") or {}).items()
    }
    return {name: scopes for name, scopes in found.items() if scopes}
