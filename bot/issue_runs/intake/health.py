"""The health of the forge, in the form that ``health --json`` prints."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.forge_link import ForgeLink
from bot.text.timestamps import timestamp
from database.queries.forge import forge_events, issue_runs
from database.queries.forge.issue_runs import ALIVE

#: Seconds without a look, in times of what is configured, after which it is late.
_LATE = 3.0


async def condition(tx: AsyncConnection, link: ForgeLink, now: float) -> dict[str, Any]:
    """Return how the forge does.

    Raises:
        RegisterError: the register is away.
    """
    waiting = await forge_events.count_waiting(tx, link.host)
    states = {state: await issue_runs.count(tx, [state]) for state in ALIVE}
    looked = {str(name): link.looked_at.get(str(name)) for name in link.repositories}
    late = [name for name, at in looked.items() if at is not None and now - at > _LATE * link.settings.every]
    reachable = True if any(at is not None for at in looked.values()) else False if link.trouble else None
    detail = _detail(link, waiting, late)
    return {
        "host": link.host,
        "reachable": reachable,
        "impaired": bool(link.trouble or late),
        "detail": detail,
        "repositories": [{"name": name, "looked_at": timestamp(at)} for name, at in looked.items()],
        "webhooks": {
            "listens": link.settings.listens,
            "outcomes": dict(sorted(link.counts.outcomes.items())),
            "last_malformed": link.counts.last_malformed,
        },
        "waiting": waiting,
        "runs": {state: count for state, count in states.items() if count},
        "trouble": dict(link.trouble),
    }


def _detail(link: ForgeLink, waiting: int, late: list[str]) -> str:
    said = f"{link.host}: {len(link.repositories)} repositories, {waiting} events wait."
    if late:
        said += f" Not looked at for long: {', '.join(late[:5])}."
    for doing, why in list(link.trouble.items())[:3]:
        said += f" {doing}: {why}"
    if len(link.trouble) > 3:
        said += f" And {len(link.trouble) - 3} more."
    return said
