"""How long a forge waits until a webhook is durable: 200 signed ones at once, over HTTP, into a register on the disk.

They are sent by a process of their own, which does as little as it can beside.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aiohttp import web

from benchmarks.figures import Figure, percentile
from core.crash_points import declare
from database.engine.store import Store
from database.queries.forge import forge_events
from database.queries.forge.forge_events import ForgeEventRow
from forge.model.references import RepositoryName
from forge.webhooks.event import ForgeEvent
from forge.webhooks.listener import PATH, WebhookListener

AT_ONCE = 200
ROUNDS = 10
#: Seconds from the first byte to the answer, which comes after the commit, p99.
AT_MOST_S = 0.1
STEP = declare("benchmarks.webhooks")
_SECRET = "a-secret-for-the-benchmark"


def measure() -> list[Figure]:
    """Send rounds of webhooks at once, and measure each from its first byte to its answer."""
    bare = asyncio.run(_bare())
    took, commits, cpu = asyncio.run(_measured())
    return [
        Figure(name=f"{AT_ONCE} to a bare aiohttp server, p99", value=percentile(bare, 99) * 1000, unit="ms"),
        Figure(name=f"{AT_ONCE} webhooks at once, p50", value=percentile(took, 50) * 1000, unit="ms"),
        Figure(
            name=f"{AT_ONCE} webhooks at once, p99", value=percentile(took, 99) * 1000, unit="ms",
            at_most=AT_MOST_S * 1000,
        ),
        Figure(name="CPU for one of them", value=cpu / (AT_ONCE * ROUNDS) * 1000, unit="ms"),
        Figure(name="commits for all of them", value=commits / ROUNDS, unit=""),
    ]  # fmt: skip


async def _bare() -> list[float]:
    """Return how long deliveries take that are read and answered, and nothing else."""

    async def answer(http: web.Request) -> web.Response:
        await http.read()
        return web.Response(text="Taken.\n")

    application = web.Application()
    application.router.add_post(PATH, answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=AT_ONCE).start()
    try:
        return await _sent_by_another(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def _sent_by_another(host: str, port: int) -> list[float]:
    """Have another process send all rounds; return how long each delivery took, in seconds."""
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.webhooks", host, str(port)), stdout=asyncio.subprocess.PIPE
    )
    shown, _ = await sender.communicate()
    if sender.returncode:
        raise AssertionError("a delivery was refused: the register took longer than 0.8 s")
    took: list[float] = json.loads(shown)
    return took


async def _measured() -> tuple[list[float], int, float]:
    commits = 0
    with tempfile.TemporaryDirectory() as folder:
        store = await Store.open(f"sqlite:///{Path(folder) / 'register.db'}")

        async def write(events: Sequence[ForgeEvent]) -> None:
            nonlocal commits
            commits += 1
            rows = [
                ForgeEventRow(
                    forge="forge.example", delivery=each.delivery, name=each.name, repository=str(each.repository),
                    number=each.number, sha=each.sha, received_at=time.time(),
                )
                for each in events
            ]  # fmt: skip
            async with store.write(STEP) as tx:
                await forge_events.add(tx, rows)

        listener = WebhookListener("gitea", _SECRET, [RepositoryName("acme", "shop")], write)
        await listener.start()
        host, port = listener.address
        try:
            began = time.process_time()
            took = await _sent_by_another(host, port)
            cpu = time.process_time() - began
            async with store.read() as tx:
                durable = await forge_events.count_waiting(tx, "forge.example")
            if durable != AT_ONCE * ROUNDS:
                raise AssertionError(f"{durable} of {AT_ONCE * ROUNDS} events are durable")
        finally:
            await listener.stop()
            await store.close()
    return took, commits, cpu


class _Delivery(asyncio.Protocol):
    """A connection as a reverse proxy keeps it: one delivery, and the moment at which its answer was there."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.took: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def send(self) -> None:
        self._began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200 "):
            self.took.set_exception(AssertionError(f"the answer is {data[:100]!r}"))
        else:
            self.took.set_result(time.perf_counter() - self._began)
        self.transport.close()


async def _sent(host: str, port: int) -> list[float]:
    took: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(ROUNDS):
        requests = [_request(number + 1) for number in range(AT_ONCE)]
        opened = [await loop.create_connection(partial(_Delivery, each), host, port) for each in requests]
        for _, delivery in opened:
            delivery.send()
        took += await asyncio.gather(*(delivery.took for _, delivery in opened))
    return took


def _request(number: int) -> bytes:
    content = {"repository": {"full_name": "acme/shop"}, "issue": {"number": number, "body": "x" * 4_000}}
    body = json.dumps(content).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: muster.example\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nX-Gitea-Event: issue_comment\r\nX-Gitea-Delivery: {uuid.uuid4()}\r\n"
        f"X-Gitea-Signature: {hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()}\r\n\r\n"
    )
    return head.encode() + body


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_sent(sys.argv[1], int(sys.argv[2])))))
