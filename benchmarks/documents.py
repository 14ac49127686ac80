"""How old a request's use is when a dashboard has it: from its end, as the ledger has it, to the document.

A reader follows the gateway's stream while an agent talks. The document of a large fleet is written as well, since the
orchestrator does that again and again while somebody looks.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from sqlalchemy import func, select

from benchmarks.figures import Figure, percentile
from bot.read_models import codec
from bot.read_models.fleet import AgentGate, FleetAgent, FleetModel
from bot.read_models.provenance import Provenance
from core.redaction import SecretMasker
from database.schema.usage_ledger import ledger
from tests.bot.orchestrator import house

ROUNDS = 40
LIMIT = 240.0
#: Seconds from the end of a request to the document that has it, p95.
AT_MOST_S = 1.0
AGENTS = 1_000


def measure() -> list[Figure]:
    """Follow an agent that talks, and build a large document."""
    ages = asyncio.run(_ages())
    return [
        Figure(name="a request's use in the stream, p50", value=percentile(ages, 50) * 1000, unit="ms"),
        Figure(
            name="a request's use in the stream, p95",
            value=percentile(ages, 95) * 1000,
            unit="ms",
            at_most=AT_MOST_S * 1000,
        ),
        *_large(),
    ]


async def _ages() -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.timeout(LIMIT), house(Path(folder)) as home, home.open():
            thread = await home.launch("coder0")
            connector = aiohttp.UnixConnector(str(home.paths.gateway_socket))
            async with (
                aiohttp.ClientSession("http://muster", connector=connector) as client,
                client.get("/v1/stream?documents=fleet", timeout=aiohttp.ClientTimeout(total=None)) as answer,
            ):
                documents = _documents(answer)
                tokens, ages = 0, []
                for number in range(ROUNDS):
                    home.say(f"[[say: {number}]]", thread)
                    tokens, seen = await _more_than(tokens, documents)
                    async with home.orchestrator.store.read() as tx:
                        ages.append(seen - await tx.scalar(select(func.max(ledger.c.ended_at))))
                return ages


async def _more_than(tokens: int, documents: AsyncIterator[FleetModel]) -> tuple[int, float]:
    """Return the tokens of the first document that has more, and when it came. A turn here is one request."""
    async for fleet in documents:
        used = sum(agent.tokens_today or 0 for agent in fleet.agents)
        if used > tokens:
            return used, time.time()
    raise RuntimeError("the stream ended")


async def _documents(answer: aiohttp.ClientResponse) -> AsyncIterator[FleetModel]:
    async for line in answer.content:
        if line.startswith(b"data: "):
            yield codec.from_wire(FleetModel, json.loads(line[6:])["value"])


def _large() -> list[Figure]:
    masker = SecretMasker(known=frozenset({"sk-not-a-real-key-4711"}))
    fleet = fleet_of(AGENTS)
    began = time.perf_counter()
    body = json.dumps(codec.to_wire(codec.masked(fleet, masker), str), separators=(",", ":"))
    took = time.perf_counter() - began
    return [
        Figure(name=f"a fleet of {AGENTS:,}: masked and written", value=took * 1000, unit="ms"),
        Figure(name=f"a fleet of {AGENTS:,}: its size", value=len(body) / 1000, unit="kB"),
    ]


def fleet_of(agents: int) -> FleetModel:
    """Return a fleet of so many agents that work."""
    return FleetModel(agents=tuple(_agent(number) for number in range(agents)))


def _agent(number: int) -> FleetAgent:
    return FleetAgent(
        name=f"coder{number}",
        role="coder",
        runtime="claude",
        wanted="running",
        state="working",
        seen=Provenance(source="adapter", at=float(number)),
        activity=f"make test-{number}",
        sandbox="bubblewrap",
        workspace=f"/srv/muster/workspaces/coder{number}",
        host="host",
        tenant_id="default",
        tokens_today=number,
        gate=AgentGate(),
    )
