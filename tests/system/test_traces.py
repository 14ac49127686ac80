"""Traces of a real `muster up` that is killed: no span is lost, and none is sent twice with different contents."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml

from bot.config.paths import Paths
from fleet.sim.provider.server import Provider
from tests.bot.traces.collector import LocalCollector, values
from tests.system.installation import LIMIT, Premises

#: What a message to an agent by a command leaves in a trace.
WHOLE = {"chat message", "command send", "order coder0", "invoke_agent coder0", "chat claude-sonnet-4-5", "reply"}


@pytest.fixture
async def collector() -> AsyncIterator[LocalCollector]:
    async with LocalCollector().listening() as listening:
        yield listening


@pytest.fixture
async def home(tmp_path: Path, models: Provider, collector: LocalCollector) -> AsyncIterator[Premises]:
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    settings = {
        "connectors": {"terminal": {}},
        "accounts": {"sim": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"}},
        "agents": {"runtime": "sim", "sandbox": "none", "heartbeat": "1s"},
        "traces": {"endpoint": collector.url},
    }
    paths.muster_yaml.write_text(yaml.safe_dump(settings))
    premises = Premises(folder=tmp_path, models=models, paths=paths, kind="terminal")
    try:
        yield premises
    finally:
        await premises.close()


async def say(home: Premises, name: str, text: str) -> None:
    """Write a line into the terminal room, until it is accepted. It counts once, however often it is written."""
    async with asyncio.timeout(LIMIT):
        while True:
            connector = aiohttp.UnixConnector(str(home.paths.gateway_socket))
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async with (
                    aiohttp.ClientSession(connector=connector) as http,
                    http.ws_connect("http://muster/v1/terminal?after=0", max_msg_size=0) as client,
                ):
                    await client.send_json({"type": "say", "id": name, "text": text})
                    async for message in client:
                        line = json.loads(message.data)
                        if line.get("type") == "accepted" and line["id"].removeprefix("said-") == name:
                            return
            await asyncio.sleep(0.05)


async def remembered(home: Premises) -> None:
    """Wait until Muster has noted what was sent; killed before, it would send the last of it again."""
    query = "SELECT (SELECT max(seq) FROM audit) = (SELECT place FROM trace_positions WHERE source = 'audit')"
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.closing(sqlite3.connect(home.paths.state / "register.db")) as register:
                if register.execute(query).fetchone() == (1,):
                    return
            await asyncio.sleep(0.02)


def of_words(collector: LocalCollector, name: str) -> set[str]:
    """The names of the spans in the trace of what was written under this id."""
    begins = {
        span.trace_id
        for span in collector.named("chat message")
        if str(values(span)["muster.event.id"]).removeprefix("said-") == name
    }
    assert len(begins) <= 1
    return {span.name for span in collector.spans if span.trace_id in begins}


async def test_a_turn_that_outlives_the_orchestrator_is_one_trace(
    home: Premises, models: Provider, collector: LocalCollector
) -> None:
    await home.start()
    await home.gateway("POST", "/v1/commands/launch", {"name": "coder0"})
    await say(home, "words", "!send coder0 '[[say: Half of it.]][[wait: gate]][[say: All of it.]]'")
    await collector.until(lambda: {"chat message", "command send"} <= of_words(collector, "words"))
    await remembered(home)
    await home.kill()
    models.release("gate")
    await home.start()
    await collector.until(lambda: of_words(collector, "words") == WHOLE)
    ids = [span.span_id for span in collector.spans]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
async def test_killed_at_any_moment_every_trace_is_whole(
    home: Premises, collector: LocalCollector, rng: random.Random
) -> None:
    await home.start()
    await home.gateway("POST", "/v1/commands/launch", {"name": "coder0"})
    async with home.revived():
        for number in range(6):
            await say(home, f"words{number}", f"!send coder0 '[[say: Answer {number}.]]'")
            await asyncio.sleep(rng.uniform(0.0, 3.0))
            home.strike()
        for number in range(6):
            await collector.until(lambda number=number: of_words(collector, f"words{number}") == WHOLE)  # type: ignore[misc]
    contents: dict[bytes, bytes] = {}
    for span in collector.spans:
        content = span.SerializeToString(deterministic=True)
        assert contents.setdefault(span.span_id, content) == content
