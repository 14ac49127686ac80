"""The egress beside a direct connection, nginx, a bare aiohttp proxy, mitmproxy and LiteLLM's proxy, in one run.

The provider, the clients and each proxy are processes of their own on the same machine. Everything but ours runs
without a ledger; ours writes each request into its own, durably, before the response's last byte leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import egress_load, egress_provider, egress_ways
from benchmarks.egress_ways import NotHere, Way
from benchmarks.figures import Figure

#: Of clients that ask one thing after the other: as many as keep every way busy.
CONNECTIONS = 64
#: With so few, a way that waits for a disk is idle in between.
FEW = 16
#: The ways are gone in turn, so often: what else the machine does meets them all.
ROUNDS = 6
SECONDS = 3.0
#: Requests before it is measured: connections, caches, what a runtime compiles.
WARM_S = 1.0
STREAMS = 200
EVENTS = 80
OPEN = 1_000
CUT_STREAMS = 200
LIMIT_S = 900.0

_BARE = "bare aiohttp proxy"
_OTHERS: dict[str, Callable[[int, Path], AbstractAsyncContextManager[Way]]] = {
    "nginx": egress_ways.nginx,
    _BARE: egress_ways.bare,
    "mitmproxy": egress_ways.mitmproxy,
    "LiteLLM": egress_ways.litellm,
}
_OURS = ("egress", "egress, unix socket")
_STREAMED = {"direct", "nginx", _BARE, *_OURS}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was measured of one way."""

    documents: list[dict[str, float]]
    """Of each round."""
    few: list[dict[str, float]]
    """The same with few connections; none of a way that is only looked at."""
    streams: list[dict[str, float]]
    memory_mb: float = 0.0

    @property
    def requests(self) -> float:
        """How many were made in all rounds."""
        return sum(one["requests"] for one in self.documents + self.few)


def measure() -> list[Figure]:
    """Go every way that there is on this machine; say aloud which are not."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="mx-bench-") as name:
        folder = Path(name)
        async with (
            asyncio.timeout(LIMIT_S),
            AsyncExitStack() as stack,
            egress_ways.module("benchmarks.egress_provider") as (_, upstream),
            egress_ways.ours(upstream, folder) as egress,
        ):
            ways = {"direct": Way(port=upstream)}
            for title, way in _OTHERS.items():
                try:
                    ways[title] = await stack.enter_async_context(way(upstream, folder))
                except NotHere as error:
                    print(f"egress: {title} is left out: {error}.", file=sys.stderr)
            ways |= {"egress": egress.loopback, "egress, unix socket": egress.sandboxed}
            seen = await _compared(ways, folder)
            asked = sum(seen[title].requests for title in _OURS)
            wrong = await _ledger_error(egress, int(asked))
            held = await _held_open(egress)
            one, everything = await _time_to_cut(egress)
    return [
        *_rates(seen),
        *_delays(seen),
        Figure(name="ledger against what the provider billed, tokens", value=wrong, unit="", at_most=0),
        Figure(name=f"egress with {OPEN:,} open streams, RSS", value=held, unit="MB", at_most=150),
        Figure(name=f"time to cut one agent, {CUT_STREAMS} streams open", value=one, unit="ms", at_most=50),
        Figure(name=f"time to cut all {CUT_STREAMS} (emergency stop)", value=everything, unit="ms", at_most=50),
    ]


async def _compared(ways: dict[str, Way], folder: Path) -> dict[str, Seen]:
    """Return all ways in turn, several times."""
    documents: dict[str, list[dict[str, float]]] = {title: [] for title in ways}
    few: dict[str, list[dict[str, float]]] = {title: [] for title in ways}
    streams: dict[str, list[dict[str, float]]] = {title: [] for title in ways}
    for way in ways.values():
        await _documents(way, folder, WARM_S, CONNECTIONS)
    for number in range(ROUNDS):
        # Forwards and backwards: who comes before one has its effect on that one (a machine that grows warm, a cache).
        turn = list(ways.items())[:: -1 if number % 2 else 1]
        for title, way in turn:
            documents[title].append(await _documents(way, folder, SECONDS, CONNECTIONS))
        for title, way in turn:
            if title in _STREAMED:
                few[title].append(await _documents(way, folder, SECONDS, FEW))
                streams[title].append(await _streams(way, folder))
    return {
        title: Seen(documents=documents[title], few=few[title], streams=streams[title], memory_mb=way.memory_mb())
        for title, way in ways.items()
    }


def _middle(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _rates(seen: dict[str, Seen]) -> list[Figure]:
    figures = []
    for title, way in seen.items():
        found = _middle(way.documents)
        figures += [
            Figure(name=f"{title}: requests", value=found["per_s"], unit="/s"),
            Figure(name=f"{title}: p50", value=found["p50_ms"], unit="ms"),
            Figure(name=f"{title}: p99", value=found["p99_ms"], unit="ms"),
        ]
        if title != "direct":
            figures.append(Figure(name=f"{title}: CPU per request", value=found["cpu_ms"], unit="ms"))
            figures.append(Figure(name=f"{title}: RSS", value=way.memory_mb, unit="MB"))
    ours = seen["egress"]
    for title, least in ((_BARE, 0.5), ("mitmproxy", 3.0), ("LiteLLM", 10.0)):
        if title in seen:
            ratio = _ratio(ours.documents, seen[title].documents, "per_s")
            figures.append(Figure(name=f"egress to {title}, requests/s", value=ratio, unit="times", at_least=least))
    bare = seen[_BARE]
    for title in _OURS:
        few = _ratio(seen[title].few, bare.few, "per_s")
        cpu = _ratio(seen[title].few, bare.few, "cpu_ms")
        named = f"{title} to {_BARE}, {FEW} connections"
        figures += [
            Figure(name=f"{named}, requests/s", value=few, unit="times", at_least=0.7),
            Figure(name=f"{named}, CPU per request", value=cpu, unit="times", at_most=1.5),
        ]
    return figures


def _ratio(ours: list[dict[str, float]], others: list[dict[str, float]], name: str) -> float:
    """Return the median of the rounds' ratios: what was measured at about the same time is compared."""
    return statistics.median(one[name] / other[name] for one, other in zip(ours, others, strict=True))


def _delays(seen: dict[str, Seen]) -> list[Figure]:
    direct = seen["direct"].streams
    figures = []
    for title, way in seen.items():
        if not way.streams or title == "direct":
            continue
        for name in ("p50", "p99"):
            added = statistics.median(_added(way.streams, direct, name))
            bound = 2.0 if title in _OURS and name == "p99" else None
            figures.append(
                Figure(
                    name=f"{title}: added per event, {name}, {STREAMS} streams", value=added, unit="ms", at_most=bound
                )
            )
        figures.append(Figure(name=f"{title}: CPU per event", value=_middle(way.streams)["cpu_ms"], unit="ms"))
    bare = _added(seen[_BARE].streams, direct, "p99")
    for title in _OURS:
        added_by_us = _added(seen[title].streams, direct, "p99")
        ratio = statistics.median(one / other for one, other in zip(added_by_us, bare, strict=True))
        name = f"{title} to {_BARE}, added per event, p99"
        figures.append(Figure(name=name, value=ratio, unit="times", at_most=1.2))
    return figures


def _added(streams: list[dict[str, float]], direct: list[dict[str, float]], name: str) -> list[float]:
    """By how much later events came than without a proxy, in each round. (On a busy machine, they may come earlier.)"""
    return [max(0.01, one[f"{name}_ms"] - other[f"{name}_ms"]) for one, other in zip(streams, direct, strict=True)]


async def _documents(way: Way, folder: Path, seconds: float, connections: int) -> dict[str, float]:
    before = way.cpu_s()
    found = await _load({**way.to_json(), "connections": connections, "seconds": seconds}, folder)
    if found["failed"]:
        raise RuntimeError(f"{found['failed']:g} of {found['requests']:g} requests failed: {way}")
    return found | {"cpu_ms": (way.cpu_s() - before) * 1000 / found["requests"]}


async def _streams(way: Way, folder: Path) -> dict[str, float]:
    before = way.cpu_s()
    found = await _load({**way.to_json(), "connections": STREAMS, "events": EVENTS}, folder)
    if found["failed"]:
        raise RuntimeError(f"{found['failed']:g} of {STREAMS} streams broke off: {way}")
    return found | {"cpu_ms": (way.cpu_s() - before) * 1000 / (STREAMS * EVENTS)}


async def _load(asking: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return what the process of clients measures."""
    (folder / "way.json").write_text(json.dumps(asking))
    command = (sys.executable, "-m", "benchmarks.egress_load", str(folder / "way.json"))
    process = await asyncio.create_subprocess_exec(
        *command, cwd=egress_ways.ROOT, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        written, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise RuntimeError(f"the clients failed: {asking}")
    found: dict[str, float] = json.loads(written)
    return found


async def _ledger_error(egress: egress_ways.Egress, asked: int) -> float:
    """By how many tokens the ledger differs from what was billed, over all documents."""
    await egress.idle()
    rows: list[dict[str, Any]] = []
    while True:
        page = (await egress.client.entries(after=rows[-1]["seq"] if rows else 0, limit=2_000))["entries"]
        if not page:
            break
        rows += page
    whole = [row for row in rows if row["ended"] == "completed"]
    bill = egress_provider.USAGE
    error = sum(
        abs(row["tokens"]["input"] - bill["prompt_tokens"]) + abs(row["tokens"]["output"] - bill["completion_tokens"])
        for row in whole
    )
    missing = max(0, asked - len(whole))
    gaps = sum(row["seq"] != number for number, row in enumerate(rows, 1))
    return float(error + missing * bill["total_tokens"] + gaps)


class _Streams:
    """Streams that stay open, and when each got its last byte."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._open = AsyncExitStack()
        self._listening: list[asyncio.Task[None]] = []
        self.last: dict[int, float] = {}
        self.begun: set[int] = set()

    async def open(self, count: int) -> None:
        """Open so many, until each has had an event."""
        source = egress_load.request(self._way.to_json(), {**egress_load.QUESTION, "stream": True})
        for number in range(count):
            reader, writer = await egress_load.connect(self._way.to_json(), number)
            self._open.callback(writer.close)
            writer.write(source)
            self._listening.append(asyncio.create_task(self._listen(number, reader)))
        while len(self.begun) < count:
            if any(task.done() for task in self._listening):
                raise RuntimeError("a stream ended before all were open")
            await asyncio.sleep(0.02)

    async def _listen(self, number: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(2**16):
                self.last[number] = time.monotonic()
                if b"@" in piece:
                    self.begun.add(number)

    async def over(self, numbers: list[int]) -> None:
        """Until these have ended."""
        async with asyncio.timeout(30):
            await asyncio.gather(*(self._listening[number] for number in numbers))

    async def close(self) -> None:
        await self._open.aclose()
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


async def _held_open(egress: egress_ways.Egress) -> float:
    streams = _Streams(egress.sandboxed)
    try:
        async with asyncio.timeout(120):
            await streams.open(OPEN)
        return egress.sandboxed.memory_mb()
    finally:
        await streams.close()


async def _time_to_cut(egress: egress_ways.Egress) -> tuple[float, float]:
    """From before the command is given to the last byte that any of its streams got, ms: of one agent, of all."""
    await egress.idle()
    streams = _Streams(egress.sandboxed)
    agents = len(egress.sandboxed.sockets)
    try:
        await streams.open(CUT_STREAMS)
        mine = [number for number in range(CUT_STREAMS) if number % agents == 0]
        rest = [number for number in range(CUT_STREAMS) if number % agents]
        began = time.monotonic()
        await egress.client.deny(egress_ways.AGENTS[0], cause="benchmark", by="benchmark", id="cut-1")
        await streams.over(mine)
        one = max(streams.last[number] for number in mine) - began
        began = time.monotonic()
        await egress.client.estop(cause="benchmark", by="benchmark")
        await streams.over(rest)
        everything = max(streams.last[number] for number in rest) - began
        return one * 1000, everything * 1000
    finally:
        await streams.close()
