"""Requests to a socket at whose other end something else may be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bot.api_client import LostConnection
from bot.gateway_feed.requests import GatewayRequests
from bot.text.errors import NotRunning


async def _soon(_: float) -> None:
    await asyncio.sleep(0.01)


class Peer:
    """Says something to each who asks, and remembers what was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = [*answers]
        self.heard: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heard.append(head)
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        writer.close()
        await writer.wait_closed()


def answer(body: object, kind: str = "application/json", status: int = 200) -> bytes:
    return f"HTTP/1.0 {status} X\r\nContent-Type: {kind}\r\n\r\n".encode() + json.dumps(body).encode()


@pytest.mark.parametrize(
    "said",
    [b"", b"SSH-2.0-x\r\n", b"HTTP/1.0 200 X\r\n", b"HTTP/1.0 x\r\n\r\n", b"HTTP/1.0 200 X\r\n\r\n[]", b"x" * 100_000,
     b"HTTP/1.0 200 X\r\n" + b"a: b\r\n" * 200, b'HTTP/1.0 200 X\r\n\r\n{"a'],
)  # fmt: skip
async def test_what_is_no_answer_is_a_lost_connection(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "socket"
    async with await asyncio.start_unix_server(Peer(said), path):
        with pytest.raises(LostConnection):
            await GatewayRequests(path).get("/v1/health")
        with pytest.raises(LostConnection):
            await GatewayRequests(path, retry_for=0.05, sleep=_soon).run("ps", {})


async def test_a_command_is_asked_again_under_the_same_key(tmp_path: Path) -> None:
    peer = Peer(b"", answer({"error": "It stops.", "code": "stopping"}, status=503), answer({"state": "done"}))
    async with await asyncio.start_unix_server(peer, tmp_path / "socket"):
        found = await GatewayRequests(tmp_path / "socket", sleep=_soon).run("ps", {})
    assert found.is_done
    keys = {line for head in peer.heard for line in head.splitlines() if line.startswith(b"Idempotency-Key")}
    assert (len(peer.heard), len(keys)) == (3, 1)


async def test_progress_is_told_before_the_answer(tmp_path: Path) -> None:
    lines = b'{"progress":"half"}\n{"progress":"more"}\n{"status":200,"body":{"state":"done","text":"All."}}\n'
    peer = Peer(b"HTTP/1.0 200 X\r\nContent-Type: application/x-ndjson\r\n\r\n" + lines)
    told: list[str] = []
    async with await asyncio.start_unix_server(peer, tmp_path / "socket"):
        found = await GatewayRequests(tmp_path / "socket").run("ps", {}, progress=told.append)
    assert (told, found.text) == (["half", "more"], "All.")


async def test_nobody_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotRunning):
        await GatewayRequests(tmp_path / "socket").run("ps", {})
