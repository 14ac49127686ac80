"""HTTP as clients write it, well and badly, on raw sockets; and providers that do so."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from egress.http import response_writer
from egress.request import body_buffer
from egress.settings import AccountSettings, LimitSettings
from tests.egress.whole_egress import Plane, anthropic, plane

BODY = json.dumps(anthropic("[[say: yes]]")).encode()
POST = b"POST /anthropic/v1/messages HTTP/1.1\r\nHost: egress\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


@asynccontextmanager
async def _line(made: Plane, limit: int = 2**16) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(made.paths.listener("coder0")), limit=limit)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """One response, with its content by its length, its chunks, or up to the end of the connection."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        status = int(head[0].split()[1])
        if "content-length" in headers:
            return status, headers, await reader.readexactly(int(headers["content-length"]))
        if "chunked" not in headers.get("transfer-encoding", ""):
            return status, headers, await reader.read()
        content = b""
        while size := int(await reader.readline(), 16):
            content += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return status, headers, content


async def _exchange(made: Plane, request: bytes) -> tuple[int, dict[str, str], bytes]:
    async with _line(made) as (reader, writer):
        writer.write(request)
        return await _answer(reader)


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[place : place + size] for place in range(0, len(body), size)]
    return b"".join(b"%X;odd=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nX-Trailer: 1\r\n\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        POST + LENGTH + b"\r\n" + BODY,
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(BODY, 1),
        POST + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(BODY, 4096),
        b"\r\n" + POST + LENGTH + b"\r\n" + BODY,
        POST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(gzip.compress(BODY)) + gzip.compress(BODY),
        POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n" + _chunked(BODY, 7),
    ],
    ids=[
        "length",
        "chunks of one",
        "one chunk",
        "an empty line before",
        "compressed",
        "another protocol is offered",
        "another protocol is offered, with chunks",
    ],
)
async def test_legal_ways_to_write_a_request(tmp_path: Path, request_: bytes) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        status, headers, content = await _exchange(made, request_)
        assert (status, b"yes" in content) == (200, True), content
        assert headers["content-length"] == str(len(content))
        assert (await made.entries(1))[0].ended == "completed"


async def test_an_old_client_gets_an_answer_that_ends_with_the_connection(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        streaming = json.dumps(anthropic("[[say: yes]]", stream=True)).encode()
        old = b"POST /anthropic/v1/messages HTTP/1.0\r\nContent-Length: %d\r\n\r\n"
        async with _line(made) as (reader, writer):
            writer.write(old % len(streaming) + streaming)
            status, headers, content = await _answer(reader)
            assert status == 200
            assert "transfer-encoding" not in headers
            assert content.rstrip().endswith(b'{"type":"message_stop"}')
            assert await reader.read() == b""


async def test_one_connection_carries_many_requests(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        async with _line(made) as (reader, writer):
            # Two at once, the second before the first was answered, and a refused one between.
            writer.write(POST + LENGTH + b"\r\n" + BODY + b"GET /anthropic/v1/files HTTP/1.1\r\nHost: egress\r\n\r\n")
            writer.write(POST + LENGTH + b"\r\n" + BODY)
            assert [(await _answer(reader))[0] for _ in range(3)] == [200, 403, 200]
            writer.write(POST + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY)
            assert (await _answer(reader))[0] == 200
            assert await reader.read() == b""


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        async with _line(made) as (reader, writer):
            writer.write(POST + LENGTH + b"Expect: 100-continue\r\n\r\n")
            assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(BODY)
            assert (await _answer(reader))[0] == 200


async def test_head_has_no_content(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        async with _line(made) as (reader, writer):
            writer.write(b"HEAD /anthropic/ HTTP/1.1\r\nHost: egress\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            writer.write(POST + LENGTH + b"\r\n" + BODY)
            assert (await _answer(reader))[0] == 200


@pytest.mark.parametrize(
    "request_",
    [
        POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY,
        POST + LENGTH + LENGTH + b"\r\n" + BODY,
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"POST /anthropic/v1/messages HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Host: other\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"X-Folded: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"X-Space : a\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"X-Zero: a\0b\r\n" + LENGTH + b"\r\n" + BODY,
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"POST http://api.anthropic.com/v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n" + LENGTH + b"\r\n" + BODY,
        b"POST //anthropic/v1/messages HTTP/1.1\r\nHost: egress\r\n" + LENGTH + b"\r\n" + BODY,
        b"POST /anthropic/x/../v1/messages HTTP/1.1\r\nHost: egress\r\n" + LENGTH + b"\r\n" + BODY,
        b"POST /anthropic/v1%2Fmessages HTTP/1.1\r\nHost: egress\r\n" + LENGTH + b"\r\n" + BODY,
        b"POST /anthropic/v1/messages#a HTTP/1.1\r\nHost: egress\r\n" + LENGTH + b"\r\n" + BODY,
        b"POST /anthropic/v1/messages HTTP/9.9\r\nHost: egress\r\n" + LENGTH + b"\r\n" + BODY,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage\r\n\r\n",
        b"POST /anthropic/v1/messages HTTP/1.1\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n",
        POST + b"X-Many: 1\r\n" * 200 + LENGTH + b"\r\n" + BODY,
    ],
    ids=range(25),
)
async def test_what_could_smuggle_something_in_is_refused_and_its_connection_closed(
    tmp_path: Path, request_: bytes
) -> None:
    async with plane(tmp_path) as made:
        await made.agent()
        async with _line(made) as (reader, writer):
            writer.write(request_)
            async with asyncio.timeout(10):
                content = await reader.read()
        assert content[:12] in {b"HTTP/1.1 400", b"HTTP/1.0 400", b""}, content
        assert content.count(b"HTTP/1.") <= 1
        assert made.provider.ledger.next_number() == 1


async def test_a_long_request_arrives_as_it_was_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with plane(tmp_path) as made:
        agent = await made.agent()
        asked = anthropic("[[say: yes]]", system="a" * (3 * body_buffer.IN_MEMORY))
        response = await agent.post("/anthropic/v1/messages", data=io.BytesIO(json.dumps(asked).encode()))
        assert response.status == 200, await response.text()
        (entry,) = await made.entries(1)
        assert entry.tokens.total > 100_000
        assert list(made.paths.spool.iterdir()) == []


async def test_what_a_long_request_took_is_given_back_while_its_answer_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_buffer, "MOST_ON_DISK", int(3 * body_buffer.IN_MEMORY / body_buffer.SHARE))
    async with plane(tmp_path) as made:
        agent = await made.agent()
        open_ = []
        for number in range(3):
            asked = anthropic(f"[[say: {number}]][[hang]]", stream=True, system="a" * (2 * body_buffer.IN_MEMORY))
            response = await agent.post("/anthropic/v1/messages", data=io.BytesIO(json.dumps(asked).encode()))
            assert response.status == 200, await response.text()
            await response.content.readuntil(b"text_delta")
            open_.append(response)
        for response in open_:
            response.close()


async def test_where_there_is_no_room_for_long_requests_they_are_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_buffer, "MOST_ON_DISK", body_buffer.IN_MEMORY)
    async with plane(tmp_path) as made:
        agent = await made.agent()
        asked = json.dumps(anthropic(system="a" * (2 * body_buffer.IN_MEMORY))).encode()
        response = await agent.post("/anthropic/v1/messages", data=io.BytesIO(asked))
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        # Short ones pass.
        assert (await agent.post("/anthropic/v1/messages", json=anthropic())).status == 200


@pytest.mark.parametrize("announced", [True, False])
async def test_a_request_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(body_buffer, "LONGEST", 2_000)
    async with plane(tmp_path) as made:
        await made.agent()
        if announced:
            status, headers, content = await _exchange(made, POST + b"Content-Length: 2001\r\n\r\n")
        else:
            coded = b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(b"a" * 2_001, 500)
            status, headers, content = await _exchange(made, POST + coded)
        assert status == 413
        assert json.loads(content)["error"]["type"] == "request_too_large"
        assert headers["connection"] == "close"


@asynccontextmanager
async def _odd(
    tmp_path: Path, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[Plane]:
    """An egress before a provider that answers by hand."""
    async with plane(tmp_path) as made:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        odd = AccountSettings(name="main", provider="anthropic", upstream=f"http://127.0.0.1:{port}")
        await made.egress.configure(made.settings(odd))
        try:
            yield made
        finally:
            server.close()


async def _asked(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head


async def test_a_provider_that_sends_without_end_is_held_up_by_a_client_that_does_not_read(tmp_path: Path) -> None:
    held_up: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()
    ping = b'event: ping\ndata: {"type": "ping", "filler": "' + b"a" * 50_000 + b'"}\n\n'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        sent = 0
        try:
            while not gone.is_set():
                writer.write(ping)
                sent += len(ping)
                drained = asyncio.ensure_future(writer.drain())
                done, _ = await asyncio.wait([drained], timeout=1.0)
                if not done and not held_up.done():
                    held_up.set_result(sent)
                await drained
        except ConnectionError:
            gone.set()
        finally:
            writer.close()

    async with _odd(tmp_path, answer) as made:
        await made.agent(accounts={"anthropic": "main"})
        async with _line(made, limit=2**14) as (_, writer):
            streaming = json.dumps(anthropic(stream=True)).encode()
            writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(streaming) + streaming)
            sent = await asyncio.wait_for(held_up, 30)
            # Kernel buffers of both sides and a few of ours: no more than that was taken.
            assert sent < 16 * 2**20
            # And whoever does not read holds up neither a cut nor what follows from it.
            async with asyncio.timeout(response_writer.GRACE_S + 5):
                assert await made.egress.gate.deny("coder0", "cutoff", cause="x", by="ops", id="1") == 1
                await gone.wait()
                assert (await made.entries(1))[0].ended == "cut"


async def test_a_client_that_takes_nothing_any_more_holds_no_reservation_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_writer, "STALLED_S", 0.2)
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        ping = b'event: ping\ndata: {"type": "ping", "filler": "' + b"a" * 50_000 + b'"}\n\n'
        try:
            while True:
                writer.write(ping)
                await writer.drain()
        except ConnectionError:
            gone.set()
        finally:
            writer.close()

    async with _odd(tmp_path, answer) as made:
        await made.agent(accounts={"anthropic": "main"})
        async with _line(made, limit=2**14) as (_, writer):
            streaming = json.dumps(anthropic(stream=True)).encode()
            writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(streaming) + streaming)
            async with asyncio.timeout(30):
                await gone.wait()
                assert (await made.entries(1))[0].ended == "client_gone"


def _message(*, output: int, text: str = "") -> bytes:
    """The events of a whole message."""
    events: list[tuple[str, dict[str, object]]] = [
        ("message_start", {"message": {"id": "m", "model": "x", "usage": {"input_tokens": 10, "output_tokens": 1}}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": output}}),
        ("message_stop", {}),
    ]
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps({"type": name, **more}).encode())
        for name, more in events
    )


def _streams(content: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """A provider that answers with this in a single write."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(content)
        writer.write(head + content)
        writer.close()

    return answer


async def test_events_that_come_together_count_before_any_of_them_goes_on(tmp_path: Path) -> None:
    async with _odd(tmp_path, _streams(_message(output=50_000, text="free of charge"))) as made:
        limit = LimitSettings(kind="allowance", scope="agent:coder0", amount=10_000)
        session = await made.agent(accounts={"anthropic": "main"}, limits=(limit,))
        async with session.post("/anthropic/v1/messages", json=anthropic(stream=True)) as response:
            given = await response.read()
        assert b"free of charge" not in given
        assert b"message_stop" not in given
        assert b'"error"' in given
        (entry,) = await made.entries(1)
        # What the provider billed was here with them, and stands in the ledger to the token.
        assert (entry.ended, entry.tokens.input, entry.tokens.output, entry.reported) == ("cut", 10, 50_000, True)
        async with session.post("/anthropic/v1/messages", json=anthropic(stream=True)) as response:
            assert response.status == 403


async def test_nothing_behind_the_terminal_event_goes_on(tmp_path: Path) -> None:
    whole = _message(output=5)
    behind = _message(output=1_000, text="free of charge")
    async with _odd(tmp_path, _streams(whole + behind)) as made:
        session = await made.agent(accounts={"anthropic": "main"})
        async with session.post("/anthropic/v1/messages", json=anthropic(stream=True)) as response:
            assert await response.read() == whole
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.tokens.output, entry.reported) == ("completed", 5, True)


async def test_a_provider_that_goes_on_behind_the_terminal_event_is_hung_up_on(tmp_path: Path) -> None:
    whole = _message(output=5)
    gone = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + whole)
        try:
            while True:
                writer.write(_message(output=1_000, text="free of charge"))
                await writer.drain()
        except ConnectionError:
            gone.set()
        finally:
            writer.close()

    async with _odd(tmp_path, answer) as made:
        session = await made.agent(accounts={"anthropic": "main"})
        async with asyncio.timeout(30):
            async with session.post("/anthropic/v1/messages", json=anthropic(stream=True)) as response:
                assert await response.read() == whole
            await gone.wait()


async def test_a_redirection_is_not_followed_and_its_place_not_told(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        writer.write(
            b"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        )
        writer.close()

    async with _odd(tmp_path, answer) as made:
        await made.agent(accounts={"anthropic": "main"})
        status, headers, _ = await _exchange(made, POST + LENGTH + b"\r\n" + BODY)
        assert status == 307
        assert not {"location", "set-cookie"} & set(headers)
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.tokens.total) == ("error", 0)


DOCUMENT = json.dumps(
    {
        "type": "message",
        "model": "claude-x",
        "content": [{"type": "text", "text": "words " * 40_000}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }
).encode()


@pytest.mark.parametrize("label", [b"Content-Encoding: gzip\r\n", b""])
@pytest.mark.parametrize("old", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n"])
async def test_a_provider_that_compresses_all_the_same_is_metered(tmp_path: Path, label: bytes, old: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await _asked(reader)
        assert b"accept-encoding: identity" in head.lower()
        content = gzip.compress(DOCUMENT)
        writer.write(old + label + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(content))
        writer.write(content)
        await writer.drain()
        writer.close()

    async with _odd(tmp_path, answer) as made:
        await made.agent(accounts={"anthropic": "main"})
        status, headers, content = await _exchange(made, POST + LENGTH + b"\r\n" + BODY)
        assert (status, content) == (200, DOCUMENT)
        assert "content-encoding" not in headers
        (entry,) = await made.entries(1)
        assert (entry.tokens.input, entry.tokens.output, entry.reported) == (11, 7, True)


async def test_a_document_that_breaks_off_never_looks_whole(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT))
        writer.write(DOCUMENT[:-1])
        await writer.drain()
        writer.close()

    async with _odd(tmp_path, answer) as made:
        await made.agent(accounts={"anthropic": "main"})
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await _exchange(made, POST + LENGTH + b"\r\n" + BODY)
        (entry,) = await made.entries(1)
        assert (entry.ended, entry.reported) == ("upstream_gone", False)


async def test_a_long_request_is_bounded_like_any_other(tmp_path: Path) -> None:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        seen.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(DOCUMENT))
        writer.write(DOCUMENT)
        await writer.drain()
        writer.close()

    async with _odd(tmp_path, answer) as made:
        (account,) = made.egress.gate.settings.accounts
        limit = LimitSettings(kind="pool", scope="host", amount=10_000_000)
        await made.egress.configure(made.settings(account).model_copy(update={"limits": (limit,)}))
        agent = await made.agent(accounts={"anthropic": "main"})
        asked = anthropic(system="a" * (2 * body_buffer.IN_MEMORY), max_tokens=20_000_000)
        response = await agent.post("/anthropic/v1/messages", data=io.BytesIO(json.dumps(asked).encode()))
        assert response.status == 200, await response.text()
        # Before that it was asked to count, and gave no count.
        sent = json.loads(seen[-1])
        assert 0 < sent.pop("max_tokens") < asked.pop("max_tokens")
        # So near a limit it is asked for as a stream, which can be cut.
        assert sent == {**asked, "stream": True}
