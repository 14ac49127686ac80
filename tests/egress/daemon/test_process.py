"""The egress as a process: one per host, ended in order, and the same after an end without any."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from fleet.sim.provider import server as provider
from tests.egress.egress_process import KEYS, Premises
from tests.egress.whole_egress import anthropic, keeping


@asynccontextmanager
async def _running(home: Path) -> AsyncIterator[tuple[Premises, aiohttp.ClientSession]]:
    async with provider.running() as behind:
        premises = Premises(home, behind, ["coder0"])
        await premises.start()
        connector = aiohttp.UnixConnector(str(premises.paths.listener("coder0")))
        try:
            with keeping() as kept:
                async with aiohttp.ClientSession("http://egress", connector=connector, response_class=kept) as agent:
                    yield premises, agent
        finally:
            await premises.stop()


async def test_a_second_egress_says_who_runs_here(short_home: Path) -> None:
    async with _running(short_home) as (premises, _):
        paths = premises.paths
        second = await asyncio.to_thread(
            subprocess.run,
            [
                *(sys.executable, "-P", "-m", "egress.process"),
                *("--state", str(paths.state), "--sockets", str(paths.sockets)),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 1
        assert str(premises.pid) in second.stderr
        # The first one goes on.
        assert (await premises.client.status())["pid"] == premises.pid


async def test_an_end_in_order_lets_what_is_nearly_done_end_and_tells_no_secret(short_home: Path) -> None:
    async with _running(short_home) as (premises, agent):
        asked = anthropic("[[say: first]][[wait: last]][[say: last]]", stream=True)
        nearly = await agent.post("/anthropic/v1/messages", json=asked)
        await nearly.content.readuntil(b"text_delta")
        never = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: first]][[hang]]", stream=True))
        await never.content.readuntil(b"text_delta")
        silent = asyncio.ensure_future(agent.post("/anthropic/v1/messages", json=anthropic("[[hang]]")))
        await premises.provider.ledger.find(lambda _: True, at_least=3, timeout=30)
        await premises.client.stop()
        premises.provider.release("last")
        assert b"message_stop" in await nearly.content.read()
        assert b"being stopped" in await never.content.read()
        assert (await silent).status == 503
        await premises.gone()
        log = premises.paths.log.read_text()
        assert "egress ended" in [json.loads(line)["event"] for line in log.splitlines()]
        for secret in KEYS.values():
            assert secret not in log + premises.errors()
        await premises.start()
        found = (await premises.client.entries(wait_s=10))["entries"]
        assert sorted(entry["ended"] for entry in found) == ["completed", "cut", "cut"]
        assert (await premises.client.status())["recovered"] == 0


@pytest.mark.parametrize("action", ["cutoff", "estop"])
async def test_whoever_was_closed_before_a_kill_is_closed_after_it(short_home: Path, action: str) -> None:
    async with _running(short_home) as (premises, agent):
        response = await agent.post("/anthropic/v1/messages", json=anthropic("[[say: a]][[hang]]", stream=True))
        await response.content.readuntil(b"text_delta")
        if action == "cutoff":
            await premises.client.deny("coder0", cause="enough", by="ops", id="1")
        else:
            await premises.client.estop(cause="enough", by="ops")
        premises.kill()
        await premises.revive()
        again = await agent.post("/anthropic/v1/messages", json=anthropic())
        assert again.status == 403
        assert not [entry for entry in (await premises.client.entries(wait_s=1))["entries"] if entry["reported"]]
