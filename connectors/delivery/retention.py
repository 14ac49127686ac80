"""How long the register keeps what was said: bodies go after a while, the keys that prevent doubles much later."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from connectors.delivery import inbox, outbox
from core.crash_points import declare
from database.engine.batched_delete import drain
from database.engine.store import Store

SWEEP = declare("chat.sweep")

_DAY: Final = 24 * 3600.0


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
    """Take away what is beyond the horizon, a few hundred rows at a time, so that no one waits long for their turn."""
    horizon = horizon or Horizon()
    return Swept(
        bodies=await drain(store, SWEEP, partial(inbox.clear_bodies, before=now - horizon.bodies)),
        keys=await drain(store, SWEEP, partial(inbox.forget_keys, before=now - horizon.keys)),
        sent=await drain(store, SWEEP, partial(outbox.delete_old, before=now - horizon.sent)),
    )
