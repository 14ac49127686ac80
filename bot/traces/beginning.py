"""Where traces begin: with what happens once they are wanted."""

from __future__ import annotations

import secrets
from typing import Final

from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import trace_positions, trace_sources

BEGUN = declare("traces.begin")

#: The row of `trace_positions` with the number that ids are made from, below 2**63.
SALT: Final = "id"


async def begin(store: Store, now: float) -> None:
    """Begin with what comes next, unless traces were sent before.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with store.read() as tx:
        if SALT in await trace_positions.every(tx):
            return
    async with store.write(BEGUN) as tx:
        places = await trace_sources.ends(tx)
        await trace_positions.move(tx, {**places, SALT: secrets.randbits(63)}, now)


async def forget(store: Store) -> None:
    """Forget how far traces came: what happens until they are wanted again is not sent.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with store.read() as tx:
        if not await trace_positions.every(tx):
            return
    async with store.write(BEGUN) as tx:
        await trace_positions.forget(tx)
