"""The feed over a socket, with a gateway that goes, comes back and misbehaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.gateway_feed.feed import FeedLink, GatewayFeed, UnknownDocument
from bot.read_models.fleet import FleetModel
from bot.read_models.waiting import WaitingModel
from bot.text.errors import NotRunning
from tests import waiting
from tests.bot.gateway_feed.small_gateway import SmallGateway

ESTOP = FleetModel(missing=("coder7",))


async def _at_once(_: float) -> None:
    await asyncio.sleep(0.01)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[SmallGateway]:
    async with SmallGateway(tmp_path / "gateway.sock").running() as running:
        await running.put("fleet", FleetModel())
        yield running


def _feed(gateway: SmallGateway, links: list[FeedLink], **more: float) -> GatewayFeed:
    limits = {"silence_s": 0.3, "event_s": 0.3, **more}
    return GatewayFeed(path=gateway.path, tell=links.append, sleep=_at_once, longest=100_000, **limits)  # type: ignore[arg-type]


async def test_a_document_is_read(gateway: SmallGateway) -> None:
    feed = _feed(gateway, [])
    await gateway.put("fleet", ESTOP)
    document = await feed.get("fleet")
    assert (document.value, document.revision, document.epoch) == (ESTOP, 2, "e1")
    assert (await feed.get("agents/nobody")).value is None
    with pytest.raises(UnknownDocument):
        await feed.get("weather")


async def test_each_change_is_followed(gateway: SmallGateway) -> None:
    links: list[FeedLink] = []
    async with _feed(gateway, links).follow(["fleet", "waiting"]) as documents:
        await gateway.put("waiting", WaitingModel())
        assert {(await anext(documents)).name, (await anext(documents)).name} == {"fleet", "waiting"}
        await gateway.put("fleet", ESTOP)
        assert (await anext(documents)).value == ESTOP
    assert links == [FeedLink(live=True)]


async def test_a_feed_goes_on_where_it_was_when_the_gateway_is_back(gateway: SmallGateway) -> None:
    links: list[FeedLink] = []
    async with _feed(gateway, links, away_s=60.0).follow(["fleet", "waiting"]) as documents:
        await gateway.put("waiting", WaitingModel())
        await anext(documents)
        await anext(documents)
        following = asyncio.ensure_future(anext(documents))
        await gateway.streams(1)
        await gateway.stop()
        await waiting.until(lambda: links and not links[-1].live)
        gateway.path.unlink(missing_ok=True)
        await gateway.start()
        await gateway.put("fleet", ESTOP)
        # What did not change meanwhile is not sent again.
        assert (await following).value == ESTOP
    assert (gateway.resumed[0], gateway.resumed[-1]) == ("", "e1:2")
    assert links[-1].live


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"event: document\nid: e1:9\ndata: {}\n\n", "its name, revision, epoch or time is missing"),
        (b"event: document\ndata: ]\n\n", "it is no JSON"),
        (b"event: document\ndata: " + b"[" * 20_000 + b"\n\n", "it is no JSON"),
        (b'event: document\ndata: {"name":"x","revision":1,"epoch":"e","made_at":1}\n\n', "no document is called"),
        (
            b'event: document\ndata: {"name":"fleet","revision":1,"epoch":"e","made_at":1,"value":{"agents":7}}\n\n',
            "FleetModel.agents",
        ),
        (b"event: document\ndata: " + b"x" * 200_000, "longer than 100,000 bytes"),
        (b"data: \xff\n\n", "UTF-8"),
        (b"event: document\nid: e1:9\ndata: {", "closed the connection"),
    ],
)
async def test_garbage_is_said_and_the_feed_goes_on(gateway: SmallGateway, sent: bytes, said: str) -> None:
    links: list[FeedLink] = []
    gateway.first = sent
    async with _feed(gateway, links).follow(["fleet"]) as documents:
        assert (await anext(documents)).value == FleetModel()
    problems = [link.why for link in links if not link.live]
    assert len(problems) == 1
    assert said in problems[0]
    assert problems[0].endswith("It is tried again.")


@pytest.mark.parametrize("sent", [b"", b": hello\n\n", b"event: document\ndata: {"])
async def test_a_silent_gateway_is_asked_again(gateway: SmallGateway, sent: bytes) -> None:
    links: list[FeedLink] = []
    gateway.first, gateway.stalls = sent, True
    async with _feed(gateway, links).follow(["fleet"]) as documents:
        assert (await anext(documents)).value == FleetModel()
    assert [link.why for link in links if not link.live] == ["Muster does not answer. It is tried again."]


async def test_a_line_that_trickles_is_given_up(tmp_path: Path) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"d")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        ended.set()

    links: list[FeedLink] = []
    lost, ended = asyncio.Event(), asyncio.Event()

    def tell(link: FeedLink) -> None:
        links.append(link)
        if not link.live:
            lost.set()

    path = tmp_path / "gateway.sock"
    async with await asyncio.start_unix_server(trickle, path):
        feed = GatewayFeed(path=path, tell=tell, sleep=_at_once, event_s=0.2, silence_s=10.0)
        async with feed.follow(["fleet"]) as documents:
            following = asyncio.ensure_future(anext(documents))
            await lost.wait()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await ended.wait()
    assert "an event is not complete after 0.2 s" in links[1].why


async def test_nobody_there_for_a_while_means_down(tmp_path: Path) -> None:
    feed = GatewayFeed(path=tmp_path / "gateway.sock", sleep=_at_once, away_s=0.1)
    with pytest.raises(NotRunning):
        await feed.get("fleet")
    async with feed.follow(["fleet"]) as documents:
        with pytest.raises(NotRunning):
            await anext(documents)


async def test_an_unknown_document_ends_the_feed(gateway: SmallGateway) -> None:
    async with _feed(gateway, []).follow(["weather"]) as documents:
        with pytest.raises(UnknownDocument):
            await anext(documents)


async def test_an_interrupted_reader_closes_its_connection(gateway: SmallGateway) -> None:
    async with _feed(gateway, []).follow(["fleet"]) as documents:
        await anext(documents)
    await waiting.until(lambda: not gateway.open_streams, limit=5)


async def test_a_patch_of_a_revision_that_is_not_known_leads_to_the_whole_document(gateway: SmallGateway) -> None:
    links: list[FeedLink] = []
    gateway.first = (
        b'event: patch\nid: e1:9\ndata: {"name": "fleet", "epoch": "e1", "base": 8, "revision": 9, "made_at": 1, '
        b'"fields": {}, "rows": {}}\n\n'
    )
    async with _feed(gateway, links).follow(["fleet"]) as documents:
        document = await anext(documents)
    assert (document.revision, document.value) == (1, FleetModel())
    assert "a patch of a revision that is not known here" in links[1].why
    assert gateway.resumed == ["", ""], "nothing of the patch counts as read"
