"""Metrics, as Prometheus scrapes them."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bot.commands.registry import TABLE
from bot.config.loader import load
from bot.text.errors import ConfigError, UserError
from tests.bot.orchestrator import House, house

TOKEN = "scrape-me-4711"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Scraped:
    house: House
    port: int


def block(folder: Path, port: int) -> str:
    """The settings, with a file for the token."""
    secret = folder / "token"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    return f"metrics:\n  listen: 127.0.0.1:{port}\n  token: file:{secret}\n"


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Scraped]:
    port = free_port()
    async with house(tmp_path, settings=block(tmp_path, port)) as made, made.open():
        yield Scraped(made, port)


async def scraped(port: int, token: str = TOKEN) -> tuple[int, dict[tuple[str, ...], float]]:
    """The status, and each sample by its name and labels."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"}) as answer,
    ):
        text = await answer.text()
        if answer.status != 200:
            return answer.status, {}
        families = list(text_string_to_metric_families(text))
        samples = [sample for family in families for sample in family.samples]
        return 200, {(each.name, *each.labels.values()): each.value for each in samples}


async def test_what_agents_do_and_use_can_be_scraped(home: Scraped) -> None:
    made = home.house
    thread = await made.launch("coder0")
    await made.marks(made.say("[[say: hello]]", thread), "✅")
    made.say("[[run: touch made]]", thread)
    await made.heard(thread, "asks for permission")
    await made.ask("!task add 'Later.' --role nobody-has-this")
    status, samples = await scraped(home.port)
    assert status == 200
    assert samples["muster_agents", "waiting"] == 1
    assert samples["muster_waiting", "request"] == 1
    assert samples["muster_waiting_oldest_seconds", "request"] > 0
    assert samples["muster_part_up", "register", "register"] == 1
    assert sum(value for name, value in samples.items() if name[0] == "muster_requests_today") >= 1
    assert not any("coder0" in labels for _, *labels in samples), "agents are no labels: there may be thousands"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "é"])
async def test_without_the_token_nothing_is_told(home: Scraped, token: str) -> None:
    assert await scraped(home.port, token) == (401, {})


async def test_the_port_has_no_route_of_the_gateway(home: Scraped) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        for method, path in [
            ("GET", "/v1/documents/fleet"),
            ("GET", "/v1/stream?documents=fleet"),
            ("GET", "/v1/commands"),
            ("GET", "/v1/health"),
            ("GET", "/v1/openapi.json"),
            *(("POST", f"/v1/commands/{command.name.replace(' ', '/')}") for command in TABLE),
        ]:
            async with session.request(method, f"http://127.0.0.1:{home.port}{path}") as answer:
                assert answer.status == 404, path


async def test_the_gateway_has_them_as_well(home: Scraped) -> None:
    connector = aiohttp.UnixConnector(str(home.house.paths.gateway_socket))
    async with (
        aiohttp.ClientSession("http://muster", connector=connector) as session,
        session.get("/metrics") as answer,
    ):
        assert "muster_info" in await answer.text()


async def test_a_port_that_is_taken_stops_the_start_with_what_to_do(home: Scraped, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir(mode=0o700)
    async with house(folder, settings=block(folder, home.port)) as other:
        with pytest.raises(UserError, match="Change `metrics: listen`"):
            async with other.open():
                pass


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("metrics: {listen: '127.0.0.1:9464'}", "set a token"),
        ("metrics: {listen: 'localhost:9464', token: 'env:KEY'}", "expected an IP address and a port"),
        ("metrics: {listen: '127.0.0.1', token: 'env:KEY'}", "expected an IP address and a port"),
        ("metrics: {listen: '127.0.0.1:0', token: 'env:KEY'}", "expected an IP address and a port"),
        ("metrics: {port: 1}", "metrics"),
    ],
)
async def test_a_wrong_block_is_refused(tmp_path: Path, written: str, words: str) -> None:
    async with house(tmp_path) as home:
        home.paths.muster_yaml.write_text(f"{home.paths.muster_yaml.read_text()}{written}\n")
        with pytest.raises(ConfigError, match=words):
            load(home.paths)


async def test_the_dashboard_and_the_alerts_that_are_shipped_use_what_there_is(home: Scraped) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.get(f"http://127.0.0.1:{home.port}/metrics") as answer,
    ):
        known = {family.name for family in text_string_to_metric_families(await answer.text())}
    folder = Path(__file__).parents[4] / "docs"
    for file in ("monitoring/grafana.json", "monitoring/alerts.yaml", "how-to/monitor.md"):
        named = set(re.findall(r"\bmuster_[a-z_]+", (folder / file).read_text()))
        assert named, file
        assert named <= known, file
    assert known <= set(re.findall(r"\bmuster_[a-z_]+", (folder / "how-to/monitor.md").read_text()))
