"""How long the register keeps what was said: bodies go after a while, the keys that prevent doubles much later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectors import inbox, outbox
from register.crashpoints import declare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from register.store import Store

SWEEP = declare("chat.sweep")

_DAY: Final = 24 * 3600.0
_BATCH: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Horizon:
    """Ages in seconds beyond which things go."""

    bodies: float = 30 * _DAY
    """Texts of events that were dealt with."""
    keys: float = 400 * _DAY
    """Keys of events; beyond any backfill, or an old event could run a second time."""
    sent: float = 90 * _DAY
    """What was said. Reactions to older messages are no longer recognised; threads are, for ever."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """How many rows a sweep took."""

    bodies: int
    keys: int
    sent: int


async def sweep(store: Store, now: float, horizon: Horizon | None = None) -> Swept:
    """Take away what is beyond the horizon, a few hundred rows at a time, so that nobody waits long for their turn."""
    horizon = horizon or Horizon()

    async def drain(work: Callable[[AsyncConnection, float], Awaitable[int]], before: float) -> int:
        total = 0
        while True:
            async with store.write(SWEEP) as tx:
                count = await work(tx, before)
            total += count
            if count < _BATCH:
                return total

    return Swept(
        bodies=await drain(inbox.clear_bodies, now - horizon.bodies),
        keys=await drain(inbox.forget_keys, now - horizon.keys),
        sent=await drain(outbox.delete_old, now - horizon.sent),
    )
