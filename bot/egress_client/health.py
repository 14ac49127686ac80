"""The condition of the egress for the command `health`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from bot.config.accounts import exposed_credentials
from bot.egress_client import emergency_stop
from bot.egress_client.client import EgressClient
from bot.read_models.health import EgressFacts, PartHealth
from core.errors import MusterError


async def condition(egress_client: EgressClient) -> PartHealth:
    """Ask the egress how it does."""
    pulled = await asyncio.to_thread(emergency_stop.is_pulled, egress_client.services.paths.state)
    facts = EgressFacts(estop=pulled)
    part = PartHealth(name="egress", kind="egress", impaired=pulled, egress=facts)
    try:
        client = await egress_client.source.find()
        status = {} if client is None else await client.status()
    except MusterError as error:
        return replace(part, reachable=False, detail=str(error))
    held = "; the emergency stop holds" if pulled else ""
    if client is None:
        if egress_client.trouble is not None:
            return replace(part, reachable=False, detail=f"{egress_client.trouble}{held}")
        return replace(part, detail=f"it does not run: no agent needs it yet{held}")
    facts = replace(
        facts,
        agents=_count(status.get("agents")),
        streams=_count(status.get("streams")),
        pid=_count(status.get("pid")),
        unwritable=str(status["unwritable"]) if status.get("unwritable") else None,
    )
    detail = f"agents: {facts.agents}, requests under way: {facts.streams}{held}"
    if facts.unwritable is not None:
        detail += f"; nothing is let out: {facts.unwritable}"
    if (behind := egress_client.behind()) is not None:
        detail += f"; {behind}"
    open_ = await asyncio.to_thread(exposed_credentials, egress_client.services.settings.accounts)
    detail += "".join(f"; {warning}" for warning in open_.values())
    impaired = pulled or facts.unwritable is not None
    return replace(part, reachable=True, impaired=impaired, detail=detail, egress=facts)


def _count(found: object) -> int | None:
    if isinstance(found, int):
        return found
    return len(found) if isinstance(found, list | tuple | dict) else None
