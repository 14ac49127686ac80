from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet.host.acp import stdio_transport as module
from fleet.host.acp.stdio_transport import StdioTransport

LIMIT_S = 20


class Pipe:
    """A transport whose runtime is this test: a process that copies what it is fed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.feed = process.stdin
        self.noise: list[str] = []
        self.ended = 0
        self.open = asyncio.Event()
        self.open.set()
        self.transport = StdioTransport(
            process.stdin, process.stdout, room=self.open.wait, on_noise=self.noise.append, on_end=self.end
        )

    def end(self) -> None:
        self.ended += 1

    async def receive_all(self) -> list[dict[str, Any]]:
        self.feed.close()
        messages = []
        async with asyncio.timeout(LIMIT_S):
            while (message := await self.transport.receive()) is not None:
                messages.append(message)
        return messages


@pytest.fixture
async def pipe() -> AsyncIterator[Pipe]:
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    pipe = Pipe(process)
    yield pipe
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_messages_arrive_in_order_and_the_rest_is_noise(pipe: Pipe) -> None:
    update = {"jsonrpc": "2.0", "method": "session/update", "params": {}}
    lines = [
        b"Hello, I am a runtime!",
        json.dumps({"jsonrpc": "2.0", "id": 1, "result": None}).encode(),
        b"",
        b"  ",
        b"[1]",
        b'"text"',
        b"NaN",
        b'{"method": 5}',
        b'{"id": [1], "result": 1}',
        b'{"id": {"a": 1}, "method": "x"}',
        b'{"id": 1, "error": "text"}',
        b'{"id": 1, "error": {"code": "text"}}',
        b'{"nothing": 1}',
        b"[" * 100_000,
        b"\xff\xfe\0",
        json.dumps(update).encode(),
        b'{"id": 2, "method": "x", "params": [1]}',
        b'{"id": 3, "result": "without a newline"}',
    ]
    pipe.feed.write(b"\n".join(lines))
    messages = await pipe.receive_all()
    assert messages == [
        {"jsonrpc": "2.0", "id": 1, "result": None},
        update,
        {"id": 2, "method": "x", "params": {}},
        {"id": 3, "result": "without a newline"},
    ]
    assert len(pipe.noise) == 12
    assert pipe.noise[0] == "Hello, I am a runtime!"
    assert max(map(len, pipe.noise)) <= 300
    assert pipe.ended == 1


async def test_a_line_without_an_end_costs_bounded_memory(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINE_LIMIT", 2**18)

    async def feed() -> None:
        for _ in range(40):
            pipe.feed.write(b"x" * 2**16)
            await pipe.feed.drain()
        pipe.feed.write(b'\n{"id": 1, "result": 2}\n')
        pipe.feed.close()

    feeding = asyncio.create_task(feed())
    async with asyncio.timeout(LIMIT_S):
        assert await pipe.transport.receive() == {"id": 1, "result": 2}
        assert await pipe.transport.receive() is None
    await feeding
    assert pipe.noise == ["x" * 300]


async def test_nothing_is_read_while_there_is_no_room(pipe: Pipe) -> None:
    pipe.open.clear()
    pipe.feed.write(b'{"id": 1, "result": 2}\n')
    receiving = asyncio.ensure_future(pipe.transport.receive())
    done, _ = await asyncio.wait({receiving}, timeout=0.05)
    assert not done
    pipe.open.set()
    async with asyncio.timeout(LIMIT_S):
        assert await receiving == {"id": 1, "result": 2}


async def test_a_runtime_that_takes_no_answers_is_not_read_either(pipe: Pipe) -> None:
    """Its requests would pile up as answers that it does not take."""
    process = await asyncio.create_subprocess_exec(
        "sleep", "600", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    deaf = Pipe(process)
    try:
        answers = [
            asyncio.ensure_future(deaf.transport.send({"id": number, "result": "x" * 10_000})) for number in range(200)
        ]
        receiving = asyncio.ensure_future(deaf.transport.receive())
        done, _ = await asyncio.wait({receiving, *answers}, timeout=0.05)
        assert receiving not in done
        assert len(done) < 200
    finally:
        process.kill()
        await process.wait()
        await asyncio.gather(*answers, receiving, return_exceptions=True)
