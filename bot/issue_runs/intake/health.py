"""The health of the forge."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.forge_link import ForgeLink
from bot.read_models.health import ForgeHealth, PartHealth
from database.queries.forge import forge_events, issue_runs
from database.queries.forge.issue_runs import ALIVE

#: Seconds without a look, in times of what is configured, after which it is late.
_LATE = 3.0


async def load(tx: AsyncConnection, link: ForgeLink) -> ForgeHealth:
    """Return what is known of the forge.

    Raises:
        RegisterError: the register is away.
    """
    states = {state: await issue_runs.count(tx, [state]) for state in ALIVE}
    return ForgeHealth(
        host=link.host,
        listens=link.settings.listens,
        webhooks=dict(sorted(link.counts.outcomes.items())),
        last_malformed=link.counts.last_malformed,
        looked_at={str(name): link.looked_at.get(str(name)) for name in link.repositories},
        waiting=await forge_events.count_waiting(tx, link.host),
        runs={state: count for state, count in states.items() if count},
        trouble=dict(link.trouble),
    )


def part(forge: ForgeHealth, *, every: float, now: float) -> PartHealth:
    """Return how the forge does as a part of Muster. Pure.

    Args:
        forge: what is known of it.
        every: seconds between looks, as configured.
        now: seconds since the epoch.
    """
    looked = forge.looked_at
    late = [name for name, at in looked.items() if at is not None and now - at > _LATE * every]
    return PartHealth(
        name=forge.host,
        kind="forge",
        reachable=True if any(at is not None for at in looked.values()) else False if forge.trouble else None,
        impaired=bool(forge.trouble or late),
        detail=_detail(forge, late),
    )


def _detail(forge: ForgeHealth, late: list[str]) -> str:
    said = f"{forge.host}: {len(forge.looked_at)} repositories, {forge.waiting} events wait."
    if late:
        said += f" Not looked at for long: {', '.join(late[:5])}."
    for doing, why in list(forge.trouble.items())[:3]:
        said += f" {doing}: {why}"
    if len(forge.trouble) > 3:
        said += f" And {len(forge.trouble) - 3} more."
    return said
