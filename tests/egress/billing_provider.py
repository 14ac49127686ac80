"""A provider that bills what each request tells it to bill, and remembers what it billed and what it cut short.

The text of a request holds its orders: ``bill(in=1000, out=1000)``. The input that is billed may lie behind an id
(`hidden`) or come from a cache (`cached`). `max_tokens` is kept to, as real providers do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from budget.tokens import Tokens, Weights

_ORDERS = re.compile(r"bill\(([^)]*)\)")
_WEIGHTS = Weights()


@dataclass
class Billed:
    """One request, as it was billed."""

    agent: str
    model: str
    tokens: Tokens
    short: bool
    """It would have written more than its bound."""
    bound: int | None
    beside: int
    """So many others were open when it came."""

    @property
    def weighted(self) -> int:
        return _WEIGHTS.weigh(self.tokens)


@dataclass
class Billing:
    """The provider."""

    counts: bool = True
    """It has calls that count."""
    takes_s: float = 0.01
    """An answer takes so long."""
    billed: list[Billed] = field(default_factory=list)
    counted: int = 0
    """So often it was asked to count."""
    open: int = 0
    most_open: int = 0
    url: str = ""

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._behind: dict[str, int] = {}
        """By the id of a response: what going on from it reads again."""
        self.held = asyncio.Event()
        self.held.set()

    def of(self, agent: str) -> int:
        """What an agent was billed, in weighted tokens."""
        return sum(each.weighted for each in self.billed if each.agent == agent)

    async def count(self, request: web.Request) -> web.Response:
        self.counted += 1
        if not self.counts:
            return web.json_response({"error": {"message": "no such call"}}, status=404)
        body = await request.json()
        assert not {"max_tokens", "max_output_tokens", "stream"} & set(body), "the real call refuses these"
        return web.json_response({"input_tokens": self._read(body)[0].all_input})

    def _read(self, body: dict[str, Any]) -> tuple[Tokens, int]:
        text = json.dumps(body)
        found = _ORDERS.search(text)
        assert found is not None, text[:500]
        orders = {key.strip(): value.strip() for key, value in (each.split("=") for each in found[1].split(","))}
        fresh, cached = int(orders.get("in", 0)), int(orders.get("cached", 0))
        fresh += int(orders.get("hidden", 0)) if body.get("previous_response_id") else 0
        return Tokens(input=fresh, cache_read=cached), int(orders.get("out", 0))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        chat = request.path.endswith("completions")
        read, writes = self._read(body)
        bound = next((body[key] for key in _BOUNDS if body.get(key) is not None), None)
        written = writes if bound is None else min(writes, bound)
        agent = str(body.get("metadata", {}).get("agent", "")) or request.headers.get("x-agent", "")
        billed = Billed(
            agent=agent,
            model=body["model"],
            tokens=read + Tokens(output=written),
            short=written < writes,
            bound=bound,
            beside=self.open,
        )
        self.billed.append(billed)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            number = next(self._numbers)
            await asyncio.sleep(self.takes_s)
            await self.held.wait()
            if body.get("stream"):
                return await self._stream(request, body, read, written, number, chat)
            return web.json_response(_document(request.path, body["model"], read, written, number))
        finally:
            self.open -= 1

    async def _stream(
        self, request: web.Request, body: dict[str, Any], read: Tokens, written: int, number: int, chat: bool
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in _events(request.path, body["model"], read, written, number):
            await response.write(event)
            await asyncio.sleep(0)
        await response.write_eof()
        return response


_BOUNDS = ("max_tokens", "max_output_tokens", "max_completion_tokens")


def _anthropic(read: Tokens, written: int) -> dict[str, Any]:
    return {"input_tokens": read.input, "cache_read_input_tokens": read.cache_read, "output_tokens": written}


def _responses(read: Tokens, written: int) -> dict[str, Any]:
    return {
        "input_tokens": read.all_input,
        "input_tokens_details": {"cached_tokens": read.cache_read},
        "output_tokens": written,
    }


def _chat(read: Tokens, written: int) -> dict[str, Any]:
    return {
        "prompt_tokens": read.all_input,
        "prompt_tokens_details": {"cached_tokens": read.cache_read},
        "completion_tokens": written,
    }


def _document(path: str, model: str, read: Tokens, written: int, number: int) -> dict[str, Any]:
    if path.endswith("messages"):
        content = [{"type": "text", "text": "word"}]
        usage = _anthropic(read, written)
        return {"id": f"msg_{number}", "type": "message", "model": model, "content": content, "usage": usage}
    if path.endswith("responses"):
        usage = _responses(read, written)
        return {"id": f"resp_{number}", "object": "response", "model": model, "output": [], "usage": usage}
    choices = [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}]
    return {"id": f"chat_{number}", "model": model, "choices": choices, "usage": _chat(read, written)}


def _events(path: str, model: str, read: Tokens, written: int, number: int) -> list[bytes]:
    def event(kind: str, **more: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()

    if path.endswith("messages"):
        begun = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": model, "content": []}
        message = {**begun, "stop_reason": None, "stop_sequence": None, "usage": _anthropic(read, 1)}
        ending = {"stop_reason": "end_turn", "stop_sequence": None}
        return [
            event("message_start", message=message),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "word"}),
            event("content_block_stop", index=0),
            event("message_delta", delta=ending, usage={"output_tokens": written}),
            event("message_stop"),
        ]
    document = _document(path, model, read, written, number)
    if path.endswith("responses"):
        return [
            event("response.created", response={**document, "usage": None}),
            event("response.output_text.delta", delta="word"),
            event("response.completed", response=document),
        ]
    delta = {"id": document["id"], "model": model, "choices": [{"index": 0, "delta": {"content": "word"}}]}
    last = {"id": document["id"], "model": model, "choices": [], "usage": document["usage"]}
    return [f"data: {json.dumps(each)}\n\n".encode() for each in (delta, last)] + [b"data: [DONE]\n\n"]


@asynccontextmanager
async def billing(**more: Any) -> AsyncIterator[Billing]:
    """A provider that serves while the block runs."""
    made = Billing(**more)
    app = web.Application(client_max_size=2**26)
    for path in ("/v1/messages", "/v1/responses", "/v1/chat/completions"):
        app.router.add_post(path, made.answer)
    for path in ("/v1/messages/count_tokens", "/v1/responses/input_tokens"):
        app.router.add_post(path, made.count)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
