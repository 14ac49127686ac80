"""The way to providers when either side behaves badly at a bad moment: who leaves, what stays open, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from multidict import CIMultiDict

from egress.request.body_buffer import Bodies, Body
from egress.settings import AccountSettings
from egress.tunnel.certificate_authority import CertificateAuthority
from egress.upstream import connection_pool, http1_connection
from egress.upstream.connection_pool import Upstream
from egress.upstream.http1_connection import UpstreamConnection
from egress.upstream.response_reader import UpstreamGone
from tests.egress.scripted_provider import NEXT, Link, Scripted, Wire, content, forever, scripted
from tests.egress.whole_egress import anthropic, plane

Serving = Callable[[Callable[[Link], Awaitable[None]]], AbstractAsyncContextManager[Scripted]]

HEADERS: CIMultiDict[str] = CIMultiDict()
LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def a_body(folder: Path, size: int) -> Body:
    """That of an agent's request: a long one, in a file."""
    (folder / "body").write_bytes(bytes(size))
    return Body(b"", os.open(folder / "body", os.O_RDONLY), size, Bodies(folder), "coder0")


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    made = CertificateAuthority(tmp_path / "ca", tmp_path / "trust")
    made.cover(["localhost"])
    return made


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def providing(request: pytest.FixtureRequest, authority: CertificateAuthority) -> Serving:
    """What makes a provider, with and without TLS."""

    def provider(serve: Callable[[Link], Awaitable[None]]) -> AbstractAsyncContextManager[Scripted]:
        if not request.param:
            return scripted(serve)
        client = ssl.create_default_context(cadata=authority.certificates())
        return scripted(serve, server_tls=authority.context("localhost"), client_tls=client)

    return provider


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_who_leaves_at_any_moment_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, providing: Serving, tmp_path: Path, loop: str, long: bool
) -> None:
    """There is one place: were it not given back, nobody could ask any more."""
    monkeypatch.setattr(connection_pool, "MOST_CONNECTIONS", 1)

    async def leaving() -> None:
        async with providing(forever) as provider:
            for steps in range(40):
                body = a_body(tmp_path, 2**20) if long else None
                leaver = asyncio.create_task(provider.get("POST", body))
                waiter = asyncio.create_task(provider.get())
                for _ in range(steps):
                    await asyncio.sleep(0)
                leaver.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    (await leaver).abort()
                if body is not None:
                    body.close()
                assert await content(await waiter) == b"next"
                assert await content(await provider.get()) == b"next"
                with monkeypatch.context() as stale:
                    # Not over one that lies idle: it takes the place itself, and there is just this one.
                    stale.setattr(connection_pool, "IDLE_S", 0.0)
                    assert await content(await provider.get()) == b"next"
                async with asyncio.timeout(10):
                    while sum(not link.ended.is_set() for link in provider.links) > 1:
                        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(leaving())


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_stays_open_whenever_the_way_is_closed(providing: Serving, loop: str) -> None:
    async def closing() -> None:
        ended = 0
        for steps in range(40):
            async with providing(forever) as provider:
                asking = [asyncio.create_task(provider.get(method)) for method in ("POST", "GET")]
                for _ in range(steps):
                    await asyncio.sleep(0)
                await provider.way.close()
                for task in asking:
                    try:
                        response = await task
                        await content(response)
                    except UpstreamGone:
                        ended += 1
                for link in provider.links:
                    await link.ended.wait()
        assert ended

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(closing())


@pytest.mark.parametrize("coding", ["length", "chunks"])
@pytest.mark.parametrize("loop", LOOPS)
def test_who_reads_slowly_gets_all_that_came_before_the_connection_ended(
    authority: CertificateAuthority, coding: str, loop: str
) -> None:
    """Not every server ends TLS in good order; where the response says itself how long it is, it need not."""
    size = 2**19
    said = b"HTTP/1.1 200 OK\r\n"
    if coding == "length":
        said += b"Content-Length: %d\r\n\r\n" % size + bytes(size)
    else:
        said += b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + bytes(size) + b"\r\n0\r\n\r\n"

    async def reading() -> None:
        there = asyncio.Event()

        async def serve(link: Link) -> None:
            await link.asked()
            await link.say(said)
            while link.writer.transport.get_write_buffer_size():
                await asyncio.sleep(0)
            with socket.socket(fileno=os.dup(link.writer.get_extra_info("socket").fileno())) as beneath:
                beneath.shutdown(socket.SHUT_WR)
            there.set()
            await link.end()

        client = ssl.create_default_context(cadata=authority.certificates())
        server = authority.context("localhost")
        async with scripted(serve, server_tls=server, client_tls=client) as provider:
            response = await provider.get("POST")
            await there.wait()
            # Until nothing more is read ahead.
            for _ in range(200):
                await asyncio.sleep(0)
            assert await content(response) == bytes(size)
            assert response.at_eof()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(reading())


async def test_a_connection_on_which_something_is_unsent_is_used_no_more() -> None:
    wire, buffer, free = Wire(), bytearray(http1_connection.PIECE), list[UpstreamConnection]()
    connection = UpstreamConnection(buffer=memoryview(buffer), free=free.append, lost=lambda _: None)
    connection.connection_made(wire)
    asking = asyncio.create_task(connection.ask(b"", None))
    await asyncio.sleep(0)
    wire.unsent = 1
    buffer[: len(NEXT)] = NEXT
    connection.buffer_updated(len(NEXT))
    assert await content(await asking) == b"next"
    assert not free
    assert wire.aborted
    connection.connection_lost(None)


@pytest.mark.parametrize(("status", "ended"), [(b"204 No Content", "completed"), (b"304 Not Modified", "error")])
async def test_a_stream_that_cannot_be_one_is_none(short_home: Path, status: bytes, ended: str) -> None:
    """Its head is the whole of it: were it taken for a beginning, the agent would lose its connection after it."""

    async def serve(link: Link) -> None:
        while True:
            await link.asked()
            await link.say(b"HTTP/1.1 %b\r\nContent-Type: text/event-stream\r\n\r\n" % status)

    async with scripted(serve) as provider:
        account = AccountSettings(name="main", provider="anthropic", upstream=provider.url)
        async with plane(short_home, accounts=[account]) as made:
            agent = await made.agent(accounts={"anthropic": "main"})
            answer = await agent.post("/anthropic/v1/messages", json=anthropic("hello", stream=True))
            assert answer.status == int(status[:3])
            assert await answer.read() == b""
            (entry,) = await made.entries(1)
            assert (entry.ended, entry.status) == (ended, int(status[:3]))


# Addresses


def _addresses(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, int]) -> None:
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo
    answers = [
        [
            (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))
            for host, port in found
            for family in (socket.AF_INET6 if ":" in host else socket.AF_INET,)
        ]
    ]

    async def looked_up(*given: Any, **named: Any) -> Any:
        # Some loops look up each of these addresses, too, when they connect to it.
        return answers.pop() if answers else await look_up(*given, **named)

    monkeypatch.setattr(loop, "getaddrinfo", looked_up)


def _nobody(host: str) -> int:
    """A port where nobody listens."""
    with socket.create_server((host, 0)) as gone:
        port: int = gone.getsockname()[1]
    return port


async def test_a_provider_is_found_at_whichever_of_its_addresses_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(forever) as provider:
        there = int(provider.url.rpartition(":")[2])
        _addresses(
            monkeypatch, ("127.0.0.2", _nobody("127.0.0.2")), ("::1", _nobody("127.0.0.1")), ("127.0.0.1", there)
        )
        assert await content(await provider.get()) == b"next"
        assert len(provider.links) == 1


async def test_addresses_that_fail_for_different_reasons_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    port = _nobody("127.0.0.1")
    # To the second, which is one for many, no stream can go.
    _addresses(monkeypatch, ("127.0.0.1", port), ("224.0.0.1", port))
    way = Upstream()
    with pytest.raises(UpstreamGone) as gone:
        await way.send("POST", f"http://provider.example:{port}/", HEADERS, None)
    assert str(gone.value) == "the provider cannot be reached: none of its addresses can be reached."
    await way.close()
