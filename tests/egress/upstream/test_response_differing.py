"""What is made of a provider's bytes, compared to what another reader of the same bytes makes of them (h11)."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import h11
import pytest

from egress.upstream import http1_connection
from egress.upstream.http1_connection import UpstreamConnection
from egress.upstream.response_reader import UpstreamGone
from tests import soak
from tests.egress.scripted_provider import Wire
from tests.egress.wire_pieces import in_pieces, normalized

NAMES = (b"X-A", b"x-a", b"Server", b"!#$%&'*+-.^_`|~0", b"Content-Type", b"Retry-After", b"Keep-Alive")
STATUSES = (*[200] * 8, 201, 202, 203, 204, 204, 205, 206, 301, 304, 304, 400, 401, 413, 429, 500, 529, 600, 999)
CONNECTIONS = (b" close", b"keep-alive", b" Close", b" x, close", b"CLOSE , x", b"", b" keep-alive, close", b" upgrade")
CHUNKED = (b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked", b"TRANSFER-ENCODING: \tCHUNKED ")
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
#: What is put where it does not belong.
SCRAPS = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b":", b" ", b"\t", b"0", b";", b"\0", b"\x0b", b"\x7f", b"\x85", b"+", b"-"),
    *(
        b"f" * 17,
        b"0x",
        b"_",
        b"chunked",
        b"204",
        b"304",
        b"101",
        b"099",
        b"HTTP/1.1 200 OK\r\n",
        WHOLE,
        b" folded\r\n",
    ),
    *(b"Content-Length: 3\r\n", b"Content-Length: 3, 3\r\n", b"Connection: close\r\n", b"Upgrade: x\r\n"),
    *(b"Transfer-Encoding: %b\r\n" % coding for coding in (b"chunked", b"gzip, chunked", b"identity")),
    *(b"HTTP/1.1 %d x\r\n\r\n" % status for status in (100, 101, 99)),
    b"HTTP/1.1 104 x\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 104 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: 1\r\n\r\n",
)
#: These alone are taken from a provider though they should not be: no reader makes anything else of them.
_BLANK_LINES = re.compile(rb"(?:\A|(?<=\r\n\r\n))[\r\n]+(?=HTTP/)")
_REASONS = re.compile(rb"(?<=HTTP/1\.[01] \d{3} )[^\r\n]*")


class Read(NamedTuple):
    """What a reader made of it."""

    how: str
    """`whole`; `part`: more is to come; `none`: the head is to come; `broken`."""
    response: object = None
    again: bool = False
    """The connection may be used again."""


def _legal(dice: random.Random) -> tuple[bytes, bool, int]:
    """A response, whether the connection ends after it, and where its head ends."""
    out = b""
    for _ in range(dice.choice((0, 0, 0, 0, 1, 3))):
        hint = dice.choice((b"", b"Link: <a>\r\n"))
        out += b"HTTP/1.1 %d x\r\n%b\r\n" % (dice.choice((100, 102, 103, 104, 199)), hint)
    old = dice.random() < 0.1
    status = dice.choice(STATUSES)
    reason = dice.choice((b"", b"OK", b"Not  Found \t", b"\xc3\xbc"))
    out += b"HTTP/1.%d %d %b\r\n" % (not old, status, reason)
    fields = []
    for _ in range(dice.randrange(6)):
        value = bytes(dice.choice(b"abc \t\"',;=:\x80\xff/-_0") for _ in range(dice.randrange(12))).strip(b" \t")
        fields.append(dice.choice(NAMES) + b":" + dice.choice((b"", b" ", b"\t ")) + value + dice.choice((b"", b" \t")))
    if dice.random() < 0.2:
        fields.append(b"Connection:" + dice.choice(CONNECTIONS))
    content = WHOLE if dice.random() < 0.1 else dice.randbytes(dice.choice((0, 1, 5, 100, 3_000)))
    closes = False
    match dice.randrange(3):
        case _ if status in {204, 304}:
            if status == 304 and dice.random() < 0.5:
                fields.append(b"Content-Length: %d" % len(content))
            content = b""
        case 0:
            fields.append(b"content-LENGTH: " + b"0" * dice.choice((0, 0, 3)) + b"%d" % len(content))
        case 1 if not old:
            fields.append(dice.choice(CHUNKED))
            content = _chunks(dice, content)
        case _:
            closes = True
    dice.shuffle(fields)
    out += b"".join(field + b"\r\n" for field in fields) + b"\r\n"
    return out + content, closes, len(out)


def _chunks(dice: random.Random, content: bytes) -> bytes:
    out = b""
    while content:
        size = dice.choice((1, 2, 10, 1_000, 5_000))
        piece, content = content[:size], content[size:]
        extension = dice.choice((b"", b"", b";a=b", b';a="b;c"', b";a"))
        out += dice.choice((b"%x", b"%X", b"0%x")) % len(piece) + extension + b"\r\n" + piece + b"\r\n"
    out += dice.choice((b"0", b"00", b"0;x=y")) + b"\r\n"
    return out + dice.choice((b"", b"", b"X-Trailer: 1\r\nx-u: 2\r\n")) + b"\r\n"


def _garbled(dice: random.Random, said: bytes, head: int) -> bytes:
    content = bytearray(said)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        lines = [place + 2 for place in range(len(content) - 1) if content[place : place + 2] == b"\r\n"]
        place = dice.choice(lines) if lines and dice.random() < 0.5 else dice.randrange(min(len(content), head) + 1)
        match dice.randrange(4):
            case 0 | 1:
                content[place:place] = dice.choice(SCRAPS)
            case 2:
                del content[place : place + dice.randrange(1, 4)]
            case _:
                content[place : place + 1] = bytes([dice.randrange(256)])
    return bytes(content)


async def _ours(pieces: list[bytes], method: str, ends: bool) -> Read:
    wire, buffer, free = Wire(), bytearray(http1_connection.PIECE), list[UpstreamConnection]()
    connection = UpstreamConnection(buffer=memoryview(buffer), free=free.append, lost=lambda _: None)
    connection.connection_made(wire)
    asking = asyncio.create_task(connection.ask(b"", None, headless=method == "HEAD"))
    await asyncio.sleep(0)
    for piece in pieces:
        if not wire.aborted:
            buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
    again = bool(free) and not wire.aborted
    if ends and not wire.aborted:
        connection.eof_received()
    # What was set for the one who waits is seen in the next round.
    await asyncio.sleep(0)
    try:
        if not asking.done():
            return Read("none")
        response = await asking
        content = b""
        while piece := response.read_nowait():
            content += piece
    except UpstreamGone:
        return Read("broken")
    finally:
        asking.cancel()
        connection.connection_lost(None)
        await asyncio.gather(asking, return_exceptions=True)
    found = (response.status, normalized(response.raw_headers), content)
    return Read("whole", found, again) if response.at_eof() else Read("part", found)


def _theirs(pieces: list[bytes], method: str, ends: bool) -> Read:
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    response: h11.Response | None = None
    content = b""
    whole = False
    left = [*pieces, *([b""] if ends else [])]
    piece = b""
    try:
        while left and not whole:
            piece = left.pop(0)
            reader.receive_data(piece)
            while not whole and (event := reader.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    content += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    whole = True
                elif not isinstance(event, h11.InformationalResponse):
                    return Read("broken")
    except h11.RemoteProtocolError:
        return Read("broken")
    if response is None:
        return Read("none")
    found = (response.status_code, normalized(list(response.headers)), content)
    if not whole:
        return Read("part", found)
    again = reader.their_state is h11.DONE and not reader.trailing_data[0] and piece != b"" and not any(left)
    return Read("whole", found, again)


async def _compare(enough: Callable[[int], bool]) -> None:
    seed = f"{soak.seed()}:differing"
    print(f"seed {seed}")
    dice = random.Random(seed)
    found = Counter[str]()
    number = 0
    while not enough(number):
        number += 1
        said, closes, head = _legal(dice)
        method = "HEAD" if dice.random() < 0.03 else "GET"
        if dice.random() < 0.4:
            pieces = in_pieces(dice, said[:head] if method == "HEAD" else said)
            ours, theirs = await _ours(pieces, method, closes), _theirs(pieces, method, closes)
            assert ours.how == "whole"
            # The connection is not trusted where a length is said of what is not there.
            unsure = method == "HEAD" or b" 304 " in said
            assert ours == (theirs._replace(again=ours.again and theirs.again) if unsure else theirs), pieces
            found["legal"] += 1
            continue
        said = _garbled(dice, said, head)
        closes = closes or dice.random() < 0.3
        pieces = in_pieces(dice, said)
        ours, theirs = await _ours(pieces, method, closes), _theirs(pieces, method, closes)
        found[ours.how] += 1
        if ours.how == "whole":
            if theirs.how == "broken":
                forgiven = _BLANK_LINES.sub(b"", _REASONS.sub(lambda reason: b"x" * len(reason[0]), said))
                assert forgiven != said, pieces
                assert _theirs([forgiven], method, closes).how == "whole", pieces
                continue
            assert (ours.how, ours.response) == (theirs.how, theirs.response), pieces
            assert theirs.again or not ours.again or said.endswith((b"\r", b"\n")), pieces
    print(found)
    assert {"legal", "whole", "broken"} <= set(found)


async def test_two_readers_make_the_same_of_a_response() -> None:
    await _compare(lambda number: number == 1_500)


@pytest.mark.soak
async def test_two_readers_make_the_same_of_a_response_for_long() -> None:
    until = time.monotonic() + soak.share()
    await _compare(lambda _: time.monotonic() > until)
