"""Documents asked for near a limit: the provider is asked for a stream, and the client gets the same document."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from egress.settings import AccountSettings, LimitSettings
from fleet.sim.provider.billing_ledger import BilledRequest
from tests.egress.usage.streams import event
from tests.egress.whole_egress import Plane, anthropic, chat, plane, responses

CALLS = [
    ("/anthropic/v1/messages", anthropic),
    ("/openai/v1/responses", responses),
    ("/openai/v1/chat/completions", chat),
]
#: Much more than any request could use, and little more than those here do.
FAR, NEAR = 100_000_000, 3_000
SAID = '[[think: Well, well.]][[say: Grüße aus Köln, 日本語.]][[tool: look {"path": "a\\"b", "depth": [1, 2.5, null]}]]'


def _limit(amount: float) -> LimitSettings:
    return LimitSettings(kind="pool", scope="host", amount=amount)


async def _last(made: Plane) -> BilledRequest:
    served = len(made.provider.ledger.entries)
    (*_, last) = await made.provider.ledger.find(lambda entry: entry.state != "running", at_least=served, timeout=10)
    return last


def _comparable(found: dict[str, Any]) -> Any:
    """Without what is different in each response."""
    text = json.dumps(
        {key: value for key, value in found.items() if key not in {"id", "created", "created_at", "completed_at"}}
    )
    number = str(found["id"]).rpartition("_")[2].rpartition("-")[2]
    return json.loads(text.replace(number, "N"))


def _tools(ask: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    schema = {"type": "object"}
    if ask is anthropic:
        return {"tools": [{"name": "look", "input_schema": schema}]}
    if ask is responses:
        return {"tools": [{"type": "function", "name": "look", "parameters": schema}]}
    return {"tools": [{"type": "function", "function": {"name": "look", "parameters": schema}}]}


@pytest.mark.parametrize(("path", "ask"), CALLS)
async def test_a_document_near_a_limit_is_the_same_and_was_streamed(
    tmp_path: Path, path: str, ask: Callable[..., dict[str, Any]]
) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        accounts = made.egress.gate.settings.accounts
        given, streamed = [], []
        for amount in (FAR, NEAR):
            settings = made.settings(*accounts).model_copy(update={"limits": (_limit(amount),)})
            await made.egress.configure(settings)
            response = await agent.post(path, json=ask(SAID, **_tools(ask)))
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"].startswith("application/json")
            given.append(await response.json())
            last = await _last(made)
            streamed.append(last.stream)
            entry = (await made.entries(len(given)))[-1]
            assert (entry.ended, entry.reported, entry.tokens) == ("completed", True, last.tokens)
        assert streamed == [False, True]
        assert _comparable(given[1]) == _comparable(given[0])


async def test_what_the_assembler_does_not_know_is_asked_for_as_a_document(tmp_path: Path) -> None:
    async with plane(tmp_path, limits=[_limit(NEAR)]) as made:
        agent = await made.agent()
        for more, headers in (
            ({"unheard_of": 1}, {}),
            ({}, {"anthropic-beta": "unheard-of-2026-01-01"}),
            ({"tools": [{"name": "a", "input_schema": {}, "eager_input_streaming": True}]}, {}),
        ):
            body = anthropic("[[say: yes]]", **more)
            response = await agent.post("/anthropic/v1/messages", json=body, headers=headers)
            assert response.status == 200, await response.text()
            assert not (await _last(made)).stream


@pytest.mark.parametrize(("path", "ask"), CALLS)
async def test_an_error_in_the_middle_is_an_error_with_its_status(
    tmp_path: Path, path: str, ask: Callable[..., dict[str, Any]]
) -> None:
    async with plane(tmp_path, limits=[_limit(NEAR)]) as made:
        agent = await made.agent()
        response = await agent.post(path, json=ask("[[say: Half of it]][[error: 500 No more.]]"))
        assert response.status >= 500
        assert "No more." in json.dumps((await response.json())["error"])
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.status) == ("error", 200)
        # And one before anything was said, with the provider's own status and headers.
        response = await agent.post(path, json=ask("[[error: 429 retry-after=7 busy]]"))
        assert (response.status, response.headers["Retry-After"]) == (429, "7")


async def test_a_document_that_breaks_off_is_none(tmp_path: Path) -> None:
    async with plane(tmp_path, limits=[_limit(NEAR)]) as made:
        agent = await made.agent()
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: Half of it]][[disconnect]]"))
        assert response.status == 502
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported) == ("upstream_gone", False)


@asynccontextmanager
async def _provider(
    folder: Path, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[Plane]:
    """An egress before a provider that answers by hand, near a limit."""
    async with plane(folder) as made:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        odd = AccountSettings(name="main", provider="anthropic", upstream=f"http://127.0.0.1:{port}")
        await made.egress.configure(made.settings(odd).model_copy(update={"limits": (_limit(NEAR),)}))
        await made.agent(accounts={"anthropic": "main"})
        try:
            yield made
        finally:
            server.close()


async def _asked(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    asked: dict[str, Any] = json.loads(await reader.readexactly(length))
    return asked


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
START = event({"type": "message_start", "message": {"id": "m", "content": [], "usage": {"input_tokens": 10}}})


async def test_a_document_that_would_pass_the_limit_is_cut_while_it_is_written(tmp_path: Path) -> None:
    gone = asyncio.Event()
    asked: list[dict[str, Any]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await _asked(reader))
        writer.write(STREAM + START)
        writer.write(event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}))
        delta = event(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word " * 99}}
        )
        try:
            # It does not keep to the bound that it was given.
            while True:
                writer.write(delta)
                await writer.drain()
        except ConnectionError:
            gone.set()
        finally:
            writer.close()

    async with _provider(tmp_path, answer) as made:
        response = await made.agents["coder0"].post("/anthropic/v1/messages", json=anthropic())
        assert response.status == 403
        assert "was reached" in (await response.json())["error"]["message"]
        assert asked[0]["stream"] is True
        async with asyncio.timeout(20):
            await gone.wait()
        (entry,) = await made.entries(1)
        assert entry.ended == "cut"
        # What had come with one read of the network.
        assert entry.tokens.output < 60_000


async def test_a_stream_of_which_no_document_can_be_made_is_charged_and_not_asked_for_again(tmp_path: Path) -> None:
    odd = {"type": "content_block_delta", "index": 0, "delta": {"type": "unheard_of_delta", "more": "x"}}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        told = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
        writer.write(STREAM + START + event(block) + event(odd) + event(told) + event({"type": "message_stop"}))
        writer.close()

    async with _provider(tmp_path, answer) as made:
        response = await made.agents["coder0"].post("/anthropic/v1/messages", json=anthropic())
        assert (response.status, response.headers["x-should-retry"]) == (502, "false")
        assert "'unheard_of_delta' is not known" in (await response.json())["error"]["message"]
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported, entry.tokens.output) == ("completed", True, 5)


async def test_a_provider_that_gives_a_document_all_the_same_is_believed(tmp_path: Path) -> None:
    source = json.dumps({"type": "message", "usage": {"input_tokens": 10, "output_tokens": 5}}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(source)
        writer.write(head + source)
        writer.close()

    async with _provider(tmp_path, answer) as made:
        response = await made.agents["coder0"].post("/anthropic/v1/messages", json=anthropic())
        assert (response.status, await response.read()) == (200, source)
