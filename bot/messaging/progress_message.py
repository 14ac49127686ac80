"""How far a long command has got, in one message of the chat that it was given in.

A command says it by `Context.progress`. Of a quick one nothing is shown. After a while one message is in the
conversation, and is changed as the command gets on. The answer is a message of its own, since that is what people are
notified of and what is said exactly once; this one then gets a last word, in the transaction that has the answer.

All of it is rows of the outbox, under keys made from the event that gave the command. So a command that is taken up
again after a crash goes on with the same message, and whatever becomes of it, none stays that says it is at work.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from connectors.contract.messages import Emphasis, Priority
from connectors.delivery import outbox
from core.crash_points import declare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.messaging.composer import Composer, MessagePlace
    from bot.messaging.services import MessagingServices

log = structlog.get_logger(__name__)

SHOW = declare("command.progress")

#: Seconds for which nothing is shown of a command, and between two changes of the message.
AFTER = 2.0
EVERY = 2.0


@dataclass(frozen=True, slots=True)
class Headway:
    """The message that shows how far one command has got."""

    services: MessagingServices
    speaker: Composer
    place: MessagePlace
    key: str
    """The message's key in the outbox."""

    @contextlib.asynccontextmanager
    async def shown(self, answer: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        """Until the block ends, show the newest of what the function that it gets is told.

        Args:
            answer: the key of the command's answer in the outbox, after which nothing is shown any more.
        """
        if not self.services.capabilities(self.place.connector).edits:
            # What cannot be changed would say for ever that the command is at work.
            yield _tell_nobody
            return
        news = _News()
        showing = asyncio.create_task(self._show(news, answer), name=f"headway {self.key}")
        try:
            yield news.tell
        finally:
            news.end()
            await showing

    async def _show(self, news: _News, answer: str) -> None:
        pause = AFTER
        while not await news.over_within(pause):
            text = await news.next()
            if text is not None:
                try:
                    await self._write(text, answer)
                except Exception as error:
                    # The command goes on; how far it is may never be seen.
                    log.warning("command.progress_not_shown", key=self.key, reason=repr(error))
            pause = EVERY

    async def _write(self, text: str, answer: str) -> None:
        can = self.services.capabilities(self.place.connector)
        now = self.services.clock()
        async with self.services.store.write(SHOW) as tx:
            if await outbox.get(tx, answer) is not None:
                return
            if await outbox.get(tx, self.key) is None:
                first = self.speaker.begin(self.key, f"⏳ {text}", self.place, can, emphasis=Emphasis.NOTICE)
                await outbox.put(tx, first, now)
            else:
                await self._change(tx, f"{now:.3f}", f"⏳ {text}", Priority.PROGRESS)
        self.services.delivery.wake()

    async def end(self, tx: AsyncConnection, state: str) -> None:
        """The message's last word, if there is a message: the state in which the command ended. `tx` is the transaction
        that puts the answer."""
        if await outbox.get(tx, self.key) is not None:
            words = "☑️ Done." if state == "done" else f"✖ {state.capitalize()}."
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
    """The newest that a command told, for whoever shows it."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._something = asyncio.Event()
        self._over = asyncio.Event()

    async def tell(self, text: str) -> None:
        self._text = text
        self._something.set()

    def end(self) -> None:
        """Nothing more will be told."""
        self._over.set()
        self._something.set()

    async def over_within(self, seconds: float) -> bool:
        """Wait so long, or until it is over; whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return self._over.is_set()

    async def next(self) -> str | None:
        """Wait for something that was not shown yet; None when it is over."""
        await self._something.wait()
        self._something.clear()
        return None if self._over.is_set() else self._text


async def _tell_nobody(text: str) -> None:
    """For what a command tells where it cannot be shown."""
