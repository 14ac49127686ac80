"""What agents write to one another, how much, and what each was told of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from database.engine.batched_delete import delete_some
from database.engine.store import insert_once, upsert
from database.queries.record import Record
from database.schema import introductions, peer_messages, peer_pairs


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerMessage(Record):
    #: The id of the message to the receiver.
    id: str
    sender: str
    receiver: str
    #: Both names, sorted.
    pair: str
    thread: str
    #: It waits for an operator's word.
    held: bool
    #: As the room shows it.
    line: str
    sent_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    #: Earlier messages do not count any more.
    counted_from: float = 0.0
    closed_until: float = 0.0


async def add(tx: AsyncConnection, message: PeerMessage) -> bool:
    """Write a message down; False, and nothing is changed, when its id is known."""
    return await insert_once(tx, peer_messages, **message.columns())


async def get(tx: AsyncConnection, message_id: str) -> PeerMessage | None:
    return await PeerMessage.one(tx, select(peer_messages).where(peer_messages.c.id == message_id))


async def count(tx: AsyncConnection, pair: str, after: float) -> int:
    """Return how many messages of two agents went on their way after a moment."""
    table = peer_messages
    where = (table.c.pair == pair, table.c.sent_at > after, table.c.held.is_(False))
    found: int = (await tx.execute(select(func.count()).select_from(table).where(*where))).scalar_one()
    return found


async def held(tx: AsyncConnection, pair: str) -> list[PeerMessage]:
    """Return what waits for an operator's word, oldest first."""
    table = peer_messages
    found = select(table).where(table.c.pair == pair, table.c.held.is_(True)).order_by(table.c.sent_at, table.c.id)
    return await PeerMessage.every(tx, found)


async def let_go(tx: AsyncConnection, message_id: str, now: float) -> None:
    """It waits no longer."""
    await tx.execute(update(peer_messages).where(peer_messages.c.id == message_id).values(held=False, sent_at=now))


async def in_thread(tx: AsyncConnection, pair: str, thread: str) -> bool:
    """Return whether two agents have such a thread."""
    table = peer_messages
    found = select(table.c.id).where(table.c.pair == pair, table.c.thread == thread).limit(1)
    return (await tx.execute(found)).first() is not None


async def pair_of(tx: AsyncConnection, pair: str) -> Pair:
    table = peer_pairs
    row = (await tx.execute(select(table).where(table.c.pair == pair))).one_or_none()
    return Pair() if row is None else Pair(counted_from=row.counted_from, closed_until=row.closed_until)


async def set_pair(tx: AsyncConnection, pair: str, found: Pair) -> None:
    await upsert(tx, peer_pairs, pair=pair, counted_from=found.counted_from, closed_until=found.closed_until)


async def told(tx: AsyncConnection, agent: str) -> Mapping[str, str] | None:
    """Return the roles, by name, of those of whom an agent was told; None: it was told of no one yet."""
    row = (await tx.execute(select(introductions.c.told).where(introductions.c.agent == agent))).one_or_none()
    return None if row is None else row.told


async def tell(tx: AsyncConnection, agent: str, roles: Mapping[str, str], now: float) -> None:
    await upsert(tx, introductions, agent=agent, told=dict(roles), told_at=now)


async def forget(tx: AsyncConnection, before: float) -> int:
    """Delete what was written before `before`; says how many messages went."""
    return await delete_some(tx, peer_messages, peer_messages.c.sent_at < before)
