"""Telemetry: what is shown is what goes, nothing goes unasked, and nothing that goes says who one is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bot.api_client import Client
from bot.commands import sections
from bot.config.loader import load
from bot.interfaces.cli import main as cli
from bot.telemetry import sender
from bot.telemetry.payload import TelemetryFacts, amount, count, document
from bot.text.errors import ConfigError
from tests.bot.orchestrator import OPERATOR, House, house

ROSTER = "preset: minimal\nagents:\n  - {name: secretproject-coder, runtime: sim, sandbox: none}\n"


class Listener:
    """Whoever telemetry is sent to."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 204
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self.headers.append(dict(request.headers))
        headers = {"Location": f"{self.url}/elsewhere"} if 300 <= self.status < 400 else {}
        return web.Response(status=self.status, headers=headers)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", listener.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    listener.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield listener
    finally:
        await runner.cleanup()


def _settings(url: str) -> str:
    return f"telemetry: {{enabled: true, url: {url}/counts}}\n"


async def _shown(home: House, capfd: pytest.CaptureFixture[str]) -> bytes:
    """What `muster telemetry preview` prints between its fences."""
    made = Client(home.paths.gateway_socket)
    table = sections.load()
    assert await asyncio.to_thread(cli.run, table, ["telemetry", "preview"], client=lambda: made) == 0
    found = re.search(r"```json\n(.*?\n)```", capfd.readouterr().out, re.DOTALL)
    assert found is not None
    return found[1].encode()


async def test_what_the_preview_prints_and_what_is_sent_are_the_same_bytes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with (
        listening() as listener,
        house(tmp_path, settings=_settings(listener.url), roster=ROSTER) as home,
        home.open() as orchestrator,
    ):
        await home.launch("secretproject-coder")
        shown = await _shown(home, capfd)
        await sender.send(orchestrator.services)
        assert listener.bodies == [shown]
    told = json.loads(shown)
    assert told["runtimes"] == {"sim": "1"}
    assert told["accounts"] == {"anthropic": "1"}
    assert told["connectors"] == ["other"], "the connector of tests is none of ours"
    everything = shown + repr(listener.headers).encode()
    for secret in ("secretproject", "ana", str(tmp_path), "sk-test", "coder"):
        assert secret.encode() not in everything
    assert not {"Cookie", "Authorization", "Referer"} & set(listener.headers[0])


async def test_it_goes_at_most_once_a_day_also_after_a_restart_and_whatever_became_of_it(tmp_path: Path) -> None:
    async with listening() as listener, house(tmp_path, settings=_settings(listener.url)) as home:
        listener.status = 500
        for _ in range(2):
            async with home.open() as orchestrator:
                await asyncio.gather(*(sender.send(orchestrator.services) for _ in range(3)))
        assert len(listener.bodies) == 1
        async with home.open() as orchestrator:
            orchestrator.services.clock = lambda: time.time() + 86_400
            await sender.send(orchestrator.services)
        assert len(listener.bodies) == 2


@pytest.mark.parametrize("telemetry", ["", "telemetry: {url: URL}\n", "telemetry: {enabled: false, url: URL}\n"])
async def test_nothing_goes_unless_it_is_switched_on(tmp_path: Path, telemetry: str) -> None:
    async with (
        listening() as listener,
        house(tmp_path, settings=telemetry.replace("URL", listener.url)) as home,
        home.open() as orchestrator,
    ):
        await sender.send(orchestrator.services)
        said = await home.ask("!telemetry preview")
    assert "Nothing is sent: telemetry is off." in said
    assert listener.bodies == []


async def test_that_it_could_not_be_sent_is_a_line_in_the_log_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with listening() as listener:
        gone = listener.url
    async with house(tmp_path, settings=_settings(gone)) as home, home.open() as orchestrator:
        await sender.send(orchestrator.services)
        assert "telemetry.not_sent" in capsys.readouterr().out
        assert not [said for said in home.chat.said if "telemetry" in str(said)]


async def test_it_is_not_led_elsewhere(tmp_path: Path) -> None:
    async with listening() as listener, house(tmp_path, settings=_settings(listener.url)) as home:
        listener.status = 307
        async with home.open() as orchestrator:
            await sender.send(orchestrator.services)
    assert len(listener.bodies) == 1


async def test_only_admins_are_shown_what_would_go(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open():
        assert "admin" in await home.ask("!telemetry preview", sender=OPERATOR)


@pytest.mark.parametrize(
    ("telemetry", "says"),
    [
        ("{enabled: true}", "without a url"),
        ("{enabled: true, url: 'http://counts.example.org'}", "write https:// first"),
        ("{enabled: true, url: 'http://127.0.0.1.example.org'}", "write https:// first"),
        ("{enabled: true, url: 'http://localhost/x'}", "write https:// first"),
        ("{enabled: true, url: 'https://user@example.org'}", "not a plain URL"),
        ("{on: true, url: 'https://example.org'}", "telemetry"),
    ],
)
async def test_an_address_that_others_could_listen_to_is_refused(tmp_path: Path, telemetry: str, says: str) -> None:
    async with house(tmp_path, settings=f"telemetry: {telemetry}\n") as home:
        with pytest.raises(ConfigError) as caught:
            load(home.paths)
    assert says in str(caught.value)
    assert "muster.yaml" in str(caught.value)


def _facts(**known: Any) -> TelemetryFacts:
    values: dict[str, Any] = {
        "version": "0.1.0", "python": (3, 11), "system": "linux", "register": "sqlite", "connectors": [],
        "runtimes": [], "providers": [], "operators": 0, "tasks": {}, "tokens": 0,
    }  # fmt: skip
    return TelemetryFacts(**(values | known))


def test_words_that_are_not_musters_own_do_not_go() -> None:
    body = document(
        _facts(
            version="0.1.0.dev3+acme.build",
            system="acme-os",
            register="acme-db",
            connectors=["acme-chat", "matrix"],
            runtimes=["acme", "claude", "claude"],
            providers=["acme-models"],
            tasks={"acme": 3, "done": 7},
        )
    )
    assert b"acme" not in body
    told = json.loads(body)
    assert told["runtimes"] == {"claude": "2-5", "other": "1"}
    assert told["tasks_in_7_days"] == {"done": "6-20", "failed": "0", "cancelled": "0"}
    assert told["muster"] == "0.1"


def test_numbers_are_steps() -> None:
    assert [count(n) for n in (0, 1, 2, 5, 6, 100, 1000, 1001, 10**9)] == [
        "0", "1", "2-5", "2-5", "6-20", "21-100", "101-1k", ">1k", ">1k",
    ]  # fmt: skip
    assert [amount(n) for n in (0, 1, 10**6, 10**6 + 1, 10**12)] == ["0", "<=1M", "<=1M", "<=10M", ">1G"]
    # Of a fleet of seven and one of twenty it says the same.
    assert document(_facts(runtimes=["sim"] * 7, tokens=10_000_001)) == document(
        _facts(runtimes=["sim"] * 20, tokens=99_999_999)
    )
