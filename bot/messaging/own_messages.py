"""Lookup of our messages that a chat event refers to: the target of a reaction, or the thread of a message.

People may answer before the register has the chat system's id of our message or thread, especially after a crash. So an
event waits while a send that it may refer to is undecided.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from connectors.delivery import outbox
from connectors.delivery.outbox import Row
from database.engine.store import Store

#: Maximum seconds for which an event waits for an undecided send.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class OwnMessages:
    """Lookup of the messages that we sent."""

    store: Store
    _waiting: set[asyncio.Event] = field(default_factory=set)
    """One event per waiting lookup; all are set when a send is decided."""

    async def find(
        self, connector: str, begins: Sequence[str], look: Callable[[AsyncConnection], Awaitable[Row | None]]
    ) -> Row | None:
        """Return the result of `look` among our messages, or None if the event refers to none.

        Args:
            connector: the connector of the event.
            begins: prefixes of the keys of messages that the event may refer to.
            look: a function that searches the register.
        """
        news = asyncio.Event()
        self._waiting.add(news)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    news.clear()
                    async with self.store.read() as tx:
                        row = await look(tx)
                        if row is not None or not await outbox.undecided(tx, connector, begins=begins):
                            return row
                    await news.wait()
        except TimeoutError:
            return None
        finally:
            self._waiting.discard(news)

    async def decided(self, row: Row) -> None:
        """Wake all lookups, because a send has succeeded or failed."""
        del row
        for news in self._waiting:
            news.set()
