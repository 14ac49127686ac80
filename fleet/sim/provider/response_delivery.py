"""How an answer reaches the client: the writer of its API, how it tells its bill, and the bytes of its body.

What was sent is counted, so that it can be compared with what arrived.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterable, Mapping

from aiohttp import web

from fleet.sim.provider import anthropic_api, completions_api, responses_api
from fleet.sim.provider.api_writer import ApiWriter, ResponseEnvelope
from fleet.sim.provider.normalized_request import Api
from fleet.sim.provider.usage_report import UsageReport

_WRITERS: dict[Api, Callable[[ResponseEnvelope], ApiWriter]] = {
    "anthropic": anthropic_api.AnthropicWriter,
    "responses": responses_api.ResponsesWriter,
    "chat": completions_api.CompletionsWriter,
}
_USAGE_ALONE = (b'"choices":[],"usage":{', b'"choices":null,"usage":{')


class ResponseBody:
    """The body of one response on its way to the client."""

    def __init__(self, http: web.Request, api: Api) -> None:
        self._http, self._api = http, api
        self._content, self._visible = hashlib.sha256(), hashlib.sha256()
        self.response: web.StreamResponse | None = None
        """The response, once its head is sent."""
        self.sent = 0
        """Bytes of content, before any compression."""

    @property
    def digest(self) -> str:
        """Of all content, SHA-256, hexadecimal."""
        return self._content.hexdigest()

    @property
    def visible_digest(self) -> str:
        """The same without the chunk of usage that a Chat Completions stream has only where it was asked for."""
        return self._visible.hexdigest()

    async def open(
        self, headers: Mapping[str, str], content_type: str, *, status: int = 200, length: int | None = None
    ) -> None:
        """Send the head. `length`: what Content-Length says; None: chunked."""
        self.response = web.StreamResponse(status=status, headers={**headers, "Content-Type": content_type})
        self.response.content_length = length
        await self.response.prepare(self._http)

    async def send(self, frames: Iterable[bytes]) -> None:
        """Send server-sent events, each with its blank line."""
        pieces = []
        for frame in frames:
            hidden = self._api == "chat" and any(mark in frame for mark in _USAGE_ALONE)
            pieces.append(self.dressed(frame, hidden=hidden))
            self._count(pieces[-1], hidden=hidden)
        await self.out(b"".join(pieces))

    async def write(self, content: bytes) -> None:
        """Send content as it is."""
        self._count(content)
        await self.out(content)

    async def document(self, headers: Mapping[str, str], content: bytes, *, status: int) -> web.StreamResponse:
        """Return a response that is a JSON document."""
        self._count(content)
        return web.Response(
            body=content, status=status, headers=headers, content_type="application/json", charset="utf-8"
        )

    async def finish(self) -> None:
        """Send all content that is still held back; the end of the body is not sent yet."""

    async def end(self) -> None:
        """Send the end of the body."""
        assert self.response is not None
        with contextlib.suppress(ConnectionError):
            await self.response.write_eof()

    def dressed(self, frame: bytes, *, hidden: bool) -> bytes:
        """Return an event as it is sent. `hidden`: the egress may take it out of the stream."""
        return frame

    async def out(self, content: bytes) -> None:
        """Send counted content."""
        if content and self.response is not None:
            await self.response.write(content)

    def _count(self, content: bytes, *, hidden: bool = False) -> None:
        self.sent += len(content)
        self._content.update(content)
        if not hidden:
            self._visible.update(content)


class ResponseDelivery:
    """How one answer is delivered. A subclass may do it in other ways that clients must take."""

    report = UsageReport()

    def writer(self, api: Api, envelope: ResponseEnvelope) -> ApiWriter:
        return _WRITERS[api](envelope)

    def body(self, http: web.Request, api: Api, dice: random.Random) -> ResponseBody:
        return ResponseBody(http, api)
