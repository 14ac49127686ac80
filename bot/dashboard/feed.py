"""Builds documents while somebody follows them, at most twice a second, and tells followers what changed.

Any commit to the register may change any document, so each marks all of them. What follows is bounded by time and not
by cleverness: a document is built again at the earliest `SHORTEST_S` after it was, and later if building it takes long,
so that it takes at most a quarter of the time. Documents that did not change are not sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from bot.dashboard.shelf import Shelf
from bot.read_models.documents import AGENTS, Document, ReadModel, type_of
from bot.text.errors import UserError
from core.async_waits import set_within
from core.errors import MusterError

_log = structlog.get_logger("dashboard")

#: Seconds between two states of a document: two states a second are as many as anyone can read.
SHORTEST_S: Final = 0.5
#: A document is built again after so many seconds although nothing was heard: some of what it shows changes without a
#: commit here, for example by another installation.
LONGEST_S: Final = 15.0
#: A document that took a second to build is left alone for so many seconds.
_REST: Final = 3.0
#: The longest such rest.
_LONGEST_REST_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentSource:
    """How a document is made."""

    load: Callable[[], Awaitable[ReadModel | None]]
    page: Callable[[str], Awaitable[ReadModel | None]] | None = None
    """Makes the older page before a place."""
    shortest_s: float = SHORTEST_S
    """Seconds between two states. Longer where looking costs something that is not the processor's."""


@dataclass(slots=True, eq=False)
class _Follower:
    names: frozenset[str]
    after: tuple[str, int] | None
    news: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Watched:
    """A document that somebody follows."""

    source: DocumentSource
    is_dirty: bool = False
    due_at: float = 0.0
    """By the monotonic clock: not built again before."""
    stale_at: float = 0.0
    """By the monotonic clock: built again then, whatever was heard."""
    failed: bool = False


@dataclass(slots=True, kw_only=True)
class Feed:
    """The orchestrator's own `DocumentFeed`."""

    sources: Mapping[str, DocumentSource]
    """Of each document that there is once."""
    agent: Callable[[str], DocumentSource]
    """Of an agent's document."""
    epoch: str
    clock: Callable[[], float]
    """Seconds since the epoch."""
    _shelf: Shelf = field(init=False)
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _followers: set[_Follower] = field(default_factory=set)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _builder: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._shelf = Shelf(self.epoch)

    # --- what changes them ------------------------------------------------------------------------------------------

    def changed(self, agent: str | None = None) -> None:
        """Note that something happened: to one agent, or anything at all. Cheap where nobody follows."""
        if not self._watched:
            return
        for name, watched in self._watched.items():
            if agent is None or name in {"fleet", AGENTS + agent}:
                watched.is_dirty = True
        self._heard.set()

    # --- what reads them --------------------------------------------------------------------------------------------

    async def get(self, name: str) -> Document:
        """Return a document as it is now (`DocumentFeed`)."""
        source = self._source(name)
        if name in self._watched and (known := self._shelf.get(name)) is not None:
            return known
        value = await source.load()
        document = self._shelf.put(name, value, self.clock())
        if name not in self._watched:
            self._shelf.drop([name])
        return document

    async def page(self, name: str, before: str) -> ReadModel | None:
        """Return an older page of a document (`DocumentFeed`)."""
        source = self._source(name)
        if source.page is None:
            raise UserError(f"The document {name} has no pages. Leave `before` out.", code="document.place")
        return await source.page(before)

    @contextlib.asynccontextmanager
    async def follow(
        self, names: Collection[str], *, after: tuple[str, int] | None = None
    ) -> AsyncIterator[AsyncIterator[Document]]:
        """Follow documents (`DocumentFeed`)."""
        follower = _Follower(frozenset(names), after)
        missing = {name: self._source(name) for name in follower.names if name not in self._watched}
        self._followers.add(follower)
        try:
            for name, source in missing.items():
                self._watched.setdefault(name, _Watched(source))
            for name in follower.names:
                if self._shelf.get(name) is None:
                    await self._build(name, self._watched[name])
            if self._builder is None:
                self._builder = asyncio.create_task(self._keep_up(), name="dashboard")
            yield self._news_of(follower)
        finally:
            self._followers.discard(follower)
            await self._let_go()

    async def _news_of(self, follower: _Follower) -> AsyncIterator[Document]:
        after = follower.after
        while True:
            follower.news.clear()
            for document in self._shelf.changed_after(follower.names, after):
                yield document
                after = (document.epoch, document.revision)
            await follower.news.wait()

    # --- building ---------------------------------------------------------------------------------------------------

    def _source(self, name: str) -> DocumentSource:
        if (source := self.sources.get(name)) is not None:
            return source
        if type_of(name) is None or not name.startswith(AGENTS):
            known = ", ".join([*sorted(self.sources), f"{AGENTS}NAME"])
            raise UserError(f"There is no such document. There are {known}.", code="document.unknown")
        return self.agent(name.removeprefix(AGENTS))

    async def _keep_up(self) -> None:
        """Build what is due, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._heard.clear()
            now = loop.time()
            due = [
                (name, watched)
                for name, watched in self._watched.items()
                if now >= watched.stale_at or (watched.is_dirty and now >= watched.due_at)
            ]
            for name, watched in due:
                # It was logged; whatever is wrong with one document, the others are kept up to date.
                with contextlib.suppress(Exception):
                    await self._build(name, watched)
            next_at = min(
                (each.due_at if each.is_dirty else each.stale_at for each in self._watched.values()), default=None
            )
            await set_within(self._heard, LONGEST_S if next_at is None else max(0.0, next_at - loop.time()))

    async def _build(self, name: str, watched: _Watched) -> None:
        """Build a document, and wake those who lack it.

        Raises:
            MusterError, OSError: it cannot be built now. The one that was built before remains.
            Exception: a fault in Muster, with the same effect.
        """
        loop = asyncio.get_running_loop()
        watched.is_dirty = False
        began = loop.time()
        try:
            value = await watched.source.load()
        except Exception as error:
            if not watched.failed:
                expected = isinstance(error, MusterError | OSError)
                _log.warning(
                    "dashboard.not_built", document=name, reason=str(error), exc_info=None if expected else error
                )
            watched.failed = True
            watched.due_at = watched.stale_at = loop.time() + LONGEST_S
            raise
        watched.failed = False
        # By the clock: much of the work is done in threads, and a machine that is busy needs the rest most.
        took = loop.time() - began
        watched.due_at = began + took + max(watched.source.shortest_s - took, min(_REST * took, _LONGEST_REST_S))
        watched.stale_at = max(watched.due_at, began + LONGEST_S)
        if name not in self._watched:
            return
        known = self._shelf.get(name)
        document = self._shelf.put(name, value, self.clock())
        if known is None or known.revision != document.revision:
            for follower in self._followers:
                if name in follower.names:
                    follower.news.set()

    async def _let_go(self) -> None:
        """Forget the documents that nobody follows any more."""
        wanted = {name for follower in self._followers for name in follower.names}
        gone = [name for name in self._watched if name not in wanted]
        for name in gone:
            del self._watched[name]
        self._shelf.drop(gone)
        if not self._watched and self._builder is not None:
            builder, self._builder = self._builder, None
            builder.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await builder
