"""Write many events in one transaction: two hundred that arrive at once cost a few commits, not two hundred."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from forge.webhooks.event import ForgeEvent

#: No more events go into one transaction, and no more wait.
MOST_AT_ONCE = 512

Write = Callable[[Sequence[ForgeEvent]], Awaitable[None]]
"""Write events durably; those that stand there already are left alone."""


@dataclass(slots=True)
class GroupCommit:
    """While one group is written, the next one gathers."""

    write: Write
    _waiting: list[tuple[ForgeEvent, asyncio.Future[None]]] = field(default_factory=list)
    _writer: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more events can wait. Events whose request gave up wait as well, and are written."""
        return len(self._waiting) >= MOST_AT_ONCE

    async def add(self, event: ForgeEvent) -> None:
        """Return when the event is durable.

        Raises:
            Exception: what the write of its group raised. The event may be durable nevertheless.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((event, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="forge events")
        await done

    async def _write_all(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            try:
                await self.write([event for event, _ in group])
            except BaseException as error:
                for _, done in group:
                    if not done.done():
                        done.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                        done.exception()  # a request that gave up does not look
                if not isinstance(error, Exception):
                    raise
            else:
                for _, done in group:
                    with contextlib.suppress(asyncio.InvalidStateError):
                        done.set_result(None)

    async def close(self) -> None:
        """Wait until what was added is written."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
