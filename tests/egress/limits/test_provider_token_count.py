"""The provider's own count: asked once, with the account's credential, and never waited for in vain for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from egress.limits import provider_token_count
from egress.limits.provider_token_count import ABSENT_S, FAILED_S, Counter
from egress.request.body_buffer import Bodies
from tests.egress.ledger.rows import Clock
from tests.egress.scripted_provider import Link, Scripted, scripted

COUNTED = b'{"input_tokens": 1234}'


def answer(status: str, content: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(content), content)


def always(content: bytes) -> Callable[[Link], Awaitable[None]]:
    async def serve(link: Link) -> None:
        while True:
            await link.asked()
            await link.say(content)

    return serve


class RequestPolicy:
    """One counter, and what it is asked with."""

    def __init__(self, folder: Path, provider: Scripted) -> None:
        self.clock = Clock()
        self.provider = provider
        self.counter = Counter(provider.way, Bodies(folder), monotonic=self.clock)

    async def count(self, content: bytes = b'{"model":"m"}', **more: Any) -> int | None:
        given: dict[str, Any] = {"api": "anthropic", "account": "main", "upstream": self.provider.url, "query": ""}
        headers = CIMultiDict({"x-api-key": "k", "Accept": "text/event-stream"})
        return await self.counter.count(outgoing=headers, content=content, **given | more)

    @property
    def asked(self) -> list[bytes]:
        return [request for link in self.provider.links for request in link.requests]


async def test_it_is_asked_once_for_each_content_and_model(tmp_path: Path) -> None:
    async with scripted(always(answer("200 OK", COUNTED))) as provider:
        asking = RequestPolicy(tmp_path, provider)
        assert await asyncio.gather(*(asking.count() for _ in range(20))) == [1234] * 20
        assert await asking.count() == 1234
        assert len(asking.asked) == 1
        head, _, content = asking.asked[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1/messages/count_tokens HTTP/1.1")
        assert b"x-api-key: k" in head
        assert content == b'{"model":"m"}'
        assert await asking.count(b'{"model":"n"}') == 1234
        assert await asking.count(api="responses", query="?a=b") == 1234
        assert asking.asked[-1].startswith(b"POST /v1/responses/input_tokens?a=b HTTP/1.1")
        assert len(asking.asked) == 3


@pytest.mark.parametrize(
    ("said", "pause_s"),
    [
        (answer("404 Not Found", b"{}"), ABSENT_S),
        (answer("429 Too Many", COUNTED), FAILED_S),
        (answer("500 Oh", b""), FAILED_S),
        (answer("200 OK", b"no JSON"), FAILED_S),
        (answer("200 OK", b'{"input_tokens": -1}'), FAILED_S),
        (answer("200 OK", b'{"input_tokens": true}'), FAILED_S),
        (answer("200 OK", b"[" * 100_000), FAILED_S),
        (b"no HTTP\r\n\r\n", FAILED_S),
        (answer("400 Bad", b"{}"), 0.0),
    ],
)
async def test_what_is_no_count_is_not_asked_for_again_at_once(tmp_path: Path, said: bytes, pause_s: float) -> None:
    async with scripted(always(said)) as provider:
        asking = RequestPolicy(tmp_path, provider)
        assert await asking.count() is None
        before = len(asking.asked)
        assert asking.counter.may("anthropic", "main") is (pause_s == 0)
        assert asking.counter.may("anthropic", "another")
        if pause_s:
            assert await asking.count() is None
            assert len(asking.asked) == before
            asking.clock.now += pause_s - 1
            assert not asking.counter.may("anthropic", "main")
            asking.clock.now += 1
        assert asking.counter.may("anthropic", "main")


async def test_a_provider_that_is_silent_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_token_count, "COUNT_S", 0.05)

    async def silent(link: Link) -> None:
        await link.asked()
        await link.end()

    async with scripted(silent) as provider:
        asking = RequestPolicy(tmp_path, provider)
        assert await asking.count() is None
        # Its connection is not kept.
        await provider.links[0].ended.wait()


async def test_who_leaves_leaves_the_answer_to_others(tmp_path: Path) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(link: Link) -> None:
        await link.asked()
        asked.set()
        await go_on.wait()
        await link.say(answer("200 OK", COUNTED))

    async with scripted(slow) as provider:
        asking = RequestPolicy(tmp_path, provider)
        first, second = (asyncio.ensure_future(asking.count()) for _ in range(2))
        await asked.wait()
        first.cancel()
        go_on.set()
        assert await second == 1234
        assert len(asking.asked) == 1


async def test_chat_completions_has_no_count(tmp_path: Path) -> None:
    async with scripted(always(b"")) as provider:
        asking = RequestPolicy(tmp_path, provider)
        assert not asking.counter.may("chat", "main")
        assert await asking.count(api="chat") is None
