"""The chat system for tests behaves as a real one does: it recognises keys, limits, fails, forgets, and is down."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from connectors.contract.connector_protocol import MessageRefused, NotReady, TryLater
from connectors.contract.messages import (
    Batch,
    File,
    Message,
    OpenThread,
    Outbound,
    OutboundContent,
    React,
    Replace,
    Sent,
    Text,
)
from connectors.memory import MemoryConnector, MemoryServer


def outbound(key: str, content: OutboundContent | None = None) -> Outbound:
    return Outbound(key=key, connector="memory", conversation="room", content=content or Message(text=key))


async def say(connector: MemoryConnector, key: str, content: OutboundContent | None = None, **more: Any) -> Sent:
    return await connector.send(outbound(key, content), conversation="room", target=more.get("target"))


@pytest.fixture
def server() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
def connector(server: MemoryServer) -> MemoryConnector:
    return MemoryConnector(server=server)


async def received(connector: MemoryConnector, cursor: str | None, count: int) -> tuple[list[str], str | None]:
    """Start, take `count` events, stop: their texts and the cursor behind them."""
    texts: list[str] = []
    place = cursor
    enough = asyncio.Event()

    async def sink(batch: Batch) -> None:
        nonlocal place
        texts.extend(event.body.text for event in batch.events if isinstance(event.body, Text))
        place = batch.cursor or place
        if len(texts) >= count:
            enough.set()

    connector.subscribe(sink)
    life = asyncio.create_task(connector.start(cursor))
    async with asyncio.timeout(30):
        await enough.wait()
    life.cancel()
    await asyncio.wait({life})
    return texts, place


async def test_a_connector_goes_on_where_the_last_one_stopped(server: MemoryServer) -> None:
    server.post("before the first start")
    texts, cursor = await received(MemoryConnector(server=server), None, 0)
    assert (texts, cursor) == ([], "1")
    for number in range(250):
        server.post(f"{number}")
    texts, cursor = await received(MemoryConnector(server=server), cursor, 250)
    assert texts == [f"{number}" for number in range(250)]
    assert cursor == "251"


async def test_a_key_is_recognised_until_it_is_forgotten(server: MemoryServer, connector: MemoryConnector) -> None:
    first = await say(connector, "a")
    assert await say(connector, "a") == first
    assert len(server.said) == 1
    server.forget_keys()
    assert await connector.find(outbound("a"), conversation="room", target=None) == first
    assert await connector.find(outbound("b"), conversation="room", target=None) is None
    assert await say(connector, "a") != first
    assert len(server.said) == 2


async def test_another_device_does_not_share_keys(server: MemoryServer, connector: MemoryConnector) -> None:
    await say(connector, "a")
    server.scope = "device-2"
    await say(connector, "a")
    assert len(server.said) == 2


async def test_threads_changes_reactions_and_files_are_shown(server: MemoryServer, connector: MemoryConnector) -> None:
    opener = await say(connector, "o", OpenThread(title="coder0", message=Message(text="here")))
    assert opener.conversation is not None
    await say(connector, "c", Replace(target="o", message=Message(text="there")), target=opener.event_id)
    await say(connector, "r", React(target="o", key="+1", own=True), target=opener.event_id)
    await say(connector, "f", File(path="/f", name="f", media_type="text/plain", caption="see f"))
    assert server.texts() == ["there", "see f"]
    assert server.reactions(opener.event_id) == ["+1"]
    found = await connector.find(outbound("c"), conversation="room", target=opener.event_id)
    assert found is not None
    assert found.event_id != opener.event_id
    event = server.post("in it", conversation=opener.conversation)
    assert next(item for item in server.since(0) if item.event_id == event).parent == "room"


async def test_a_change_of_nothing_is_refused(connector: MemoryConnector) -> None:
    with pytest.raises(MessageRefused):
        await say(connector, "c", Replace(target="o", message=Message(text="there")), target="$nothing")


async def test_scripted_faults_come_in_their_order(server: MemoryServer, connector: MemoryConnector) -> None:
    server.script(MessageRefused("no"), None, TryLater("later"))
    with pytest.raises(MessageRefused):
        await say(connector, "a")
    await say(connector, "b")
    with pytest.raises(TryLater):
        await say(connector, "c")
    assert server.texts() == ["b"]


async def test_a_lost_answer_leaves_the_message_standing(server: MemoryServer, connector: MemoryConnector) -> None:
    server.lose_answers()
    with pytest.raises(TryLater):
        await say(connector, "a")
    await say(connector, "a")
    assert server.texts() == ["a"]


async def test_a_limit_lets_the_burst_through_and_says_when_to_come_back() -> None:
    now = 0.0
    server = MemoryServer(clock=lambda: now)
    server.limit_rate(0.2, 10)
    connector = MemoryConnector(server=server)
    for number in range(10):
        await say(connector, f"{number}")
    with pytest.raises(TryLater) as caught:
        await say(connector, "more")
    assert caught.value.limited
    assert caught.value.after == pytest.approx(5.0)
    now = 5.0
    await say(connector, "more")


async def test_an_outage_ends_the_connection_and_can_be_seen(server: MemoryServer, connector: MemoryConnector) -> None:
    async def sink(batch: Batch) -> None:
        started.set()

    started = asyncio.Event()
    connector.subscribe(sink)
    life = asyncio.create_task(connector.start(None))
    await started.wait()
    assert (await connector.health()).reachable is True
    server.set_down(True)
    with pytest.raises(NotReady):
        await life
    assert (await connector.health()).reachable is False
    with pytest.raises(TryLater):
        await say(connector, "a")
    with pytest.raises(TryLater):
        await connector.find(outbound("a"), conversation="room", target=None)
    await connector.stop()


async def test_files_are_fetched_up_to_a_limit(server: MemoryServer, connector: MemoryConnector) -> None:
    picture = server.upload(b"12345", name="a.png", media_type="image/png")
    assert await connector.download(picture, limit=5) == b"12345"
    with pytest.raises(MessageRefused, match="5 bytes"):
        await connector.download(picture, limit=4)


async def test_typing_is_seen(server: MemoryServer, connector: MemoryConnector) -> None:
    await connector.typing("room", active=True)
    assert server.typing_in == {"room"}
    await connector.typing("room", active=False)
    assert server.typing_in == set()


async def test_waiting_in_vain_ends(server: MemoryServer) -> None:
    with pytest.raises(TimeoutError):
        await server.until(lambda: False, limit=0.01)
