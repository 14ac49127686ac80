"""Compare how the server reads random requests with how another parser (h11) reads the same bytes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import h11
import pytest

from egress.http import bounded_http_server
from egress.http.response_writer import ResponseWriter
from egress.request.agent_request import AgentRequest, BrokenBody
from tests import soak
from tests.egress.scripted_provider import Wire
from tests.egress.wire_pieces import in_pieces, normalized

NAMES = (b"X-A", b"x-a", b"User-Agent", b"!#$%&'*+-.^_`|~0", b"Content-Type", b"Retry-After", b"Expect")
TARGETS = (b"/", b"/openai/v1/responses", b"/a?b=c&d", b"/%20", b"*", b"/" + b"a" * 3_000)
CONNECTIONS = (b" keep-alive", b"Keep-Alive", b"", b" x", b" Upgrade", b"upgrade, http2-settings")
CHUNKED = (b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked", b"TRANSFER-ENCODING: \tCHUNKED ")
OTHER = b"POST /other HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nhi"
#: Inserted at random places.
SCRAPS = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b":", b" ", b"\t", b"0", b";", b"\0", b"\x0b", b"\x7f", b"\x85", b"+", b"-"),
    *(b"f" * 17, b"0x", b"_", b"chunked", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b" folded\r\n", OTHER),
    *(b"Content-Length: 3\r\n", b"Content-Length: 3, 3\r\n", b"Content-Length: -1\r\n", b"Connection: close\r\n"),
    *(b"Transfer-Encoding: %b\r\n" % coding for coding in (b"chunked", b"gzip, chunked", b"identity", b"x")),
    *(b"Host: b\r\n", b"Upgrade: h2c\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"),
)


class Asked(NamedTuple):
    """One request, as a parser read it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    whole: bool


class Read(NamedTuple):
    """All that a parser read."""

    asked: list[Asked]
    broken: bool
    """Whether it refused something."""


def _legal(dice: random.Random) -> bytes:
    """Build a valid request that keeps the connection open."""
    fields = [b"Host: a"]
    for _ in range(dice.randrange(6)):
        value = bytes(dice.choice(b"abc \t\"',;=:\x80\xff/-_0") for _ in range(dice.randrange(12))).strip(b" \t")
        fields.append(dice.choice(NAMES) + b":" + dice.choice((b"", b" ", b"\t ")) + value + dice.choice((b"", b" \t")))
    if dice.random() < 0.2:
        fields.append(b"Connection:" + dice.choice(CONNECTIONS))
        if dice.random() < 0.5:
            fields.append(b"Upgrade: h2c")
    method = dice.choice((b"POST", b"POST", b"POST", b"GET", b"HEAD", b"DELETE", b"PUT"))
    content = OTHER if dice.random() < 0.1 else dice.randbytes(dice.choice((0, 1, 5, 100, 3_000, 90_000)))
    match dice.randrange(3):
        case 0:
            fields.append(b"content-LENGTH: " + b"0" * dice.choice((0, 0, 3)) + b"%d" % len(content))
        case 1:
            fields.append(dice.choice(CHUNKED))
            content = _chunks(dice, content)
        case _:
            content = b""
    dice.shuffle(fields)
    line = b"%b %b HTTP/1.1" % (method, dice.choice(TARGETS))
    return b"\r\n".join([line, *fields, b"", b""]) + content


def _chunks(dice: random.Random, content: bytes) -> bytes:
    out = b""
    while content:
        size = dice.choice((1, 2, 10, 1_000, 50_000))
        piece, content = content[:size], content[size:]
        extension = dice.choice((b"", b"", b";a=b", b';a="b;c"', b";a"))
        out += dice.choice((b"%x", b"%X", b"0%x")) % len(piece) + extension + b"\r\n" + piece + b"\r\n"
        if len(out) > 100_000:
            break
    out += dice.choice((b"0", b"00", b"0;x=y")) + b"\r\n"
    return out + dice.choice((b"", b"", b"X-Trailer: 1\r\nx-u: 2\r\n")) + b"\r\n"


def _garbled(dice: random.Random, said: bytes) -> bytes:
    content = bytearray(said)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        lines = [place + 2 for place in range(len(content) - 1) if content[place : place + 2] == b"\r\n"]
        place = dice.choice(lines) if lines and dice.random() < 0.6 else dice.randrange(len(content) + 1)
        match dice.randrange(4):
            case 0 | 1:
                content[place:place] = dice.choice(SCRAPS)
            case 2:
                del content[place : place + dice.randrange(1, 4)]
            case _:
                content[place : place + 1] = bytes([dice.randrange(256)])
    return bytes(content)


#: Rounds of the loop after which a handler that read nothing waits.
QUIET = 5


class Desk:
    """Answers and records each request when its body is complete."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.refused: list[str] = []
        self.current: AgentRequest | None = None
        self.body = b""
        self.server = bounded_http_server.Server(self.handle, broken=self.refused.append)

    async def handle(self, request: AgentRequest) -> bool:
        self.current = request
        self.body = b""
        whole = False
        try:
            while piece := await request.content.readany():
                self.body += piece
            whole = True
        except BrokenBody:
            self.refused.append("body")
        finally:
            headers = [
                (name.lower().encode(), value.encode("utf-8", "surrogateescape"))
                for name, value in request.headers.items()
            ]
            target = request.raw_path.encode("utf-8", "surrogateescape")
            self.asked.append(Asked(request.method.encode(), target, normalized(headers), self.body, whole))
            self.current = None
        answer = ResponseWriter(request)
        answer.refuse(200, (), b"", close=not whole)
        return answer.given()

    async def settled(self, connection: bounded_http_server.AgentConnection) -> None:
        """Wait until everything is answered, or the handler waits for bytes that were not sent."""
        quiet, before = 0, None
        while connection.task is not None:
            now = self.current, len(self.body), len(self.asked)
            quiet = quiet + 1 if now == before else 0
            if quiet >= QUIET and self.current is not None and not self.current.content.ended:
                assert self.current.content.read_nowait() == b"", "the handler was not told that it came"
                return
            before = now
            await asyncio.sleep(0)


class Line(Wire):
    """A transport that records what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.aborted = True


async def _ours(pieces: list[bytes]) -> Read:
    desk, line = Desk(), Line()
    connection = desk.server()
    connection.connection_made(line)
    for piece in pieces:
        if line.aborted:
            break
        connection.data_received(piece)
        await desk.settled(connection)
        assert not line.paused or line.aborted, "reading resumes after the body was read"
    task = connection.task
    connection.connection_lost(None)
    if task is not None:
        await asyncio.gather(task, return_exceptions=True)
    assert not desk.server.connections
    assert line.written.count(b"HTTP/1.1 ") <= len(desk.asked) + 1
    return Read(desk.asked, bool(desk.refused))


def _theirs(pieces: list[bytes]) -> Read:
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    found: list[Asked] = []
    request: h11.Request | None = None
    body = b""

    def asked(whole: bool) -> None:
        if request is not None:
            headers = normalized(list(request.headers))
            found.append(Asked(request.method, request.target, headers, body, whole))

    try:
        for piece in pieces:
            reader.receive_data(piece)
            while (event := reader.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    request, body = event, b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    asked(True)
                    if request is not None and request.method == b"CONNECT":
                        # What follows is not HTTP.
                        return Read(found, False)
                    request = None
                    reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    reader.send(h11.EndOfMessage())
                    if reader.our_state is not h11.DONE:
                        return Read(found, False)
                    reader.start_next_cycle()
    except h11.RemoteProtocolError:
        asked(False)
        return Read(found, True)
    asked(False)
    return Read(found, False)


async def _compare(enough: Callable[[int], bool]) -> None:
    seed = f"{soak.seed()}:wire"
    print(f"seed {seed}")
    dice = random.Random(seed)
    found = Counter[str]()
    number = 0
    while not enough(number):
        number += 1
        said = b"".join(_legal(dice) for _ in range(dice.choice((1, 1, 2, 3))))
        if legal := dice.random() < 0.4:
            pieces = in_pieces(dice, said)
            ours = await _ours(pieces)
            assert ours == _theirs(pieces), pieces
            assert all(asked.whole for asked in ours.asked)
            found["legal"] += 1
            continue
        said = _garbled(dice, said)
        pieces = in_pieces(dice, said)
        ours, theirs = await _ours(pieces), _theirs(pieces)
        found["broken" if ours.broken else "whole"] += 1
        # h11 must read every request that we accept in the same way. (It accepts more: lines that end in LF, folded
        # headers. It refuses a request without a Host.)
        for mine, other in zip(ours.asked, theirs.asked, strict=False):
            if not mine.whole:
                break
            assert mine == other, pieces
        else:
            taken = [asked for asked in ours.asked if asked.whole]
            assert len(taken) <= len(theirs.asked) or theirs.broken, (legal, pieces)
    print(found)
    assert {"legal", "whole", "broken"} <= set(found)


async def test_two_readers_make_the_same_of_a_request() -> None:
    await _compare(lambda number: number == 120)


@pytest.mark.soak
async def test_two_readers_make_the_same_of_a_request_for_long() -> None:
    until = time.monotonic() + soak.share()
    await _compare(lambda _: time.monotonic() > until)
