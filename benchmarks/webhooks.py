"""How long a forge waits until a webhook is durable: 200 signed ones at once, over HTTP, into a register on the disk.

They are sent by a process of their own.
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
from pathlib import Path

import aiohttp

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
#: Seconds from the first byte to the answer, which comes after the commit, p99. GitHub gives up after 10.
AT_MOST_S = 1.0
STEP = declare("benchmarks.webhooks")
_SECRET = "a-secret-for-the-benchmark"


def measure() -> list[Figure]:
    """Send rounds of webhooks at once, and measure each from its first byte to its answer."""
    took, commits = asyncio.run(_measured())
    return [
        Figure(name=f"{AT_ONCE} webhooks at once, p50", value=percentile(took, 50) * 1000, unit="ms"),
        Figure(
            name=f"{AT_ONCE} webhooks at once, p99", value=percentile(took, 99) * 1000, unit="ms",
            at_most=AT_MOST_S * 1000,
        ),
        Figure(name="commits for each", value=commits / ROUNDS, unit=""),
    ]  # fmt: skip


async def _measured() -> tuple[list[float], int]:
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
            sender = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.webhooks", f"http://{host}:{port}{PATH}"),
                stdout=asyncio.subprocess.PIPE,
            )
            shown, _ = await sender.communicate()
            took: list[float] = json.loads(shown)
            async with store.read() as tx:
                durable = await forge_events.count_waiting(tx, "forge.example")
            if durable != AT_ONCE * ROUNDS:
                raise AssertionError(f"{durable} of {AT_ONCE * ROUNDS} events are durable")
        finally:
            await listener.stop()
            await store.close()
    return took, commits


async def _sent(url: str) -> list[float]:
    took: list[float] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        for _ in range(ROUNDS):
            took += await asyncio.gather(*(_send(session, url, number) for number in range(AT_ONCE)))
    return took


async def _send(session: aiohttp.ClientSession, url: str, number: int) -> float:
    content = {"repository": {"full_name": "acme/shop"}, "issue": {"number": number + 1, "body": "x" * 4_000}}
    body = json.dumps(content).encode()
    headers = {
        "X-Gitea-Event": "issue_comment",
        "X-Gitea-Delivery": str(uuid.uuid4()),
        "X-Gitea-Signature": hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest(),
    }
    began = time.perf_counter()
    async with session.post(url, data=body, headers=headers) as response:
        if response.status != 200:
            raise AssertionError(f"status {response.status}")
        await response.read()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_sent(sys.argv[1]))))
