"""The condition of the egress for the command `health`."""

from __future__ import annotations

import asyncio
from typing import Any

from bot.config.accounts import exposed_credentials
from bot.egress_client import emergency_stop
from bot.egress_client.client import EgressClient
from core.errors import MusterError


async def condition(egress_client: EgressClient) -> dict[str, Any]:
    """Return the condition in the shape that ``health --json`` prints."""
    pulled = await asyncio.to_thread(emergency_stop.is_pulled, egress_client.services.paths.state)
    known: dict[str, Any] = {"reachable": None, "estop": pulled, "agents": None, "streams": None, "pid": None}
    known["unwritable"] = None
    try:
        client = await egress_client.source.find()
        status = {} if client is None else await client.status()
    except MusterError as error:
        return {**known, "reachable": False, "detail": str(error)}
    held = "; the emergency stop holds" if pulled else ""
    if client is None:
        if egress_client.trouble is not None:
            return {**known, "reachable": False, "detail": f"{egress_client.trouble}{held}"}
        return {**known, "detail": f"it does not run: no agent needs it yet{held}"}
    known |= {name: _count(status.get(name)) for name in ("agents", "streams", "pid")}
    detail = f"agents: {known['agents']}, requests under way: {known['streams']}"
    detail += held
    if status.get("unwritable"):
        known["unwritable"] = str(status["unwritable"])
        detail += f"; nothing is let out: {known['unwritable']}"
    if (behind := egress_client.behind()) is not None:
        detail += f"; {behind}"
    open_ = await asyncio.to_thread(exposed_credentials, egress_client.services.settings.accounts)
    detail += "".join(f"; {warning}" for warning in open_.values())
    return {**known, "reachable": True, "detail": detail}


def _count(found: object) -> int | None:
    if isinstance(found, int):
        return found
    return len(found) if isinstance(found, list | tuple | dict) else None
