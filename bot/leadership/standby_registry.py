"""The registry of standbys: each standby records in the register that it waits, so that the leader can report it.

Each installation has one row of `database.queries.operations.leases`, renewed like the leader's. The row grants
nothing: `bot.leadership.standby` decides without it who leads. A process that cannot write its row is still a standby.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.leadership import lease as tenure
from core.crash_points import declare
from core.errors import RegisterError
from database.engine.store import Store
from database.queries.operations import leases
from database.queries.operations.leases import Lease, LeaseLost

log = structlog.get_logger(__name__)

NOTE = declare("standby.note")

#: Prefix of the names of these leases; no agent can have such a name.
PREFIX: Final = "muster:standby:"
#: Seconds after which a row that was not renewed is deleted.
STALE_S: Final = 86_400.0


def _owner(state: Path) -> str:
    return f"process {os.getpid()}{tenure.whereabouts(state)}"


def _name(state: Path) -> str:
    return PREFIX + hashlib.blake2s(tenure.whereabouts(state).encode(errors="replace"), digest_size=8).hexdigest()


async def keep(store: Store, state: Path) -> None:
    """Record repeatedly that this process is a standby, until cancelled. The last record then expires soon."""
    lease: Lease | None = None
    while True:
        try:
            lease = await note(store, state, lease)
        except RegisterError as error:
            log.debug("standby.not_noted", reason=str(error))
        await asyncio.sleep(tenure.SHARED_RENEW)


async def note(store: Store, state: Path, before: Lease | None = None) -> Lease:
    """Record that this process is a standby: since it wrote `before`, or from now on.

    Raises:
        RegisterError: the record could not be written.
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
            # This process holds the lock of its installation's only standby, so the other row is stale.
            await leases.release(tx, left, now=tenure.LET_GO)
        return await leases.acquire(tx, _name(state), _owner(state), now=now, duration=duration)


async def others(tx: AsyncConnection, store: Store, state: Path, clock: Callable[[], float]) -> list[Lease]:
    """Return the current standbys except this process, which may have been one; `acquired_at` is their start.

    Raises:
        RegisterError: the register cannot be read.
    """
    if not store.is_shared:
        return []
    now = await tenure.time_of(tx, store, clock)
    return [each for each in await leases.beginning(tx, PREFIX) if each.until > now and each.owner != _owner(state)]
