"""One orchestrator per register, wherever it runs: a lease in the register, renewed while the orchestrator lives.

`bot.lock` keeps a second one out of an installation. A register can be reached from elsewhere, and an orchestrator that
shared it would take the other's agents for dead. An installation whose orchestrator was killed has its lease back at
once; another one waits until it has run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from bot.errors import UserError
from register import leases
from register.crashpoints import declare
from register.errors import RegisterError
from register.leases import LeaseHeld, LeaseLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from register.leases import Lease
    from register.store import Store

log = structlog.get_logger(__name__)

HOLD = declare("register.hold")

#: The lease; no agent can be called so.
NAME = "muster:orchestrator"
#: Seconds that it lasts, and after which it is renewed.
DURATION = 60.0
RENEW = 15.0


class RegisterInUse(UserError):
    """The orchestrator of another installation has the register."""


@asynccontextmanager
async def held(store: Store, state: Path, clock: Callable[[], float]) -> AsyncIterator[Lease]:
    """Hold the register for the installation whose state lies in `state`, until the block ends.

    Raises:
        RegisterInUse: another installation has it.
    """
    where = f" on {socket.gethostname()}, whose state is in {state}"
    owner = f"process {os.getpid()}{where}"
    try:
        async with store.write(HOLD) as tx:
            now = clock()
            before = await leases.find(tx, NAME)
            if before is not None and before.owner.endswith(where):
                # The installation's own lock says that this one is dead.
                await leases.release(tx, before, now=now)
            lease = await leases.acquire(tx, NAME, owner, now=now, duration=DURATION)
    except LeaseHeld as error:
        raise RegisterInUse(
            f"The register {store.place} is in use by {error.lease.owner}. Stop that Muster (`muster down` there), or "
            "name another register in muster.yaml. If its machine is gone for good, this one can start in "
            f"{max(1.0, error.lease.until - clock()):.0f} s."
        ) from None
    try:
        yield lease
    finally:
        with contextlib.suppress(RegisterError):
            async with store.write(HOLD) as tx:
                await leases.release(tx, lease, now=clock())


async def keep(store: Store, lease: Lease, clock: Callable[[], float]) -> None:
    """Renew it for as long as it is not lost; a register that is away is nobody's.

    Raises:
        RegisterInUse: another installation took it, since this process was away for too long.
    """
    while True:
        await asyncio.sleep(RENEW)
        try:
            async with store.write(HOLD) as tx:
                lease = await leases.renew(tx, lease, now=clock(), duration=DURATION)
        except LeaseLost as error:
            raise RegisterInUse(
                f"{error} Another Muster works with the register {store.place} now; stop one of them."
            ) from None
        except RegisterError as error:
            log.info("tenure.not_renewed", reason=str(error))
