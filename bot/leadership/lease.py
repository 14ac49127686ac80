"""Leadership by lease: one orchestrator leads with a register, wherever it runs, and renews its lease while it lives.

`bot.config.instance_lock` allows one orchestrator per installation. But a register can be reached from other
installations, and a second orchestrator would take the first one's agents for dead. After a crash, the same
installation gets its lease back at once; another one waits until the lease expires (`bot.leadership.standby`).

On a server the lease is short, its times are the server's own, and its token fences every write
(`database.engine.fencing`). An orchestrator that was silent until another one leads can no longer write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.text.errors import UserError
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import RegisterError, RegisterFenced
from database.engine.fencing import Fence, elapsed
from database.engine.store import Store
from database.queries.operations import leases
from database.queries.operations.leases import Lease, LeaseHeld, LeaseLost

log = structlog.get_logger(__name__)

HOLD = declare("register.hold")

#: The name of the lease; no agent can have this name.
NAME = "muster:orchestrator"
#: The lease's duration and renewal interval in seconds: in a file, which only one installation uses, and on a server.
DURATION, RENEW = 60.0, 15.0
SHARED_DURATION, SHARED_RENEW = 20.0, 5.0
#: The end time of a lease that its holder released.
LET_GO = 0.0

_SERVERS_TIME = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS double precision)")


class RegisterInUse(UserError):
    """The orchestrator of another installation uses this register."""

    code = "register.in_use"


class LeadershipLost(UserError):
    """Another orchestrator leads with this register now."""

    code = "register.fenced"


class Succession(Protocol):
    """A callback that gets the new and the previous lease, in the transaction that acquires the lease."""

    async def __call__(self, tx: AsyncConnection, lease: Lease, before: Lease | None, now: float) -> None: ...


@dataclass(slots=True)
class LeaderLease:
    """A period for which this process leads."""

    lease: Lease
    #: The previous lease; None if there never was one.
    before: Lease | None


def whereabouts(state: Path) -> str:
    """Return the suffix that all lease owners of an installation share."""
    return f" on {socket.gethostname()}, whose state is in {state}"


async def time_of(tx: AsyncConnection, store: Store, clock: Callable[[], float]) -> float:
    """Return the time by which leases expire, in seconds since the epoch; the server's time if machines share it."""
    if not store.is_shared:
        return clock()
    now: float = (await tx.execute(_SERVERS_TIME)).scalar_one()
    return now


@asynccontextmanager
async def held(
    store: Store, state: Path, clock: Callable[[], float], succession: Succession | None = None
) -> AsyncIterator[LeaderLease]:
    """Lead with the register until the block ends, for the installation whose state is in `state`.

    The caller already holds the installation's own lock (`bot.config.instance_lock`).

    Raises:
        RegisterInUse: another installation leads with it.
    """
    where = whereabouts(state)
    owner = f"process {os.getpid()}{where}"
    duration = SHARED_DURATION if store.is_shared else DURATION
    now, ticks = clock(), elapsed()
    try:
        async with store.write(HOLD) as tx:
            now = await time_of(tx, store, clock)
            before = await leases.find(tx, NAME)
            if before is not None and before.owner.endswith(where):
                # This process holds the installation's lock, so the previous owner is dead.
                await leases.release(tx, before, now=LET_GO)
            lease = await leases.acquire(tx, NAME, owner, now=now, duration=duration)
            if succession is not None:
                await succession(tx, lease, before, now)
    except LeaseHeld as error:
        raise RegisterInUse(
            f"The register {store.place} is in use by {error.lease.owner}. Stop that Muster (`muster down` there), or "
            "name another register in muster.yaml. If its machine is gone for good, this one can start in "
            f"{max(1.0, error.lease.until - now):.0f} s."
        ) from None
    if store.is_shared:
        store.fence = Fence(lease, good_until=ticks + duration)
    try:
        yield LeaderLease(lease, before)
    finally:
        with contextlib.suppress(RegisterError):
            async with store.write(HOLD) as tx:
                await leases.release(tx, lease, now=LET_GO)


async def keep(store: Store, tenure: LeaderLease, clock: Callable[[], float]) -> None:
    """Renew the lease until it is lost. While the register is away, no orchestrator can acquire it.

    Raises:
        LeadershipLost: another orchestrator leads, because this process was silent for too long.
    """
    duration, pause = (SHARED_DURATION, SHARED_RENEW) if store.is_shared else (DURATION, RENEW)
    while True:
        await _rest(store, pause)
        ticks = elapsed()
        try:
            async with store.write(HOLD) as tx:
                now = await time_of(tx, store, clock)
                tenure.lease = await leases.renew(tx, tenure.lease, now=now, duration=duration)
        except (LeaseLost, RegisterFenced):
            raise LeadershipLost(await _who_leads(store)) from None
        except RegisterError as error:
            log.info("tenure.not_renewed", reason=str(error))
        else:
            if store.fence is not None:
                store.fence.good_until = ticks + duration


async def _rest(store: Store, seconds: float) -> None:
    """Wait until the lease must be renewed, or is known to be lost."""
    if store.fence is None:
        await asyncio.sleep(seconds)
        return
    await set_within(store.fence.lost, seconds)


async def _who_leads(store: Store) -> str:
    by = "another Muster"
    with contextlib.suppress(RegisterError):
        async with store.read() as tx:
            found = await leases.find(tx, NAME)
        by = found.owner if found is not None else by
    return (
        f"This Muster was silent for so long that {by} leads with the register {store.place} now; stop one of them. "
        f"That Muster continues this one's work; nothing was done twice."
    )
