"""Agents that ask a model through the egress, in every way that clients have, and remember what they were given."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from egress.settings import Address
from fleet.sim.provider.normalized_request import Api
from tests.sim import chaos

PATHS: dict[Api, str] = {
    "anthropic": "/anthropic/v1/messages",
    "responses": "/openai/v1/responses",
    "chat": "/openai/v1/chat/completions",
}
LIMIT_S = 60.0
#: May stand at the very beginning of an event stream.
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One request, and how its client behaves."""

    model: str
    """One of a kind, so that it is found again on both sides, where there is no `tag`."""
    agent: str
    api: Api
    text: str
    stream: bool = True
    asks_usage: bool = False
    """Of Chat Completions: the client wants the chunk of usage itself."""
    leaves_after: int | None = None
    """It goes away after so many bytes of the answer; 0: as soon as it has asked; None: it stays."""
    hangs_up: bool = False
    """It closes the connection at the terminal event, as Codex does, and does not wait for the end of the body."""
    chunked: bool = False
    """The request's body is sent in chunks."""
    max_tokens: int | None = 50_000
    tag: str = ""
    """Tells it apart where several ask the same model."""

    @property
    def name(self) -> str:
        return self.tag or self.model

    def body(self) -> dict[str, Any]:
        """As the API wants it."""
        body: dict[str, Any] = {"model": self.model, "stream": self.stream}
        match self.api:
            case "anthropic":
                body |= {"max_tokens": self.max_tokens, "messages": [{"role": "user", "content": self.text}]}
            case "responses":
                body["input"] = self.text
                if self.max_tokens is not None:
                    body["max_output_tokens"] = self.max_tokens
            case "chat":
                body["messages"] = [{"role": "user", "content": self.text}]
                if self.max_tokens is not None:
                    body["max_completion_tokens"] = self.max_tokens
                if self.asks_usage:
                    body["stream_options"] = {"include_usage": True}
        return body


@dataclass(kw_only=True)
class Given:
    """What its client was given."""

    status: int | None = None
    size: int = 0
    digest: str = ""
    """Of all content, SHA-256, hexadecimal."""
    whole: bool = False
    """The body came to its end as HTTP has it."""
    ended: bool = False
    """The terminal event was there, or the whole of a document."""
    error: dict[str, Any] | None = None
    """The error event, or the body of a refusal."""
    text_bytes: int = 0
    """Of what the model said or thought."""
    left: bool = False
    failure: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    ended_at: float | None = None
    """When the last byte was here, by the loop's clock."""


class Reader:
    """Reads an answer as it comes, as strictly as the standards allow."""

    def __init__(self, order: Order, given: Given) -> None:
        self._order, self._given = order, given
        self._hash = hashlib.sha256()
        self._rest = b""
        self._document = bytearray()

    def feed(self, piece: bytes) -> None:
        given = self._given
        given.size += len(piece)
        self._hash.update(piece)
        given.digest = self._hash.hexdigest()
        if self._order.stream and given.status == 200:
            self._lines(piece)
        elif given.size < 1_000_000:
            self._document += piece

    def end(self) -> None:
        """All of it is here."""
        self._given.whole = True
        if self._order.stream and self._given.status == 200:
            return
        try:
            found = json.loads(bytes(self._document)) if self._given.size < 1_000_000 else {}
        except ValueError:
            return
        self._given.ended = True
        if found.get("error"):
            self._given.error = found
        for text in _texts(found):
            self._given.text_bytes += len(text.encode())

    def _lines(self, piece: bytes) -> None:
        # A CR at the very end may be half of a line end.
        self._rest = (self._rest + piece).removeprefix(_MARK)
        keep = b"\r" if self._rest.endswith(b"\r") and not self._rest.endswith(b"\r\r") else b""
        ready = self._rest.removesuffix(keep).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *events, left = ready.split(b"\n\n")
        self._rest = left + keep
        for event in events:
            self._event(event)
        # The last CR of a stream with such line ends stays; look ahead without taking it.
        if keep and self._rest.replace(b"\r", b"\n").endswith(b"\n\n"):
            self._event(self._rest.replace(b"\r", b"\n"))
            self._rest = b""

    def _event(self, source: bytes) -> None:
        found = [line[5:].removeprefix(b" ") for line in source.split(b"\n") if line.startswith(b"data:")]
        if not found:
            return
        data = b"\n".join(found)
        if data == b"[DONE]":
            self._given.ended = True
            return
        event = json.loads(data)
        kind = event.get("type", "")
        if kind in {"message_stop", "response.completed", "response.incomplete"}:
            self._given.ended = True
        if kind in {"error", "response.failed"} or event.get("error"):
            self._given.error = event
        if kind == "content_block_delta":
            for name in ("text", "thinking", "partial_json"):
                self._given.text_bytes += len(str(event["delta"].get(name, "")).encode())
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str):
            self._given.text_bytes += len(event["delta"].encode())
        elif event.get("object") == "chat.completion.chunk":
            for choice in event.get("choices") or ():
                self._given.text_bytes += len(str(choice["delta"].get("content") or "").encode())


def _texts(found: dict[str, Any]) -> list[str]:
    texts = [str(block.get("text") or block.get("thinking") or "") for block in found.get("content") or ()]
    for item in found.get("output") or ():
        texts += [str(part.get("text", "")) for part in item.get("content") or item.get("summary") or ()]
    texts += [str(choice["message"].get("content") or "") for choice in found.get("choices") or ()]
    return texts


class Customer:
    """One agent's HTTP client, with connections that are kept alive."""

    def __init__(self, address: Address, *, connections: int = 8) -> None:
        if address.socket is not None:
            self._base = "http://egress"
            connector: aiohttp.BaseConnector = aiohttp.UnixConnector(address.socket, limit=connections)
        else:
            self._base = address.url or ""
            connector = aiohttp.TCPConnector(limit=connections)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=LIMIT_S), read_bufsize=2**20
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(self, order: Order, *, told: Callable[[Given], None] | None = None) -> Given:
        """Ask, and take what is given. `told` sees it grow, after each piece."""
        given = Given()
        reader = Reader(order, given)
        source = json.dumps(order.body(), ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "x-api-key": "placeholder",
            "Authorization": "Bearer placeholder",
        }
        if order.leaves_after == 0:
            await self._ask_and_leave(order, source, headers, given)
            return given
        try:
            async with self._session.post(
                self._base + PATHS[order.api], data=_pieces(source) if order.chunked else source, headers=headers
            ) as response:
                given.status = response.status
                given.headers = {name.lower(): value for name, value in response.headers.items()}
                async for piece in response.content.iter_any():
                    reader.feed(piece)
                    if told is not None:
                        told(given)
                    if order.hangs_up and given.ended:
                        response.close()
                        return given
                    if order.leaves_after is not None and given.size >= order.leaves_after and not given.ended:
                        given.left = True
                        response.close()
                        return given
                reader.end()
        except (aiohttp.ClientError, OSError, TimeoutError) as failure:
            given.failure = f"{type(failure).__name__}: {failure}"
        given.ended_at = asyncio.get_running_loop().time()
        return given

    async def _ask_and_leave(self, order: Order, source: bytes, headers: dict[str, str], given: Given) -> None:
        asking = asyncio.ensure_future(
            self._session.post(self._base + PATHS[order.api], data=source, headers=headers).__aenter__()
        )
        await asyncio.wait({asking}, timeout=0.005)
        given.left = True
        asking.cancel()
        try:
            (await asking).close()
        except (aiohttp.ClientError, OSError, asyncio.CancelledError):
            return


async def _pieces(source: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(source), 17):
        yield source[at : at + 17]


def chosen(dice: random.Random, count: int, agents: Sequence[str], *, prefix: str = "r") -> list[Order]:
    """Orders of random kinds."""
    orders = []
    apis: list[Api] = ["anthropic", "responses", "chat"]
    for number in range(count):
        api, stream = dice.choice(apis), dice.random() < 0.75
        odd = chaos.orders(dice, api, stream=stream)
        text = f"{prefix}{number} {odd}{chaos.SAYING}"
        if dice.random() < 0.05:
            text += "[[fill: 200000]]"
        leaves = dice.choice((0, 1, 400, 2_000)) if dice.random() < 0.1 else None
        orders.append(
            Order(
                model=f"{prefix}{number}",
                agent=dice.choice(agents),
                api=api,
                text=text,
                stream=stream,
                asks_usage=api == "chat" and stream and dice.random() < 0.3,
                leaves_after=leaves,
                hangs_up=dice.random() < 0.2,
                chunked=dice.random() < 0.2,
                max_tokens=dice.choice((50_000, 100_000)) if api == "anthropic" or dice.random() < 0.7 else None,
            )
        )
    return orders


async def play(
    orders: Sequence[Order],
    ask: Callable[[Order], Awaitable[Given]],
    *,
    together: int = 24,
) -> dict[str, Given]:
    """Carry out all orders, so many at a time; what was given, by the order's name."""
    waiting = list(reversed(orders))
    done: dict[str, Given] = {}

    async def work() -> None:
        while waiting:
            order = waiting.pop()
            done[order.name] = await ask(order)

    async with asyncio.TaskGroup() as group:
        for _ in range(together):
            group.create_task(work())
    return done


class Customers(AsyncExitStack):
    """Clients of several agents."""

    def __init__(self, addresses: dict[str, Address], *, connections: int = 8) -> None:
        super().__init__()
        self._customers = {name: Customer(address, connections=connections) for name, address in addresses.items()}
        for customer in self._customers.values():
            self.push_async_callback(customer.close)

    async def ask(self, order: Order, *, told: Callable[[Given], None] | None = None) -> Given:
        """`told` sees what is given grow."""
        return await self._customers[order.agent].ask(order, told=told)
