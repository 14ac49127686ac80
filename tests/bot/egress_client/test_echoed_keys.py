"""A provider that repeats the account's key: it stands in no chat, no register, no journal, and no other file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from database.schema import ledger
from tests.bot.orchestrator import ROOM, House, house

KEY = "sk-test-of-the-account"


def stream(*texts: str) -> bytes:
    """A whole answer of a model, as it comes."""
    usage = {"input_tokens": 3, "output_tokens": 5, "service_tier": KEY}
    message = {"id": KEY, "type": "message", "role": "assistant", "model": KEY, "content": [], "usage": usage}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, block]
    for text in texts:
        delta = {"type": "text_delta", "text": text}
        events.append({"type": "content_block_delta", "index": 0, "delta": delta})
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    content = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + content


def refusal() -> bytes:
    error = {"type": "authentication_error", "message": f"The key {KEY} is not known."}
    content = json.dumps({"type": "error", "error": error}).replace("sk-test", "\\u0073k-test").encode()
    head = f"HTTP/1.1 401 {KEY}\r\nX-Key: {KEY}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


@asynccontextmanager
async def repeating(folder: Path, answer: bytes) -> AsyncIterator[House]:
    """A house before a provider that gives every request this answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            assert KEY.encode() in head
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            writer.write(answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    account = f"sim: {{provider: anthropic, base_url: '{url}', credential: 'env:KEY'}}"
    try:
        async with house(folder, account=account, key=KEY) as home:
            yield home
    finally:
        server.close()
        await server.wait_closed()


def files_with_the_key(folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and b"k-test-of-the-account" in path.read_bytes():
            found.append(path)
    return found


@pytest.mark.parametrize(
    ("answer", "told", "whole"),
    [
        (refusal(), "is not known", True),
        (stream(f"It is {KEY}", ", as you asked."), "as you asked", True),
        # The agent gets both pieces, and puts them together in its own files; chat does not.
        pytest.param(
            stream("It is sk-test-of-", "the-account, as you asked."), "as you asked", False, marks=pytest.mark.slow
        ),
    ],
)
async def test_a_key_that_a_provider_repeats_stands_nowhere(
    tmp_path: Path, answer: bytes, told: str, whole: bool
) -> None:
    async with repeating(tmp_path, answer) as home:
        async with home.open() as orchestrator:
            thread = await home.launch("coder0")
            home.say("What is the key?", thread)
            said = await home.heard(thread, told)
            async with asyncio.timeout(30):
                while True:
                    async with orchestrator.store.read() as tx:
                        rows = (await tx.execute(select(ledger))).mappings().all()
                    if rows:
                        break
                    await asyncio.sleep(0.05)
            tail = await home.ask("!tail coder0 100")
            shown = [*home.chat.texts(thread), *home.chat.texts(ROOM), tail, repr(rows)]
            assert "of-the-account" not in "".join(shown), said
            assert {row["detail"] for row in rows} <= {None, "authentication_error"}
        agents = home.paths.agents
        assert [path for path in files_with_the_key(tmp_path) if whole or not path.is_relative_to(agents)] == []
