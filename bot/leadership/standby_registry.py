"""Who stands by, so that the one that leads can say it: each writes into the register that it waits, while it does.

A row of `database.queries.operations.leases` per installation, renewed as the leader's is. It grants nothing: who leads
is decided without it (`bot.leadership.standby`), so whoever could not write it stands by all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import TYPE_CHECKING, Final

import structlog

from bot.leadership import lease as tenure
from core.crash_points import declare
from core.errors import RegisterError
from database.queries.operations import leases
from database.queries.operations.leases import LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from database.engine.store import Store
    from database.queries.operations.leases import Lease

log = structlog.get_logger(__name__)

NOTE = declare("standby.note")

#: So begin the names of these leases; no agent can be called so.
PREFIX: Final = "muster:standby:"
#: Rows that were not renewed for so long are dropped, seconds.
STALE_S: Final = 86_400.0


def _owner(state: Path) -> str:
    return f"process {os.getpid()}{tenure.whereabouts(state)}"


def _name(state: Path) -> str:
    return PREFIX + hashlib.blake2s(tenure.whereabouts(state).encode(errors="replace"), digest_size=8).hexdigest()


async def keep(store: Store, state: Path) -> None:
    """Write again and again that this process stands by, until cancelled. What it wrote last soon runs out."""
    lease: Lease | None = None
    while True:
        try:
            lease = await note(store, state, lease)
        except RegisterError as error:
            log.debug("standby.not_noted", reason=str(error))
        await asyncio.sleep(tenure.SHARED_RENEW)


async def note(store: Store, state: Path, before: Lease | None = None) -> Lease:
    """Write that this process stands by: since it wrote `before`, or from now on.

    Raises:
        RegisterError: it could not be written.
    """
    duration = tenure.SHARED_DURATION
    async with store.write(NOTE) as tx:
        now = await tenure.time_of(tx, store, lambda: 0.0)
        await leases.drop(tx, PREFIX, before=now - STALE_S)
        if before is not None:
            try:
                return await leases.renew(tx, before, now=now, duration=duration)
            except LeaseLost:
                log.debug("standby.note_lost")
        left = await leases.find(tx, _name(state))
        if left is not None:
            # Of each installation one stands by, and its lock says that this is it.
            await leases.release(tx, left, now=tenure.LET_GO)
        return await leases.acquire(tx, _name(state), _owner(state), now=now, duration=duration)


async def others(tx: AsyncConnection, store: Store, state: Path, clock: Callable[[], float]) -> list[Lease]:
    """Return who stands now, besides this process, which may just have done so; `acquired_at` says since when.

    Raises:
        RegisterError: the register cannot be read.
    """
    if not store.is_shared:
        return []
    now = await tenure.time_of(tx, store, clock)
    return [each for each in await leases.beginning(tx, PREFIX) if each.until > now and each.owner != _owner(state)]
