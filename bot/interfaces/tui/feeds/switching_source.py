"""Documents from wherever they can be had: the gateway while Muster runs, files while it does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from bot.gateway_feed.feed import FeedLink
from bot.read_models.documents import Document, DocumentFeed, ReadModel
from bot.text.errors import NotRunning

SourceMode: TypeAlias = Literal["connecting", "live", "lost", "offline"]
"""``lost``: Muster does not answer, and what is shown gets older. ``offline``: it is down; agent hosts are asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """Which way documents come, and since when."""

    mode: SourceMode
    since: float
    why: str = ""
    standby: str | None = None
    """While nothing answers here: that this orchestrator is a standby, and who leads. None: it is none."""


class SwitchingSource:
    """Changes between the gateway and the files by itself."""

    def __init__(
        self,
        gateway: Callable[[Callable[[FeedLink], None]], DocumentFeed],
        offline: DocumentFeed,
        *,
        listens: Callable[[], bool],
        standby: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take both ways.

        Args:
            gateway: makes the feed of the gateway, which calls back when its connection is made or lost.
            offline: the feed for while Muster is down.
            listens: whether something listens on the gateway's socket.
            standby: what to say if the orchestrator of this installation is a standby, or None.
            clock: seconds since the epoch.
        """
        self._gateway = gateway(self._linked)
        self._offline = offline
        self._listens, self._standby = listens, standby
        self._clock = clock
        self._state = SourceState(mode="connecting", since=clock())
        self._tell: Callable[[SourceState], None] = _ignore

    def watch(self, tell: Callable[[SourceState], None]) -> None:
        """Call `tell` each time that the way changes."""
        self._tell = tell

    @property
    def state(self) -> SourceState:
        """Which way documents come now."""
        return self._state

    async def documents(self, names: Collection[str]) -> AsyncGenerator[Document, None]:
        """Yield documents as they change, also over stops and starts of the orchestrator.

        Raises:
            MusterError: the gateway has no document of one of these names, or is another user's.
        """
        while True:
            try:
                async with self._gateway.follow(names) as documents:
                    async for document in documents:
                        yield document
            except NotRunning as error:
                self._become("offline", str(error))
            async with self._offline.follow(names) as documents:
                async for document in _while_down(documents, self._is_back):
                    yield document

    async def older(self, name: str, before: str) -> ReadModel | None:
        """Return an older page of a document.

        Raises:
            MusterError: it cannot be read now.
        """
        return await self._gateway.page(name, before)

    def _is_back(self) -> bool:
        """Return whether the gateway is back; a standby has none until it leads."""
        back = self._listens()
        if not back:
            self._become("offline", self._state.why, self._standby())
        return back

    def _linked(self, link: FeedLink) -> None:
        if link.live:
            self._become("live", "")
        elif self._state.mode != "offline":
            self._become("lost", link.why)

    def _become(self, mode: SourceMode, why: str, standby: str | None = None) -> None:
        if (mode, why, standby) == (self._state.mode, self._state.why, self._state.standby):
            return
        since = self._state.since if mode == self._state.mode else self._clock()
        self._state = SourceState(mode=mode, since=since, why=why, standby=standby)
        self._tell(self._state)


#: Seconds between two looks for a gateway that came back.
LOOK_S = 0.5


async def _while_down(
    documents: AsyncIterator[Document], listens: Callable[[], bool]
) -> AsyncGenerator[Document, None]:
    news = asyncio.ensure_future(anext(documents))
    try:
        while not listens():
            await asyncio.wait({news}, timeout=LOOK_S)
            if news.done():
                yield news.result()
                news = asyncio.ensure_future(anext(documents))
    finally:
        news.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await news


def _ignore(state: SourceState) -> None:
    """Tell nobody."""
