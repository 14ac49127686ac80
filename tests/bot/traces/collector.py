"""A collector of traces on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(slots=True)
class LocalCollector:
    bodies: list[bytes] = field(default_factory=list)
    """The requests that it took."""
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """How it answers the next requests; 200 after these."""
    asked: int = 0
    """How many requests came."""
    location: str = ""
    """Where it redirects to."""
    after: str = ""
    """The pause that it asks for when it does not take a request."""
    rejects: int = 0
    """How many spans of each request it does not take."""
    port: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order in which they came."""
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def named(self, name: str) -> list[Span]:
        """The spans whose names begin so."""
        return [span for span in self.spans if span.name.startswith(name)]

    async def until(self, has: Callable[[], object], *, limit: float = 60) -> None:
        """Wait until something is so, which is looked at after each request."""
        async with asyncio.timeout(limit):
            while not has():
                self._changed.clear()
                await self._changed.wait()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked += 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
        self._changed.set()
        if status != 200:
            given = {"Location": self.location, "Retry-After": self.after}
            return web.Response(status=status, headers={name: value for name, value in given.items() if value})
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_spans = self.rejects
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[LocalCollector]:
        """Listen during the block, on the same port as before."""
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/v1/traces", self.take)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = int(runner.addresses[0][1])
            yield self
        finally:
            await runner.cleanup()


def values(span: Span) -> dict[str, str | int | float | bool]:
    """The attributes of a span."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
