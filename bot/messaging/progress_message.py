"""Progress of a long command, shown as one message in its conversation.

A command reports progress by `Context.progress`. A quick command shows nothing. After a while, one message appears and
is updated as the command proceeds. The answer is a separate message, because it notifies people and is sent exactly
once. The transaction that stores the answer also gives the progress message its final text.

All of this is rows of the outbox, under keys derived from the event of the command. So a command that resumes after a
crash continues with the same message. Whatever happens, no message remains that claims the command is running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.services import MessagingServices
from connectors.contract.messages import Emphasis, Priority
from connectors.delivery import outbox
from core.async_waits import set_within
from core.crash_points import declare

log = structlog.get_logger(__name__)

SHOW = declare("command.progress")

#: Seconds before the first progress message, and between two updates of it.
AFTER = 2.0
EVERY = 2.0


@dataclass(frozen=True, slots=True)
class ProgressMessage:
    """The progress message of one command."""

    services: MessagingServices
    speaker: Composer
    place: MessagePlace
    key: str
    """The message's outbox key."""

    @contextlib.asynccontextmanager
    async def shown(self, *answers: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        """Yield a function for progress texts, and show the latest one until the block ends.

        Args:
            answers: the outbox keys of the command's answer and question; once one exists, no progress is shown.
        """
        if not self.services.capabilities(self.place.connector).edits:
            # A message that cannot be edited would claim for ever that the command is running.
            yield _tell_nobody
            return
        news = _News()
        showing = asyncio.create_task(self._show(news, answers), name=f"headway {self.key}")
        try:
            yield news.tell
        finally:
            news.end()
            await showing

    async def _show(self, news: _News, answers: Sequence[str]) -> None:
        pause = AFTER
        while not await news.over_within(pause):
            text = await news.next()
            if text is not None:
                try:
                    await self._write(text, answers)
                except Exception as error:
                    # Progress is optional, so the command continues.
                    log.warning("command.progress_not_shown", key=self.key, reason=repr(error))
            pause = EVERY

    async def _write(self, text: str, answers: Sequence[str]) -> None:
        can = self.services.capabilities(self.place.connector)
        now = self.services.clock()
        async with self.services.store.write(SHOW) as tx:
            if await outbox.rows(tx, *answers):
                return
            if await outbox.get(tx, self.key) is None:
                first = self.speaker.begin(self.key, f"⏳ {text}", self.place, can, emphasis=Emphasis.NOTICE)
                await outbox.put(tx, first, now)
            else:
                await self._change(tx, f"{now:.3f}", f"⏳ {text}", Priority.PROGRESS)
        self.services.delivery.wake()

    async def end(self, tx: AsyncConnection, state: str) -> None:
        """Set the final text of the message, if there is one. `tx` is the transaction that stores the answer."""
        if await outbox.get(tx, self.key) is not None:
            words = "☑️ Done." if state in ("done", "confirming") else f"✖ {state.capitalize()}."
            await self._change(tx, "end", words, Priority.RECEIPT, final=True)

    async def _change(
        self, tx: AsyncConnection, stage: str, text: str, priority: Priority, *, final: bool = False
    ) -> None:
        can = self.services.capabilities(self.place.connector)
        key = f"{self.key}/{stage}"
        for outbound in self.speaker.replace(
            key, self.key, text, self.place, can, priority=priority, final=final, emphasis=Emphasis.NOTICE
        ):
            await outbox.put(tx, outbound, self.services.clock())


class _News:
    """The latest progress text of a command."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._something = asyncio.Event()
        self._over = asyncio.Event()

    async def tell(self, text: str) -> None:
        self._text = text
        self._something.set()

    def end(self) -> None:
        """Mark the progress as complete."""
        self._over.set()
        self._something.set()

    async def over_within(self, seconds: float) -> bool:
        """Wait for a time, or until the progress is complete. Return whether it is."""
        await set_within(self._over, seconds)
        return self._over.is_set()

    async def next(self) -> str | None:
        """Wait for a new text. Return None when the progress is complete."""
        await self._something.wait()
        self._something.clear()
        return None if self._over.is_set() else self._text


async def _tell_nobody(text: str) -> None:
    """Discard a progress text that cannot be shown."""
