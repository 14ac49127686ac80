"""Documents over HTTP: each on request, and a stream of those that change."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Final

from aiohttp import web

from bot.read_models import codec
from bot.read_models.documents import Document, DocumentFeed
from bot.read_models.patches import PATCHED, patch_of
from bot.text.errors import UserError

#: Seconds for a reader to accept one document. A slower one is disconnected, and comes back with the id of its last.
SEND_LIMIT_S: Final = 30.0
#: Seconds after which a silent stream says that it is alive.
_ALIVE_S: Final = 15.0
#: Maximum number of documents that one stream follows.
_MOST: Final = 50
_ID: Final = re.compile(r"([0-9a-f]{1,32}):([0-9]{1,15})")


def event_id(document: Document) -> str:
    """Return the id of a stream's event, with which a reader comes back."""
    return f"{document.epoch}:{document.revision}"


def as_json(document: Document) -> dict[str, Any]:
    """Return a document in the form that readers get. The feed has masked its secrets."""
    return {
        "name": document.name,
        "revision": document.revision,
        "epoch": document.epoch,
        "made_at": document.made_at,
        "value": codec.to_wire(document.value, str),
    }


async def one(feed: DocumentFeed, http: web.Request) -> web.Response:
    """``GET /v1/documents/NAME``, with ``?before=PLACE`` for an older page of it."""
    name = http.match_info["name"]
    before = http.query.get("before")
    if before is not None:
        value = await feed.page(name, before)
        return web.json_response({"name": name, "value": codec.to_wire(value, str)})
    document = await feed.get(name)
    etag = f'"{event_id(document)}"'
    if http.headers.get("If-None-Match") == etag:
        return web.Response(status=304, headers={"ETag": etag})
    return web.json_response(await asyncio.to_thread(as_json, document), headers={"ETag": etag})


async def stream(feed: DocumentFeed, http: web.Request) -> web.StreamResponse:
    """``GET /v1/stream?documents=NAME,...``: server-sent events, one for each change of a document.

    With ``&patches=1``, a fleet of which the reader got a revision on this connection comes as a patch.

    Source of the format: the HTML standard, "Server-sent events".
    """
    names = [name for name in http.query.get("documents", "").split(",") if name]
    if not 1 <= len(names) <= _MOST:
        raise UserError(
            f"Name 1 to {_MOST} documents, such as ?documents=fleet,waiting; there are {len(names)}.",
            code="document.unknown",
        )
    last = _ID.fullmatch(http.headers.get("Last-Event-ID", ""))
    after = (last[1], int(last[2])) if last is not None else None
    patches, sent = http.query.get("patches") == "1", dict[str, Document]()
    async with feed.follow(names, after=after) as documents:
        events = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await events.prepare(http)
        await _write(events, b": follows\n\n")
        news: asyncio.Future[Document] = asyncio.ensure_future(anext(documents))
        try:
            while True:
                done, _ = await asyncio.wait({news}, timeout=_ALIVE_S)
                if not done:
                    await _write(events, b": alive\n\n")
                    continue
                document = news.result()
                await _write(events, await asyncio.to_thread(_event, document, sent.get(document.name)))
                if patches and document.name == PATCHED:
                    sent[document.name] = document
                news = asyncio.ensure_future(anext(documents))
        except (OSError, TimeoutError):
            return events
        finally:
            news.cancel()


def _event(document: Document, known: Document | None) -> bytes:
    patch = patch_of(known, document)
    data = json.dumps(as_json(document) if patch is None else patch, separators=(",", ":"))
    return f"event: {'document' if patch is None else 'patch'}\nid: {event_id(document)}\ndata: {data}\n\n".encode()


async def _write(events: web.StreamResponse, block: bytes) -> None:
    async with asyncio.timeout(SEND_LIMIT_S):
        await events.write(block)
