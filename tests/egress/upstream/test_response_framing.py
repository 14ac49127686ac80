"""Where a response ends, and whether its connection may be used again: to the byte, whatever a provider sends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from itertools import pairwise

import pytest

from egress.upstream import connection_pool, http1_connection
from egress.upstream.http1_connection import UpstreamConnection
from egress.upstream.response_reader import UpstreamGone
from tests import soak
from tests.egress.scripted_provider import NEXT, Link, Wire, content, scripted

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

#: What comes, whether the provider closes after it, the content, and whether the connection is used for the next.
WHOLE = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", False, b"hello", True),
    "length of nothing": (OK + b"content-length: 0\r\n\r\n", False, b"", True),
    "content that looks like a head": (OK + b"Content-Length: %d\r\n\r\n" % len(NEXT) + NEXT, False, NEXT, True),
    "chunks": (CHUNKED + b"3\r\nhel\r\n02\r\nlo\r\n0\r\n\r\n", False, b"hello", True),
    "chunks, told otherwise": (OK + b"TRANSFER-ENCODING: \t Chunked \r\n\r\n1\r\nx\r\n0\r\n\r\n", False, b"x", True),
    "chunks with extensions": (CHUNKED + b'1;a=b;c="d"\r\nx\r\n0;e\r\n\r\n', False, b"x", True),
    "no chunk": (CHUNKED + b"0\r\n\r\n", False, b"", True),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\nX-Trailer: y\r\nSet-Cookie: z\r\n\r\n", False, b"x", True),
    "until it closes": (OK + b"\r\nhello\r\n0\r\n\r\n", True, b"hello\r\n0\r\n\r\n", False),
    "until it closes, nothing": (OK + b"\r\n", True, b"", False),
    "the older version": (b"HTTP/1.0 200 OK\r\n\r\nhello", True, b"hello", False),
    "the older version, with a length": (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False, b"hello", False),
    "the older version, to be used again": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        False,
        b"hello",
        False,
    ),
    "it says that it closes": (OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\nhi", False, b"hi", False),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", False, b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\n\r\n", False, b"", True),
    "not modified, and how long it would be": (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        False,
        b"",
        False,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", False, b"hi", True),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi", False, b"hi", True),
    "early hints": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 0\r\n\r\n" * 3 + OK + b"Content-Length: 1\r\n\r\nx",
        False,
        b"x",
        True,
    ),
    "another response behind it": (OK + b"Content-Length: 2\r\n\r\nhi" + NEXT, False, b"hi", False),
    "the beginning of another": (OK + b"Content-Length: 2\r\n\r\nhiH", False, b"hi", False),
    "more than its length": (OK + b"Content-Length: 2\r\n\r\nhi there", False, b"hi", False),
    "more than its chunks": (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n0\r\n\r\n", False, b"hi", False),
    "more after it said that it closes": (
        OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi there",
        False,
        b"hi",
        False,
    ),
    "the length of nothing where there is nothing": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        False,
        b"",
        True,
    ),
    "a length where there is no content": (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
        False,
        b"",
        False,
    ),
    "chunks where there is no content": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        False,
        b"",
        False,
    ),
    "content where there is none": (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nnext", False, b"", False),
}


@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "bytewise"])
@pytest.mark.parametrize("case", WHOLE)
async def test_a_response_ends_where_it_says(monkeypatch: pytest.MonkeyPatch, case: str, bytewise: bool) -> None:
    # No connection that lies idle is closed for that.
    monkeypatch.setattr(connection_pool, "IDLE_S", 1_000.0)
    said, closes, wanted, again = WHOLE[case]

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(said, bytewise=bytewise)
        if not closes:
            await link.asked()
            await link.say(NEXT)
            await link.asked()

    async with scripted(serve) as provider:
        response = await provider.get()
        assert await content(response) == wanted
        assert response.at_eof()
        assert (response.read_nowait(), await response.readany()) == (b"", b"")
        assert not any(name.lower() in {b"x-trailer", b"set-cookie"} for name, _ in response.raw_headers)
        response.abort()
        if not closes and not again:
            await provider.links[0].ended.wait()
        if not closes:
            # On this connection or on a new one, it is the answer to this request.
            if not again:
                return
            following = await provider.get()
            assert await content(following) == b"next"
        assert len(provider.links) == 1


@pytest.mark.parametrize("length", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_what_answers_a_head_has_no_content(length: bytes) -> None:
    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(OK + length + b"\r\n")
        await link.end()

    async with scripted(serve) as provider:
        response = await provider.get("HEAD")
        assert response.length == (5 if b"5" in length else None)
        assert await content(response) == b""
        assert response.at_eof()
        await provider.links[0].ended.wait()


#: What comes, and what of it is in the sentence.
BROKEN = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP/1.1"),
    "an earlier one": (b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", "another version"),
    "a later one": (b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "another version"),
    "an unknown one": (b"HTTP/1.7 200 OK\r\nContent-Length: 0\r\n\r\n", "version"),
    "no status": (b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n", "status"),
    "a short status": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", "status"),
    "a long status": (b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", "status"),
    "lines that end in LF": (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "cr"),
    "one line that ends in LF": (OK + b"Content-Length: 2\n\r\nhi", "cr"),
    "a head that ends in LF": (OK + b"Content-Length: 2\r\n\nhi", "header"),
    "a lonely CR": (OK + b"A: b\rContent-Length: 0\r\nContent-Length: 2\r\n\r\nhi", "lf"),
    "a zero byte": (OK + b"A: b\0\r\nContent-Length: 2\r\n\r\nhi", "header"),
    "a folded header": (OK + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi", "whitespace"),
    "a folded length": (OK + b"Content-Length:\r\n 2\r\n\r\nhi", "header"),
    "a folded first line": (OK + b" A: b\r\nContent-Length: 2\r\n\r\nhi", "space"),
    "space before the colon": (OK + b"Content-Length : 2\r\n\r\nhi", "header"),
    "no colon": (OK + b"Content-Length\r\n\r\n", "header"),
    "no name": (OK + b": 2\r\n\r\n", "header"),
    "two lengths": (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!", "duplicate"),
    "one length twice": (OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "duplicate"),
    "a list of lengths": (OK + b"Content-Length: 2, 2\r\n\r\nhi", "content-length"),
    "a signed length": (OK + b"Content-Length: +2\r\n\r\nhi", "content-length"),
    "a length below zero": (OK + b"Content-Length: -2\r\n\r\nhi", "content-length"),
    "a length in hex": (OK + b"Content-Length: 0x2\r\n\r\nhi", "content-length"),
    "an empty length": (OK + b"Content-Length:\r\n\r\nhi", "content-length"),
    "a length beyond all": (OK + b"Content-Length: 99999999999999999999999\r\n\r\nhi", "overflow"),
    "a length, then chunks": (
        OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding",
    ),
    "chunks, then a length": (
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        "content-length",
    ),
    "another coding": (OK + b"Transfer-Encoding: gzip\r\n\r\nhi", "coding"),
    "another coding, and chunks": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "coding"),
    "chunks within another coding": (OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", "coding"),
    "a coding like chunks": (OK + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "coding"),
    "chunks twice": (
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "coding",
    ),
    "an empty coding": (OK + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", "transfer-encoding"),
    "the coding of nothing": (OK + b"Transfer-Encoding: identity\r\n\r\nhi", "coding"),
    "chunks in the older version": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "coding"),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhi",
        "another protocol",
    ),
    "a head without end": (OK + b"A: " + b"b" * 200_000, "without content"),
    "a reason without end": (b"HTTP/1.1 200 " + b"b" * 200_000, "without content"),
    "too many headers": (OK + b"A: b\r\n" * 129 + b"Content-Length: 0\r\n\r\n", "128 headers"),
    "hints with a length": (b"HTTP/1.1 103 Early Hints\r\nContent-Length: %d\r\n\r\n" % len(NEXT) + NEXT, "content"),
    "an unknown hint with a length": (
        b"HTTP/1.1 199 Hm\r\nContent-Length: %d\r\n\r\n" % len(NEXT) + NEXT * 2,
        "content",
    ),
    "a hint with chunks": (
        b"HTTP/1.1 199 Hm\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: y\r\n\r\n" + NEXT,
        "content",
    ),
    "a status that is none": (b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n" + NEXT, "status"),
    "a length of zeros": (OK + b"Content-Length: " + b"0" * 5_000 + b"\r\n\r\n", "length"),
    "another protocol, by halves": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + NEXT, "HTTP/1.1"),
    "it is coming, for ever": (b"HTTP/1.1 102 Processing\r\n\r\n" * 20, "16 times"),
    "a head that is not whole": (OK + b"Content-Length: 2\r\n", "closed the connection"),
    "nothing": (b"", "closed the connection"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_what_could_be_read_in_two_ways_is_no_response(case: str) -> None:
    said, why = BROKEN[case]

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(said)
        if "closed" not in why:
            await link.end()

    async with scripted(serve) as provider:
        with pytest.raises(UpstreamGone, match=f"(?i)^the provider gave no answer: .*{why}.*[.]$") as gone:
            # It may not be asked again by itself, as a GET may be.
            await provider.get("POST")
        assert gone.value.sent
        await provider.links[0].ended.wait()
        assert len(provider.links) == 1


#: What comes after a good head, what of it is content, and what of it is in the sentence.
BREAKS_OFF = {
    "less than its length": (OK + b"Content-Length: 9\r\n\r\nhi", b"hi", "closed"),
    "no last chunk": (CHUNKED + b"2\r\nhi\r\n", b"hi", "closed"),
    "half a chunk": (CHUNKED + b"5\r\nhi", b"hi", "closed"),
    "no end of the trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nA: b\r\n", b"hi", "closed"),
    "no chunk's length": (CHUNKED + b"2\r\nhi\r\n\r\n", b"hi", "chunk size"),
    "a length with a prefix": (CHUNKED + b"2\r\nhi\r\n0x1\r\nx\r\n0\r\n\r\n", b"hi", "chunk size"),
    "a signed chunk": (CHUNKED + b"2\r\nhi\r\n+1\r\nx\r\n0\r\n\r\n", b"hi", "chunk size"),
    "a length with a space": (CHUNKED + b"2\r\nhi\r\n1 \r\nx\r\n0\r\n\r\n", b"hi", "chunk size"),
    "a chunk beyond all": (CHUNKED + b"2\r\nhi\r\nfffffffffffffffff\r\n", b"hi", "overflow"),
    "a length that ends in LF": (CHUNKED + b"2\r\nhi\r\n1\nx\r\n0\r\n\r\n", b"hi", "cr"),
    "a chunk longer than it says": (CHUNKED + b"2\r\nhiho\r\n0\r\n\r\n", b"hi", "chunk data"),
    "a chunk that ends in LF": (CHUNKED + b"2\r\nhi\n0\r\n\r\n", b"hi", "chunk data"),
    "a length among the trailers": (CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 5\r\n\r\n", b"hi", "content-length"),
    "a coding among the trailers": (
        CHUNKED + b"2\r\nhi\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"hi",
        "trailer says",
    ),
    "a folded trailer": (CHUNKED + b"2\r\nhi\r\n0\r\nA: b\r\n c\r\n\r\n", b"hi", "whitespace"),
    "trailers without end": (CHUNKED + b"2\r\nhi\r\n0\r\n" + b"A: b\r\n" * 40_000, b"hi", "without content"),
    "a trailer without end": (CHUNKED + b"2\r\nhi\r\n0\r\nA: " + b"b" * 200_000, b"hi", "without content"),
    "an extension without end": (CHUNKED + b"2\r\nhi\r\n1;" + b"a" * 200_000, b"hi", "without content"),
}


@pytest.mark.parametrize("case", BREAKS_OFF)
async def test_a_response_that_breaks_off_is_never_taken_for_whole(case: str) -> None:
    said, came, why = BREAKS_OFF[case]

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(said)
        if why != "closed":
            await link.end()

    async with scripted(serve) as provider:
        response = await provider.get("POST")
        assert await response.readany() == came
        with pytest.raises(UpstreamGone, match=f"(?i)^the provider's response broke off: .*{why}.*[.]$") as gone:
            await response.readany()
        assert gone.value.sent
        assert not response.at_eof()
        await provider.links[0].ended.wait()


async def test_what_a_response_said_is_found_by_any_name_and_passes_as_it_came() -> None:
    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(
            OK + b"X-Request-ID:  abc \t\r\nEmpty:\r\nVARY: a\r\nvary: b\r\nX-Odd: \xff\xc3\xbc\r\n"
            b"Content-Length: 0\r\n\r\n"
        )
        await link.end()

    async with scripted(serve) as provider:
        response = await provider.get()
        assert response.raw_headers == [
            (b"X-Request-ID", b"abc"),
            (b"Empty", b""),
            (b"VARY", b"a"),
            (b"vary", b"b"),
            (b"X-Odd", b"\xff\xc3\xbc"),
            (b"Content-Length", b"0"),
        ]
        assert response.headers["x-request-id"] == "abc"
        assert response.headers["vary"] == "a, b"
        assert response.headers["empty"] == ""
        assert response.headers["x-odd"] == "\udcffü"
        assert (response.status, response.length) == (200, 0)


async def test_a_provider_that_sends_much_is_read_ahead_by_little() -> None:
    size = 2**24

    async def serve(link: Link) -> None:
        await link.asked()
        await link.say(OK + b"Content-Length: %d\r\n\r\n" % size + b"x" * size)
        await link.end()

    async with scripted(serve) as provider:
        response = await provider.get()
        held = []
        while not response.at_eof():
            for _ in range(30):
                # As long as it is read, more comes each time.
                await asyncio.sleep(0)
            held.append(len(await response.readany()))
        assert sum(held) == size
        assert max(held) <= 2 * http1_connection.READ_AHEAD + http1_connection.PIECE


#: What is put where it does not belong.
SCRAPS = (
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b":", b" ", b"\t", b"0", b";", b"\0", b"ffffffff", b"chunked", OK, NEXT),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n"),
)


def _garbled(dice: random.Random, said: list[bytes]) -> bytes:
    content = bytearray(dice.choice(said))
    for _ in range(dice.choice((0, 1, 1, 2, 4))):
        place = dice.randrange(len(content) + 1)
        match dice.randrange(3):
            case 0:
                content[place:place] = dice.choice(SCRAPS)
            case 1:
                del content[place : place + dice.randrange(1, 4)]
            case _:
                content[place : place + 1] = bytes([dice.randrange(256)])
    return bytes(content)


async def _outcome(pieces: list[bytes], *, headless: bool, ends: bool) -> tuple[object, ...]:
    """What is made of it: the status and content that came, how it ended, whether the connection is used again."""
    wire, buffer, free = Wire(), bytearray(http1_connection.PIECE), list[UpstreamConnection]()
    connection = UpstreamConnection(buffer=memoryview(buffer), free=free.append, lost=lambda _: None)
    connection.connection_made(wire)
    asking = asyncio.create_task(connection.ask(b"", None, headless=headless))
    await asyncio.sleep(0)
    for piece in pieces:
        if piece and not wire.aborted:
            buffer[: len(piece)] = piece
            connection.buffer_updated(len(piece))
    again = bool(free) and not wire.aborted
    if ends and not wire.aborted:
        connection.eof_received()
    connection.connection_lost(None)
    try:
        response = await asking
    except UpstreamGone:
        return "no response", again
    came = b""
    try:
        while piece := response.read_nowait():
            came += piece
    except UpstreamGone:
        return "broken", response.status, came, again
    assert response.at_eof()
    return "whole", response.status, came, again


async def test_it_does_not_matter_in_which_pieces_anything_comes() -> None:
    seed = f"{soak.seed()}:framing"
    print(f"seed {seed}")
    dice = random.Random(seed)
    # Twice as much of what is good: it is the minority.
    said = [case[0] for case in WHOLE.values()] * 2
    said += [case[0] for case in BROKEN.values()] + [case[0] for case in BREAKS_OFF.values()]
    said = [each for each in said if len(each) < 500]
    found = Counter[object]()
    for _ in range(1_000):
        content, headless, ends = _garbled(dice, said), dice.random() < 0.1, dice.random() < 0.5
        places = [0, *sorted(dice.randrange(len(content) + 1) for _ in range(dice.randrange(1, 6))), len(content)]
        pieces = [content[begin:end] for begin, end in pairwise(places)]
        *at_once, again = await _outcome([content], headless=headless, ends=ends)
        *in_pieces, again_in_pieces = await _outcome(pieces, headless=headless, ends=ends)
        assert in_pieces == at_once, (content, pieces)
        # An empty line behind a response is skipped with it, and ends the connection when it comes later.
        assert again == again_in_pieces or content.endswith((b"\r", b"\n")), (content, pieces)
        found[at_once[0]] += 1
    print(found)
    assert set(found) == {"no response", "broken", "whole"}
