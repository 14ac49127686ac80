"""A fence around the register: who opened it writes only while its lease is its own.

Each transaction compares the lease's number once it has its turn, and no one acquires a lease out of turn; so what is
committed was written by the holder. Outside the register nothing can be compared at the last moment: there, `in_time`
says whether the lease cannot have run out yet, by seconds that really passed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import RegisterFenced

#: Past SQLAlchemy's expressions, which would cost more than the server does.
_NUMBER = "SELECT token FROM leases WHERE name = $1"


def elapsed() -> float:
    """Return seconds since some moment, those included in which the process was stopped or the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class HeldLease(Protocol):
    """A lease that was acquired."""

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> int: ...


@dataclass(slots=True)
class Fence:
    """What holds for the process that has `lease`."""

    lease: HeldLease
    #: Until when it cannot have run out, on the clock `steady`.
    good_until: float
    steady: Callable[[], float] = elapsed
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is known that somebody else has acquired it."""

    def in_time(self) -> bool:
        """Return whether no one else can have acquired it."""
        return not self.lost.is_set() and self.steady() < self.good_until

    async def check(self, tx: AsyncConnection) -> None:
        """Make sure that the lease is still its holder's, in a transaction whose turn it is.

        Raises:
            RegisterFenced: someone else has acquired it.
        """
        found = (await tx.exec_driver_sql(_NUMBER, (self.lease.name,))).scalar()
        if found != self.lease.token:
            self.lost.set()
            raise RegisterFenced

    def refuse_if_lost(self) -> None:
        """Raises `RegisterFenced` without a look, where it is known already."""
        if self.lost.is_set():
            raise RegisterFenced
