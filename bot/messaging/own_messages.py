"""What of ours an event in chat is about: a message that someone reacts to, a thread that someone writes in.

Someone may answer before we have written down what the chat system calls our message or thread, most of all when a
crash came in between. So while any send is undecided that an event may be about, the event waits for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectors.delivery import outbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from connectors.delivery.outbox import Row
    from database.engine.store import Store

#: Seconds for which an event waits for what it may be about.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Utterances:
    """What we said."""

    store: Store
    _waiting: set[asyncio.Event] = field(default_factory=set)
    """Set whenever the fate of something we said is known; each that waits has its own."""

    async def find(
        self, connector: str, begins: Sequence[str], look: Callable[[AsyncConnection], Awaitable[Row | None]]
    ) -> Row | None:
        """Return what `look` finds of what we said; None when it is not ours.

        Args:
            connector: where it was said.
            begins: with what the keys begin of what it may be about.
            look: looks into the register.
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
        """To be called when it is known of something we said whether it stands."""
        del row
        for news in self._waiting:
            news.set()
