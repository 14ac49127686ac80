"""A provider that answers as fast as Python can: ``python -m benchmarks.egress_provider``. Prints its port.

Chat Completions alone. A document is 300 words; a stream writes an event every EVENT_S, each with the moment it was
written (the machine's monotonic clock, nanoseconds), until its client leaves or it has written as many as `n` in the
request says.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from typing import cast

import uvloop

EVENT_S = 0.05
WORDS = 300
#: What each document says it used.
USAGE = {"prompt_tokens": 400, "completion_tokens": 390, "total_tokens": 790}

_LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
_EVENTS = re.compile(rb'"n":\s*(\d+)')
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: "
_STREAM = _HEAD + b"text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _document() -> bytes:
    message = {"role": "assistant", "content": " ".join(["word"] * WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-mini"}
    body = json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()
    return _HEAD + b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5-mini"}
    return _chunk(json.dumps({**head, "choices": [choice]}).encode())


_BILL = _chunk(json.dumps({"id": "chatcmpl-1", "choices": [], "usage": USAGE}).encode())
_END = _BILL + _chunk(b"[DONE]") + b"0\r\n\r\n"


class _Connection(asyncio.Protocol):
    DOCUMENT = _document()

    def __init__(self) -> None:
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are not of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if found is None and b"chunked" in self._received[:end].lower():
                last = self._received.find(b"\r\n0\r\n\r\n", end)
                whole = last + 7 if last >= 0 else len(self._received) + 1
            if len(self._received) < whole:
                return
            body, self._received = self._received[end:whole], self._received[whole:]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if b'"stream":true' not in body.replace(b" ", b""):
            self._transport.write(self.DOCUMENT)
            return
        found = _EVENTS.search(body)
        self._left = int(found[1]) if found else 1_000_000_000
        self._transport.write(_STREAM)
        # Streams are not to tick together.
        delay = random.random() * EVENT_S
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        if not self._left:
            self._transport.write(_END)
            return
        self._left -= 1
        self._transport.write(_event(f"@{time.monotonic_ns()}@ "))
        self._timer = asyncio.get_running_loop().call_later(EVENT_S, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4_096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
