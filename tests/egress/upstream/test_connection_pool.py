"""The way to the providers: what is sent and how often, on which connection, and how long it waits for one that says
nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop
from multidict import CIMultiDict

from egress.request.body_buffer import Bodies, Body
from egress.tunnel.certificate_authority import CertificateAuthority
from egress.upstream import connection_pool, http1_connection
from egress.upstream.connection_pool import Upstream, check, host_header
from egress.upstream.http1_connection import UpstreamConnection
from egress.upstream.response_reader import UpstreamGone
from tests.egress.scripted_provider import LIMIT_S, NEXT, Link, Wire, content, forever, scripted

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
HEADERS: CIMultiDict[str] = CIMultiDict()
CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n"
LONG = 8 * 2**20


def a_body(folder: Path, content: bytes, *, long: bool = False) -> Body:
    """That of an agent's request."""
    number = None
    if long:
        (folder / "body").write_bytes(content)
        number = os.open(folder / "body", os.O_RDONLY)
    return Body(b"" if long else content, number, len(content), Bodies(folder), "coder0")


OWN = b"x-a: \xc3\xbc\r\nX-B: 1\r\nx-b: 2\r\nAuthorization: Bearer k\r\n"


@pytest.mark.parametrize(
    ("method", "path", "sent", "first", "last"),
    [
        ("POST", "/v1/m%20x?a=%zz&b", b"abc", b"POST /v1/m%20x?a=%zz&b HTTP/1.1\r\n", b"Content-Length: 3\r\n\r\nabc"),
        ("POST", "/v1/m", b"", b"POST /v1/m HTTP/1.1\r\n", b"Content-Length: 0\r\n\r\n"),
        ("GET", "/a//b/../c", b"", b"GET /a//b/../c HTTP/1.1\r\n", b"\r\n"),
        ("GET", "", None, b"GET / HTTP/1.1\r\n", b"\r\n"),
    ],
)
async def test_a_request_leaves_as_it_is_given(
    tmp_path: Path, method: str, path: str, sent: bytes | None, first: bytes, last: bytes
) -> None:
    async with scripted(forever) as provider:
        given = CIMultiDict([("x-a", "ü"), ("X-B", "1"), ("x-b", "2"), ("Authorization", "Bearer k")])
        carried = None if sent is None else a_body(tmp_path, sent)
        assert await content(await provider.way.send(method, provider.url + path, given, carried)) == b"next"
        host = b"Host: " + provider.url.removeprefix("http://").encode() + b"\r\n"
        assert provider.links[0].requests == [first + host + OWN + last]


@pytest.mark.parametrize("evil", ["a\r\nX-Evil: b", "a\nb", "a\rb", "a\r\n\r\nGET /", "a\0b", "\r", "\n"])
async def test_no_header_becomes_two(evil: str) -> None:
    async with scripted(forever) as provider:
        for headers, path in (({"X-A": evil}, "/"), ({evil: "b"}, "/"), ({}, f"/{evil}")):
            with pytest.raises(ValueError, match="line end"):
                await provider.way.send("GET", provider.url + path, CIMultiDict(headers), None)
        assert not provider.links


@pytest.mark.parametrize(
    ("written", "host"),
    [
        ("https://api.example.com", "api.example.com"),
        ("https://API.example.com:443", "api.example.com"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://[::1]:443", "[::1]:443"),
        ("https://[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_a_provider_is_told_the_name_it_is_called_by(written: str, host: str) -> None:
    assert host_header(written) == host


@pytest.mark.parametrize(
    "wrong",
    ["api.example.com", "ftp://a", "https://", "http://a:99999", "http://a:b", "http://[a", "https://büro.example"],
)
def test_what_is_no_address_of_a_provider_is_told(wrong: str) -> None:
    with pytest.raises(ValueError, match="is no address of a provider; write it like"):
        check(wrong)


async def test_one_connection_serves_one_after_another_and_each_at_the_same_time_has_its_own() -> None:
    async with scripted(forever) as provider:
        for _ in range(3):
            assert await content(await provider.get()) == b"next"
        assert len(provider.links) == 1
        responses = await asyncio.gather(*(provider.get() for _ in range(3)))
        assert [await content(response) for response in responses] == [b"next"] * 3
        assert len(provider.links) == 3
        for _ in range(5):
            await provider.get()
        assert len(provider.links) == 3


async def test_letting_go_of_a_response_that_is_whole_leaves_the_next_one_alone() -> None:
    async with scripted(forever) as provider:
        first = await provider.get()
        second = asyncio.create_task(provider.get())
        await asyncio.sleep(0)
        # The connection is the other's by now.
        first.abort()
        assert await content(await second) == b"next"
        assert await content(first) == b"next"
        assert len(provider.links) == 1


async def test_a_response_that_is_left_ends_at_the_provider_at_once() -> None:
    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(HEAD + b"some")
        await link.end()

    async with scripted(serve) as provider:
        response = await provider.get("POST")
        reading = asyncio.create_task(content(response))
        await asyncio.sleep(0)
        response.abort()
        with pytest.raises(UpstreamGone, match="it was left"):
            await reading
        await provider.links[0].ended.wait()


async def test_who_leaves_just_when_the_answer_is_there_leaves_the_connection_to_the_next() -> None:
    wire, buffer, free = Wire(), bytearray(http1_connection.PIECE), list[UpstreamConnection]()
    connection = UpstreamConnection(buffer=memoryview(buffer), free=free.append, lost=lambda _: None)
    connection.connection_made(wire)
    asking = asyncio.create_task(connection.ask(b"", None))
    await asyncio.sleep(0)
    buffer[: len(NEXT)] = NEXT
    connection.buffer_updated(len(NEXT))
    assert free == [connection]
    following = asyncio.create_task(connection.ask(b"", None))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not wire.aborted
    connection.buffer_updated(len(NEXT))
    assert await content(await following) == b"next"
    connection.connection_lost(None)


async def test_who_leaves_before_the_answer_takes_the_connection_along() -> None:
    asked = asyncio.Event()

    async def serve(link: Link) -> None:
        await link.asked()
        asked.set()
        await link.end()

    async with scripted(serve) as provider:
        waiting = asyncio.create_task(provider.get("POST"))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await provider.links[0].ended.wait()


# A provider that closes


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen yet"])
async def test_a_connection_that_was_closed_while_it_was_idle_costs_no_request(tmp_path: Path, seen: bool) -> None:
    """Also when the loop has not looked since, so that only the socket knows."""
    loop = asyncio.get_running_loop()
    links: list[socket.socket] = []

    async def serve() -> None:
        while True:
            link, _ = await loop.sock_accept(listening)
            links.append(link)
            await loop.sock_recv(link, 65_536)
            await loop.sock_sendall(link, NEXT)

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    serving, way = asyncio.create_task(serve()), Upstream()
    try:
        async with asyncio.timeout(LIMIT_S):
            for number in range(4):
                assert await content(await way.send("POST", url, HEADERS, a_body(tmp_path, b"%d" % number))) == b"next"
                links[-1].close()
                if seen:
                    await asyncio.sleep(0)
        assert len(links) == 4
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await way.close()
        listening.close()


@pytest.mark.parametrize("sent", [b"two", b""], ids=["a body", "none"])
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_what_was_asked_of_a_model_is_not_asked_again_by_itself(tmp_path: Path, how: str, sent: bytes) -> None:
    """The connection was used before, and closes just when the next request is on it: was it read?"""

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(NEXT)
        await link.asked()
        if how == "reset":
            link.writer.transport.abort()

    async with scripted(serve) as provider:
        await content(await provider.get("POST", a_body(tmp_path, b"one")))
        with pytest.raises(UpstreamGone, match=r"gave no answer: (it closed|connection reset)") as gone:
            await provider.get("POST", a_body(tmp_path, sent))
        assert gone.value.sent
        assert [len(link.requests) for link in provider.links] == [2]


async def test_what_may_be_repeated_is_repeated_once(tmp_path: Path) -> None:
    async def serve(link: Link) -> None:
        await link.asked()
        if len(provider.links) == 1:
            await link.say(NEXT)
            await link.asked()

    async with scripted(serve) as provider:
        await content(await provider.get())
        # The second connection closes before it says anything, too.
        with pytest.raises(UpstreamGone, match="it closed the connection"):
            await provider.get()
        assert [len(link.requests) for link in provider.links] == [2, 1]


@pytest.mark.parametrize("first", [NEXT, b""], ids=["after a byte", "on a new connection"])
async def test_nothing_is_repeated_on_less_than_an_old_connection_without_a_word(first: bytes) -> None:
    async def serve(link: Link) -> None:
        if first:
            await link.asked()
            await link.say(first)
        await link.asked()
        await link.say(b"H" if first else b"")

    async with scripted(serve) as provider:
        if first:
            await content(await provider.get())
        with pytest.raises(UpstreamGone, match="it closed the connection"):
            await provider.get()
        assert len(provider.links) == 1


async def test_a_list_of_models_survives_a_connection_that_closes_under_it() -> None:
    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(NEXT)
        await link.asked()
        if len(provider.links) > 1:
            await link.say(NEXT)
            await link.end()

    async with scripted(serve) as provider:
        assert [await content(await provider.get()) for _ in range(2)] == [b"next", b"next"]
        assert [len(link.requests) for link in provider.links] == [2, 1]


async def test_a_word_that_nobody_asked_for_ends_a_connection() -> None:
    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(NEXT)
        if len(provider.links) == 1:
            await link.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await link.end()

    async with scripted(serve) as provider:
        await content(await provider.get())
        await provider.links[0].ended.wait()
        assert await content(await provider.get()) == b"next"
        assert len(provider.links) == 2


async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "IDLE_S", 0.05)

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(NEXT)
        await link.end()

    async with scripted(serve) as provider:
        for _ in range(2):
            await content(await provider.get())
            await provider.links[-1].ended.wait()
        assert len(provider.links) == 2


# A connection


async def test_a_provider_that_is_not_there_was_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    way = Upstream()
    hosts = {
        "127.0.0.1": "connection refused",
        "nobody.invalid": "its name is not found",
        "a..b": "its name is not found",
    }
    for host, why in hosts.items():
        with pytest.raises(UpstreamGone, match=f"^the provider cannot be reached: {why}[.]$") as found:
            await way.send("POST", f"http://{host}:{port}/", HEADERS, None)
        assert not found.value.sent
    await way.close()


async def test_a_provider_that_closes_every_connection_at_once_gives_no_answer(tmp_path: Path) -> None:
    async def serve(link: Link) -> None:
        """Not a word."""

    async with scripted(serve) as provider:
        for _ in range(20):
            with pytest.raises(UpstreamGone, match=r"closed the connection|connection reset|broken pipe"):
                await provider.get("POST", a_body(tmp_path, b"hello"))


async def test_who_finds_all_connections_in_use_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "MOST_CONNECTIONS", 2)

    async with scripted(forever) as provider:
        responses = await asyncio.gather(*(provider.get() for _ in range(20)))
        assert [await content(response) for response in responses] == [b"next"] * 20
        assert len(provider.links) == 2


async def test_who_finds_all_connections_in_use_for_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_pool, "MOST_CONNECTIONS", 1)
    monkeypatch.setattr(connection_pool, "CONNECT_S", 0.05)

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(HEAD)
        await link.end()

    async with scripted(serve) as provider:
        response = await provider.get()
        with pytest.raises(UpstreamGone, match="cannot be reached: the time for it is over") as gone:
            await provider.get()
        assert not gone.value.sent
        # Who gave up keeps nobody from the place that is free now.
        response.abort()
        second = await provider.get()
        second.abort()
        assert len(provider.links) == 2


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    made = CertificateAuthority(tmp_path / "ca", tmp_path / "trust")
    made.cover(["localhost", "other.example"])
    return made


async def test_over_tls_the_provider_is_who_it_says_and_speaks_what_is_spoken(authority: CertificateAuthority) -> None:
    told: list[tuple[str | None, str | None]] = []
    server = authority.context("localhost")
    server.sni_callback = lambda link, name, context: told.append((name, None))

    async def serve(link: Link) -> None:
        told.append((None, link.writer.get_extra_info("ssl_object").selected_alpn_protocol()))
        await forever(link)

    client = ssl.create_default_context(cadata=authority.certificates())
    client.set_alpn_protocols(["http/1.1"])
    async with scripted(serve, server_tls=server, client_tls=client) as provider:
        for _ in range(3):
            assert await content(await provider.get()) == b"next"
        assert told == [("localhost", None), (None, "http/1.1")]


@pytest.mark.parametrize(
    ("host", "trusted", "why"),
    [
        ("localhost", False, "its certificate is not valid"),
        ("other.example", True, "its certificate is not valid"),
        ("plain", True, "tls failed"),
    ],
)
async def test_a_provider_that_is_not_who_it_says_is_sent_nothing(
    authority: CertificateAuthority, host: str, trusted: bool, why: str
) -> None:
    heard = asyncio.Event()

    async def serve(link: Link) -> None:
        await link.say(b"220 mail.example ESMTP\r\n")
        await link.asked()
        heard.set()

    client = ssl.create_default_context(cadata=authority.certificates() if trusted else None)
    server = None if host == "plain" else authority.context(host)
    async with scripted(serve, server_tls=server, client_tls=client) as provider:
        url = provider.url.replace("http://127.0.0.1", "https://localhost")
        with pytest.raises(UpstreamGone, match=f"(?i)^the provider cannot be reached: {why}") as gone:
            await provider.way.send("POST", url, HEADERS, None)
        assert not gone.value.sent
        assert not heard.is_set()


@pytest.mark.parametrize("loops", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("said", [True, False], ids=["told", "cut"])
def test_over_tls_a_response_without_a_length_ends_only_where_the_provider_says_so(
    authority: CertificateAuthority, said: bool, loops: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Anybody on the way can end a connection, but not its TLS (RFC 9112, 9.8)."""

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        if said:
            link.writer.close()
        else:
            # The connection beneath ends, without the word of TLS that it does.
            with socket.socket(fileno=os.dup(link.writer.get_extra_info("socket").fileno())) as beneath:
                beneath.shutdown(socket.SHUT_WR)
        await link.end()

    async def ask() -> None:
        client = ssl.create_default_context(cadata=authority.certificates())
        server = authority.context("localhost")
        async with scripted(serve, server_tls=server, client_tls=client) as provider:
            response = await provider.get()
            if said:
                assert await content(response) == b"all of it"
                return
            assert await response.readany() == b"all of it"
            with pytest.raises(UpstreamGone, match="it closed the connection"):
                await response.readany()

    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(ask())


# A long request


async def test_a_long_request_arrives_whole_and_is_given_back_before_the_response_ends(tmp_path: Path) -> None:
    sent = os.urandom(LONG)

    async def serve(link: Link) -> None:
        assert (await link.asked()).endswith(sent)
        await link.say(NEXT[:-4])
        assert not carried.long
        await link.say(NEXT[-4:])
        await link.asked()

    carried = a_body(tmp_path, sent, long=True)
    async with scripted(serve) as provider:
        response = await provider.get("POST", carried)
        assert await content(response) == b"next"
        # The connection is as good as after a short one.
        again = asyncio.create_task(provider.get())
        while len(provider.links[0].requests) < 2:
            await asyncio.sleep(0)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


@pytest.mark.parametrize("long", [True, False], ids=["from a file", "from memory"])
async def test_an_answer_gets_through_before_the_request_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    """Too long, too many: a provider says so without reading all of it."""
    # No connection that lies idle is closed for that.
    monkeypatch.setattr(connection_pool, "IDLE_S", 1_000.0)
    refused = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n\r\ntoo long"

    async def serve(link: Link) -> None:
        link.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        await link.reader.readuntil(b"\r\n\r\n")
        await link.say(refused)
        await link.end()

    carried = a_body(tmp_path, bytes(LONG), long=long)
    async with scripted(serve) as provider:
        response = await provider.get("POST", carried)
        assert (response.status, await content(response)) == (413, b"too long")
        # The rest of it goes nowhere.
        await provider.links[0].ended.wait()
        while carried.long or carried.content():
            await asyncio.sleep(0)
        assert await content(await provider.get("POST")) == b"too long"
        assert len(provider.links) == 2


@pytest.mark.parametrize("how", ["closes", "falls silent"])
async def test_a_provider_that_does_not_take_a_request_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(http1_connection, "SILENCE_S", 0.2)

    async def serve(link: Link) -> None:
        await link.reader.readuntil(b"\r\n\r\n")
        if how == "falls silent":
            link.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await over.wait()

    over = asyncio.Event()
    carried = a_body(tmp_path, bytes(4 * LONG), long=True)
    async with scripted(serve) as provider:
        with pytest.raises(UpstreamGone, match="the provider gave no answer: ") as gone:
            await provider.get("POST", carried)
        assert gone.value.sent
        over.set()
        while carried.long:
            await asyncio.sleep(0)


async def test_a_request_that_cannot_be_read_again_is_not_ended_as_if_it_were_whole(tmp_path: Path) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(link: Link) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await link.asked()
            pytest.fail("it looked whole")
        ended.set_result(None)

    carried = a_body(tmp_path, bytes(LONG), long=True)
    os.truncate(tmp_path / "body", LONG - 1)
    async with scripted(serve) as provider:
        with pytest.raises(UpstreamGone, match="could not be read again"):
            await provider.get("POST", carried)
        await ended


# A provider that says nothing


@pytest.mark.parametrize("said", [b"", HEAD, HEAD + b"and then"], ids=["nothing", "head", "part"])
async def test_a_provider_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(http1_connection, "SILENCE_S", 0.2)

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(said)
        await link.end()

    async with scripted(serve) as provider:
        if said:
            response = await provider.get()
            with pytest.raises(UpstreamGone, match="broke off: the time for it is over") as gone:
                await content(response)
        else:
            with pytest.raises(UpstreamGone, match="gave no answer: the time for it is over") as gone:
                await provider.get()
        assert gone.value.sent
        await provider.links[0].ended.wait()


class _Clock:
    """In the place of the loop: the time is what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.alarms: list[_Alarm] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, act: Callable[[], None]) -> _Alarm:
        self.alarms.append(_Alarm(self.alarms, when, act))
        return self.alarms[-1]

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def until(self, now: float) -> None:
        """Let the time pass."""
        while due := [alarm for alarm in self.alarms if alarm.when <= now]:
            due[0].cancel()
            self.now = due[0].when
            due[0].act()
        self.now = now


class _Alarm:
    def __init__(self, among: list[_Alarm], when: float, act: Callable[[], None]) -> None:
        self.among, self.when, self.act = among, when, act

    def cancel(self) -> None:
        self.among.remove(self)


async def test_the_clock_begins_anew_with_every_piece_and_stands_still_between_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http1_connection, "SILENCE_S", 10.0)
    clock, wire, buffer = _Clock(), Wire(), bytearray(http1_connection.PIECE)
    free: list[UpstreamConnection] = []
    connection = UpstreamConnection(
        buffer=memoryview(buffer), free=free.append, lost=lambda _: None, loop=cast("Any", clock)
    )
    connection.connection_made(wire)

    def come(content: bytes) -> None:
        buffer[: len(content)] = content
        connection.buffer_updated(len(content))

    asking = asyncio.create_task(connection.ask(b"", None))
    await asyncio.sleep(0)
    come(HEAD)
    response = await asking
    for now in range(1, 100):
        clock.until(now)
        come(b"p")
        assert len(clock.alarms) == 1
    clock.until(108)
    come(b"p")
    assert free == [connection]
    assert await content(response) == b"p" * 100
    # Idle, it waits for nothing.
    clock.until(500)
    assert not wire.aborted

    asking = asyncio.create_task(connection.ask(b"", None))
    await asyncio.sleep(0)
    clock.until(509)
    come(HEAD.replace(b"100", b"1000000"))
    response = await asking
    for _ in range(2):
        come(b"p" * http1_connection.PIECE)
    # A client that takes nothing is not the provider's silence.
    assert wire.paused
    clock.until(1_000)
    assert not wire.aborted
    assert len(response.read_nowait()) == 2 * http1_connection.PIECE
    assert not wire.paused
    clock.until(1_009)
    assert not wire.aborted
    clock.until(1_011)
    assert wire.aborted
    with pytest.raises(UpstreamGone, match="the time for it is over"):
        response.read_nowait()


@pytest.mark.parametrize(
    ("before", "why"),
    [(b"HTTP/1.1 200 OK\r\nX-A: ", "gave no answer"), (CHUNK + b"1;", "broke off")],
    ids=["head", "chunk"],
)
async def test_a_head_that_never_ends_is_silence(monkeypatch: pytest.MonkeyPatch, before: bytes, why: str) -> None:
    """A byte now and then keeps neither a place here nor what is reserved for the agent for ever."""
    monkeypatch.setattr(http1_connection, "SILENCE_S", 10.0)
    clock, wire, buffer = _Clock(), Wire(), bytearray(http1_connection.PIECE)
    connection = UpstreamConnection(
        buffer=memoryview(buffer), free=lambda _: None, lost=lambda _: None, loop=cast("Any", clock)
    )
    connection.connection_made(wire)
    asking = asyncio.create_task(connection.ask(b"", None))
    await asyncio.sleep(0)
    # The first byte may take as long as it likes, up to there.
    for now, piece in enumerate([before, *[b"x"] * 9], start=9):
        clock.until(now)
        buffer[: len(piece)] = piece
        connection.buffer_updated(len(piece))
        assert not wire.aborted
    clock.until(20)
    assert wire.aborted

    async def read() -> bytes:
        return await content(await asking)

    with pytest.raises(UpstreamGone, match=f"{why}: the time for it is over"):
        await read()
