"""A provider that repeats the account's key, in every way that it can: the key reaches no agent and no row."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import sys
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import brotli
import pytest

from egress.settings import AccountSettings
from tests import soak
from tests.core.test_secret_values import spelled
from tests.egress.scripted_provider import LIMIT_S
from tests.egress.whole_egress import KEY, Plane, anthropic, chat, plane, responses

if sys.version_info >= (3, 14):
    from compression.zstd import compress as zstd
else:
    from backports.zstd import compress as zstd


CALLS: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", "/anthropic/v1/messages", anthropic()),
    ("POST", "/anthropic/v1/messages", anthropic(stream=True)),
    ("POST", "/openai/v1/responses", responses()),
    ("POST", "/openai/v1/responses", responses(stream=True)),
    ("POST", "/openai/v1/chat/completions", chat()),
    ("POST", "/openai/v1/chat/completions", chat(stream=True)),
    ("POST", "/anthropic/v1/messages/count_tokens", anthropic()),
    ("GET", "/anthropic/v1/models", None),
    ("GET", "/openai/v1/models", None),
]
ENCODINGS = {
    "": lambda content: content,
    "identity": lambda content: content,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd,
    "br, gzip": lambda content: gzip.compress(brotli.compress(content)),
}


@dataclass
class Echo:
    """A provider that answers with these bytes, in these pieces, whatever it is asked."""

    pieces: list[bytes] = field(default_factory=list)
    close: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                assert KEY.encode() in head
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.close:
                    return
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def echoing(folder: Path) -> AsyncIterator[tuple[Plane, Echo]]:
    """An egress before it, for both kinds of account, and the agent coder0."""
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        credential = f"file:{folder / 'key'}"
        accounts = (
            AccountSettings(name="main", provider="anthropic", upstream=url, credential=credential),
            AccountSettings(name="other", provider="openai", upstream=url, credential=credential),
        )
        async with plane(folder, accounts=accounts) as made:
            await made.agent()
            yield made, echo
    finally:
        server.close()
        await server.wait_closed()


async def heard(made: Plane, method: str, path: str, body: dict[str, Any] | None) -> bytes:
    """All that the agent is sent, to the byte."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(content)}\r\n\r\n"
    reader, writer = await asyncio.open_unix_connection(str(made.paths.listener("coder0")), limit=2**24)
    try:
        writer.write(head.encode() + content)
        async with asyncio.timeout(LIMIT_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def readings(text: str, depth: int = 4) -> set[str]:
    """What readers can make of it, who undo JSON and URLs in any order."""
    found = {text}
    for _ in range(depth):
        found |= {unquote(each) for each in found} | {_from_json(each) for each in found}
    return found


def _from_json(text: str) -> str:
    def undone(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else match[2]

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", undone, text)


def shows(content: bytes) -> bool:
    """Whether the key can be read in it, or all of it but a few signs."""
    text = content.decode("latin-1")
    # What stands in chunks is put together.
    whole = re.sub(r"\r\n[0-9a-f]+\r\n", "", text)
    return any(KEY[:-2] in each or KEY[2:] in each for source in {text, whole} for each in readings(source))


def answer(dice: random.Random, call: tuple[str, str, dict[str, Any] | None]) -> Echo:
    """How it answers this one."""
    said = [spelled(dice, KEY) for _ in range(8)]
    status = dice.choice((200, 200, 400, 401, 401, 403, 404, 429, 500, 503, 529, 302, 418))
    kind = dice.choice(("application/json", "text/html", "text/plain; charset=utf-8", "text/event-stream", said[0]))
    body = dice.choice((_document, _document, _stream, _words))(dice, call[1], said)
    encoding = dice.choice([*ENCODINGS, *[""] * 6])
    content = ENCODINGS[encoding](body)
    if dice.random() < 0.05:
        content = gzip.compress(body)
    lines = [b"HTTP/1.1 %d %b" % (status, dice.choice((b"OK", KEY.encode())))]
    fields = {
        "Content-Type": kind,
        "WWW-Authenticate": f'Bearer realm="{said[1]}"',
        "X-Key": KEY,
        f"X-{KEY}": said[2],
        "Location": f"/{said[3]}",
        "Set-Cookie": f"key={said[3]}",
        "anthropic-ratelimit-unified-status": KEY,
        "anthropic-ratelimit-unified-5h-status": KEY[:60],
        f"anthropic-ratelimit-{KEY}-remaining": "12",
        f"x-ratelimit-remaining-{KEY}": "12",
        "Retry-After": KEY,
    }
    lines += [f"{name}: {value}".encode() for name, value in fields.items() if dice.random() < 0.4]
    if encoding:
        lines.append(f"Content-Encoding: {encoding}".encode())
    elif dice.random() < 0.05:
        lines.append(f"Content-Encoding: {KEY}".encode())
    framing = dice.choice(("length", "chunked", "close"))
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(content))
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
    parts = _cut(dice, content)
    if framing == "chunked":
        parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part]
        trailer = f"X-Trailer: {KEY}\r\n".encode() if dice.random() < 0.3 else b""
        parts.append(b"0\r\n" + trailer + b"\r\n")
    broken = dice.random() < 0.1
    if broken:
        parts = parts[: dice.randrange(len(parts) + 1)]
    interim = f"HTTP/1.1 103 Early Hints\r\nLink: <{KEY}>\r\n\r\n".encode() if dice.random() < 0.2 else b""
    return Echo(
        [interim + b"\r\n".join([*lines, b"", b""]), *parts], close=broken or framing == "close" or dice.random() < 0.2
    )


def _document(dice: random.Random, path: str, said: list[str]) -> bytes:
    usage = {
        "input_tokens": 3,
        "output_tokens": 2,
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "service_tier": KEY,
        KEY: {"of": KEY},
    }
    error = {"type": dice.choice((KEY, "authentication_error")), "code": KEY, "message": f"{KEY} is not known"}
    found: dict[str, Any] = {
        "id": KEY,
        "model": dice.choice((KEY, "claude-sonnet-4-5")),
        "content": [{"type": "text", "text": KEY}],
        "output": [{"content": [{"text": json.dumps({"of": KEY})}]}],
        "choices": [{"message": {"content": KEY}}],
        "usage": usage,
    }
    if dice.random() < 0.4:
        found = {"type": "error", "error": error}
    content = json.dumps(found, indent=dice.choice((None, 2)))
    return content.replace(KEY, dice.choice(said)).encode() if dice.random() < 0.8 else content.encode()


def _stream(dice: random.Random, path: str, said: list[str]) -> bytes:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": KEY, "id": KEY, "usage": {"input_tokens": 3, "tier": KEY}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": KEY}},
        {"type": "response.output_text.delta", "delta": KEY},
        {"model": KEY, "choices": [{"delta": {"content": KEY}}], "usage": None},
    ]
    ends: list[dict[str, Any]] = [
        {"type": "error", "error": {"type": KEY, "code": KEY, "message": KEY}},
        {"type": "response.failed", "response": {"model": KEY, "error": {"code": KEY, "message": KEY}}},
        {"error": {"type": KEY, "message": KEY}},
        {"type": "message_stop", "why": KEY},
        {"type": "response.completed", "response": {"model": KEY, "usage": {"input_tokens": 3, "output_tokens": 1}}},
    ]
    parts = []
    for event in [*dice.choices(events, k=4), dice.choice(ends)]:
        name = f"event: {dice.choice((event.get('type', 'x'), KEY))}\n" if dice.random() < 0.5 else ""
        parts.append(f"{name}data: {json.dumps(event)}\n\n".replace(KEY, dice.choice([KEY, *said])))
    parts.append(dice.choice(("", "data: [DONE]\n\n", f": {KEY}\n\n", f"data: {KEY}")))
    return "".join(parts).encode()


def _words(dice: random.Random, path: str, said: list[str]) -> bytes:
    return f"<html><h1>{dice.choice(said)}</h1><a href='?key={said[4]}'>{said[5]}</a></html>{said[6]}".encode()


def _cut(dice: random.Random, content: bytes) -> list[bytes]:
    places = sorted(dice.randrange(len(content) + 1) for _ in range(dice.choice((0, 1, 3, 40))))
    return [content[begin:end] for begin, end in pairwise([0, *places, len(content)])]


def kept(made: Plane) -> bytes:
    """All that the ledger has on the disk."""
    return b"".join(path.read_bytes() for path in made.paths.ledger.parent.glob(f"{made.paths.ledger.name}*"))


async def play(folder: Path, seed: str, *, count: int, until: float | None = None) -> None:
    print(f"seed: {seed}")
    async with echoing(folder) as (made, echo):
        number = 0
        while number < count and (until is None or time.monotonic() < until):
            dice = random.Random(f"{seed}/{number}")
            number += 1
            call = dice.choice(CALLS)
            given = answer(dice, call)
            echo.pieces, echo.close = given.pieces, given.close
            came = await heard(made, *call)
            assert not shows(came), (seed, number, call, given, came)
        await made.egress.ledger.flushed()
        for entry in await made.entries():
            assert not shows(repr(entry).encode()), entry
        assert not shows(kept(made))


async def test_a_key_that_a_provider_repeats_in_whatever_way_reaches_nobody(tmp_path: Path) -> None:
    await play(tmp_path, "echoes", count=60)


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_key_that_a_provider_repeats_for_long_reaches_nobody(tmp_path: Path) -> None:
    await play(tmp_path, soak.seed(), count=10**9, until=time.monotonic() + soak.share())
