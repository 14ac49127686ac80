"""What Muster does with the answers of a collector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bot.traces import collector as collectors
from bot.traces.collector import Collector, CollectorAway
from tests.bot.traces.collector import LocalCollector


@pytest.fixture
async def listening() -> AsyncIterator[LocalCollector]:
    async with LocalCollector().listening() as made:
        yield made


async def sent(listening: LocalCollector, spans: int = 5) -> int:
    return await Collector(f"{listening.url}/v1/traces", {"X-Key": "secret"}).send(b"", spans)


async def test_what_it_took_is_taken(listening: LocalCollector) -> None:
    assert await sent(listening) == 0
    assert listening.headers[0]["Content-Type"] == "application/x-protobuf"
    assert listening.headers[0]["X-Key"] == "secret"


async def test_it_may_take_a_part(listening: LocalCollector) -> None:
    listening.rejects = 2
    assert await sent(listening) == 2
    listening.rejects = 10**9
    assert await sent(listening) == 5, "it cannot refuse more than it was sent"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_what_it_cannot_read_is_not_sent_again(listening: LocalCollector, status: int) -> None:
    listening.statuses = [status]
    assert await sent(listening) == 5


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_what_it_may_take_later_is_sent_again(listening: LocalCollector, status: int) -> None:
    listening.statuses = [status]
    with pytest.raises(CollectorAway, match=f"it answered {status}"):
        await sent(listening)


async def test_headers_do_not_follow_a_redirect(listening: LocalCollector) -> None:
    async with LocalCollector().listening() as elsewhere:
        listening.statuses, listening.location = [307], f"{elsewhere.url}/v1/traces"
        with pytest.raises(CollectorAway, match="it answered 307"):
            await sent(listening)
        assert elsewhere.asked == 0


@pytest.mark.parametrize(("after", "pause"), [("7", 7.0), ("99999", 300.0), ("-1", 0.0), ("nan", None), ("soon", None)])
async def test_it_may_ask_for_a_pause(listening: LocalCollector, after: str, pause: float | None) -> None:
    listening.statuses, listening.after = [429], after
    with pytest.raises(CollectorAway) as away:
        await sent(listening)
    assert away.value.pause_s == pause


async def test_one_that_never_answers_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectors, "LIMIT_S", 0.1)
    held = asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(CollectorAway, match="did not answer"):
        await Collector(f"http://127.0.0.1:{port}/v1/traces", {}).send(b"", 1)
    held.set()
    server.close()
    await server.wait_closed()


async def test_an_error_repeats_no_header(listening: LocalCollector) -> None:
    with pytest.raises(CollectorAway) as away:
        await Collector(f"{listening.url}/v1/traces", {"X-Key": "secret\nvalue"}).send(b"", 1)
    assert "secret" not in str(away.value)
