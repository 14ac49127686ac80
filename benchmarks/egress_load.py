"""Clients: ``python -m benchmarks.egress_load WAY.json``. Prints what they measured as JSON.

One process on uvloop, so that what it takes is little, and the same for each way that is measured. WAY.json has `host`
and `port`, or `sockets` (unix, used in turn); `path`, `headers`; `connections`; and `seconds` of documents, or `events`
of streams.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import uvloop

_Client = TypeVar("_Client", bound=asyncio.Protocol)

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_STAMP = re.compile(rb"@(\d+)@")
QUESTION = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": " ".join(["word"] * 300)}]}


def request(way: dict[str, Any], body: dict[str, Any]) -> bytes:
    """Return the bytes of a request, ready to be sent again and again."""
    source = json.dumps(body).encode()
    headers = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(source)),
        "Accept-Encoding": "identity",
        "Authorization": "Bearer sk-placeholder",
        **way.get("headers", {}),
    }
    lines = [f"POST {way['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + source


async def connect(way: dict[str, Any], number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection of its own."""
    if sockets := way.get("sockets"):
        return await asyncio.open_unix_connection(sockets[number % len(sockets)], limit=2**20)
    return await asyncio.open_connection(way["host"], way["port"], limit=2**20)


async def _connected(way: dict[str, Any], number: int, make: Callable[[], _Client]) -> _Client:
    loop = asyncio.get_running_loop()
    if sockets := way.get("sockets"):
        _, client = await loop.create_unix_connection(make, sockets[number % len(sockets)])
    else:
        _, client = await loop.create_connection(make, way["host"], way["port"])
    return client


class _Asking(asyncio.Protocol):
    """Asks for one document after the other."""

    def __init__(self, source: bytes, until: float) -> None:
        self._source, self._until = source, until
        self._received = b""
        self.took: list[float] = []
        self.failed = 0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._received = b""
        self._began = time.perf_counter()
        self._transport.write(self._source)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH.search(self._received, 0, end)
        if found is not None:
            if len(self._received) < end + 4 + int(found[1]):
                return
        elif not self._received.endswith(b"\r\n0\r\n\r\n"):
            return
        now = time.perf_counter()
        self.took.append(now - self._began)
        if not self._received.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        if now < self._until:
            self._ask()
        elif not self.over.done():
            self.over.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.failed += 1
            self.over.set_result(None)


async def documents(way: dict[str, Any]) -> dict[str, float]:
    """Requests a second, and how long each took."""
    source = request(way, QUESTION)
    began = time.perf_counter()
    clients = [
        await _connected(way, number, lambda: _Asking(source, began + way["seconds"]))
        for number in range(way["connections"])
    ]
    await asyncio.gather(*(client.over for client in clients))
    took = time.perf_counter() - began
    times = [one for client in clients for one in client.took]
    cuts = statistics.quantiles(times, n=100)
    return {
        "requests": len(times),
        "failed": sum(client.failed for client in clients),
        "per_s": len(times) / took,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
    }


class _Listening(asyncio.Protocol):
    """Reads one stream, and notes how late its events are."""

    def __init__(self, source: bytes, events: int, late: list[float]) -> None:
        self._source, self._events, self._late = source, events, late
        self._rest = b""
        self.seen = 0
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._source)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        received = self._rest + data
        place = 0
        for found in _STAMP.finditer(received):
            self.seen += 1
            place = found.end()
            # The first ones come while others still connect.
            if self.seen > self._events // 4:
                self._late.append((now - int(found[1])) / 1e6)
        self._rest = received[place:]
        if self.seen >= self._events:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set_result(None)


async def streams(way: dict[str, Any]) -> dict[str, float]:
    """Return how long after they were written events arrive, when all streams are open."""
    source = request(way, {**QUESTION, "stream": True, "n": way["events"]})
    late: list[float] = []
    clients = [
        await _connected(way, number, lambda: _Listening(source, way["events"], late))
        for number in range(way["connections"])
    ]
    await asyncio.gather(*(client.over for client in clients))
    cuts = statistics.quantiles(late, n=100)
    failed = sum(client.seen < way["events"] for client in clients)
    return {"events": len(late), "failed": failed, "p50_ms": cuts[49], "p99_ms": cuts[98]}


if __name__ == "__main__":
    chosen = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(uvloop.run(streams(chosen) if "events" in chosen else documents(chosen))))
