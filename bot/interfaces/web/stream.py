"""The stream of changes: one for each browser, with the parts of its open pages that changed.

The session and the permission are asked again before each event, and every few seconds. A slow browser gets the newest
state when it is ready, and is disconnected when it takes nothing for a while. (HTML standard, "Server-sent events".)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from aiohttp import web
from markupsafe import Markup

from bot.agents.services import AgentServices
from bot.auth.permission import ADMIN, OPERATOR
from bot.dashboard.sources import permission_for
from bot.interfaces.web import views
from bot.interfaces.web.guard import RequestRefused, secured
from bot.interfaces.web.rendering import PageTemplates
from bot.interfaces.web.settings import CHECK_EVERY_S, SEND_LIMIT_S, STREAMS, STREAMS_OF_SESSION
from bot.interfaces.web.visitor import Visitor, check_sees, visitor_with
from bot.read_models.documents import Document
from bot.text.errors import UserError
from core.errors import MusterError

#: Maximum number of bytes of one event. A part that is larger is loaded as a page.
LARGEST_EVENT: Final = 600_000
#: The nonce of forms in a stream, which is not compressed.
STREAM_NONCE: Final = "0" * 16

_log = structlog.get_logger("web")


@dataclass(slots=True)
class Streams:
    """All open streams."""

    services: AgentServices
    pages: PageTemplates
    send_limit_s: float = SEND_LIMIT_S
    check_every_s: float = CHECK_EVERY_S
    _open: dict[asyncio.Task[object], str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, request: web.Request, visitor: Visitor, keys: Sequence[str]) -> web.StreamResponse:
        """Send the parts `keys`, and each again whenever it changed, until somebody ends it.

        Raises:
            RequestRefused: there are too many streams, or too many parts.
            UserError: a part is unknown, or the visitor may not see it.
        """
        if not 1 <= len(keys) <= views.MOST_VIEWS:
            raise RequestRefused(f"A stream follows 1 to {views.MOST_VIEWS} parts, not {len(keys)}.", 400)
        wanted = [views.view_with(key) for key in dict.fromkeys(keys)]
        for view in wanted:
            check_sees(visitor, self.services, view.command)
        own = sum(1 for session in self._open.values() if session == visitor.session.id)
        if len(self._open) >= STREAMS or own >= STREAMS_OF_SESSION:
            raise RequestRefused("Too many pages are kept up to date. Close some, and load this one again.", 429)
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = visitor.session.id
        try:
            return await self._follow(request, visitor, wanted)
        finally:
            self._open.pop(task, None)

    async def stop(self) -> None:
        """End all streams."""
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=1.0) if tasks else None

    async def _follow(self, request: web.Request, visitor: Visitor, wanted: Sequence[views.View]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        secured(response)
        names = readable(self.services, visitor, wanted)
        async with self.services.documents.follow(names) as documents:
            await response.prepare(request)
            parts = _Parts(self.pages, wanted, len(names))
            news: asyncio.Future[Document] = asyncio.ensure_future(anext(documents))
            try:
                await self._write(response, b"retry: 2000\n\n")
                while True:
                    done, _ = await asyncio.wait({news}, timeout=self.check_every_s)
                    now = await self._still(visitor, wanted)
                    if now is None:
                        await self._write(response, b"event: end\ndata: {}\n\n")
                        break
                    visitor = now
                    if not done:
                        await self._write(response, b": alive\n\n")
                        continue
                    for event in parts.events(news.result(), visitor):
                        await self._write(response, event)
                    news = asyncio.ensure_future(anext(documents))
            except TimeoutError:
                _log.info("web.slow_reader", session=visitor.session.id)
                if request.transport is not None:
                    request.transport.abort()
            except (OSError, MusterError) as error:
                _log.info("web.stream_ended", reason=str(error))
            finally:
                news.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await news
        return response

    async def _still(self, visitor: Visitor, wanted: Sequence[views.View]) -> Visitor | None:
        """Return the visitor as they are now; None if they may not see all of it any more."""
        now = await visitor_with(visitor.token, self.services, used=False)
        if now is None:
            return None
        try:
            for view in wanted:
                check_sees(now, self.services, view.command)
        except UserError:
            return None
        # With another permission there are other documents and buttons; the page asks for them.
        return now if now.permission == visitor.permission else None

    async def _write(self, response: web.StreamResponse, event: bytes) -> None:
        async with asyncio.timeout(self.send_limit_s):
            # aiohttp waits here once 64 KiB are buffered.
            await response.write(event)


def readable(services: AgentServices, visitor: Visitor, wanted: Sequence[views.View]) -> frozenset[str]:
    """Return the documents of views that a visitor may read."""
    names = {name for view in wanted for name in view.documents}
    return frozenset(name for name in names if permission_for(name, services.table) <= visitor.permission)


@dataclass(slots=True)
class _Parts:
    """What a stream has sent."""

    pages: PageTemplates
    wanted: Sequence[views.View]
    documents: int
    _known: dict[str, Document] = field(default_factory=dict)
    _sent: dict[str, int] = field(default_factory=dict)

    def events(self, document: Document, visitor: Visitor) -> list[bytes]:
        """Return the events after a document changed."""
        self._known[document.name] = document
        if len(self._known) < self.documents:
            return []
        made = []
        for view in self.wanted:
            html = part(self.pages, view, self._known, visitor)
            if self._sent.get(view.key) == hash(html):
                continue
            self._sent[view.key] = hash(html)
            data = json.dumps({"key": view.key, "html": html})
            if len(data) > LARGEST_EVENT:
                data = json.dumps({"key": view.key, "html": None})
            made.append(f"event: part\nid: {document.epoch}:{document.revision}\ndata: {data}\n\n".encode())
        return made


def part(pages: PageTemplates, view: views.View, documents: Mapping[str, Document], visitor: Visitor) -> str:
    """Return the HTML of a view."""
    try:
        values = view.context(documents)
    except views.NoSuchView:
        return pages.render("_gone.html", key=view.key)
    return pages.render(view.template, **values, **for_visitor(visitor))


def for_visitor(visitor: Visitor, nonce: str = STREAM_NONCE) -> Mapping[str, object]:
    """Return what every template gets about who looks. With the same nonce, an unchanged part is the same text."""
    return {
        "visitor": visitor,
        "may_answer": visitor.session.control and visitor.permission >= OPERATOR,
        "is_admin": visitor.permission >= ADMIN,
        # Hexadecimal digits. A pattern of the operator must not mask them.
        "form_token": Markup(visitor.form_token(nonce)),  # noqa: S704
    }
