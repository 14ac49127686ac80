"""Leases: a name belongs to one owner for a time, and a number says which time that was.

Whoever acquires a name gets a token that is higher than every token before. A holder that was away for too long finds
out by its token that someone else had the name meanwhile; `check`, in the transaction of what the holder writes, keeps
it from writing after that. An owner is one life of one process or command, in words that tell a person who it is
(``process 4711 on mill``), and unlike any other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.errors import MusterError
from database.engine.store import upsert
from database.queries.record import Record
from database.schema import leases


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease(Record):
    """Who holds a name, or held it last. Times are seconds since the epoch."""

    name: str
    owner: str
    #: The fencing token: higher than that of every earlier lease of this name.
    token: int
    acquired_at: float
    #: No one else gets the name before; afterwards anybody does.
    until: float


class LeaseHeld(MusterError):
    """Someone else holds the name."""

    def __init__(self, lease: Lease, now: float) -> None:
        moment, rest = datetime.fromtimestamp(lease.until, UTC), lease.until - now
        super().__init__(
            f"{lease.name} is held by {lease.owner} until {moment:%Y-%m-%d %H:%M:%S} UTC, in {rest:.0f} s. "
            "Wait until then, or end its holder."
        )
        self.lease = lease


class LeaseLost(MusterError):
    """Someone else has, or had, the name since it was acquired."""

    def __init__(self, lease: Lease, found: Lease | None) -> None:
        other = "it is not in the register any more" if found is None else f"{found.owner} acquired it after that"
        super().__init__(f"{lease.owner} does not hold {lease.name} any more: {other}. Acquire it again.")
        self.found = found


# --- what is decided ---------------------------------------------------------------------------------------------


def granted(found: Lease | None, *, name: str, owner: str, now: float, duration: float) -> Lease:
    """Return the lease that `owner` gets, where `found` is what the register says of the name.

    Raises:
        LeaseHeld: someone else holds it.
    """
    if duration <= 0:
        raise ValueError(f"a lease lasts longer than {duration} s")
    if found is not None and found.owner != owner and found.until > now:
        raise LeaseHeld(found, now)
    token = 1 if found is None else found.token + 1
    return Lease(name=name, owner=owner, token=token, acquired_at=now, until=now + duration)


def confirmed(found: Lease | None, lease: Lease) -> Lease:
    """Return what the register says of `lease`. One that ran out is still its holder's while no one else has acquired
    it.

    Raises:
        LeaseLost: someone else has.
    """
    if found is None or (found.owner, found.token) != (lease.owner, lease.token):
        raise LeaseLost(lease, found)
    return found


# --- what is done ------------------------------------------------------------------------------------------------


async def find(tx: AsyncConnection, name: str) -> Lease | None:
    """Return who holds `name`, or held it last."""
    return await Lease.one(tx, select(leases).where(leases.c.name == name))


async def beginning(tx: AsyncConnection, prefix: str) -> list[Lease]:
    """Return who holds names that begin so, or held them last; the longest first."""
    found = select(leases).where(leases.c.name.startswith(prefix, autoescape=True)).order_by(leases.c.acquired_at)
    return await Lease.every(tx, found)


async def drop(tx: AsyncConnection, prefix: str, *, before: float) -> None:
    """Forget names that begin so and ran out before: their tokens start again, so none may be fenced by them."""
    old = (leases.c.name.startswith(prefix, autoescape=True), leases.c.until < before)
    await tx.execute(delete(leases).where(*old))


async def acquire(tx: AsyncConnection, name: str, owner: str, *, now: float, duration: float) -> Lease:
    """Hold `name` for `duration` seconds. An owner that holds it already gets it again, with a higher token.

    Raises:
        LeaseHeld: someone else holds it.
    """
    lease = granted(await find(tx, name), name=name, owner=owner, now=now, duration=duration)
    await _put(tx, lease)
    return lease


async def renew(tx: AsyncConnection, lease: Lease, *, now: float, duration: float) -> Lease:
    """Hold it for `duration` seconds from now on, under the same token.

    Raises:
        LeaseLost: someone else has acquired it.
    """
    renewed = replace(confirmed(await find(tx, lease.name), lease), until=now + duration)
    await _put(tx, renewed)
    return renewed


async def check(tx: AsyncConnection, lease: Lease) -> None:
    """Make sure, in the transaction of what is written under it, that the lease was not lost.

    Raises:
        LeaseLost: someone else has acquired it.
    """
    confirmed(await find(tx, lease.name), lease)


async def release(tx: AsyncConnection, lease: Lease, *, now: float) -> bool:
    """Let go of it. Its row stays, so that tokens only grow. False: it was lost before."""
    held = (leases.c.name == lease.name, leases.c.owner == lease.owner, leases.c.token == lease.token)
    return (await tx.execute(update(leases).where(*held).values(until=now))).rowcount > 0


async def _put(tx: AsyncConnection, lease: Lease) -> None:
    await upsert(tx, leases, **lease.columns())
