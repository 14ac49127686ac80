"""Events reach who watches; who does not keep up is let go, and nobody waits for them."""

import asyncio

import pytest

from bot.messaging.event_hub import EventHub, TooSlow
from core.redaction import SecretMasker


async def test_everybody_who_watches_sees_what_happens_from_then_on() -> None:
    hub = EventHub()
    hub.publish({"type": "before"})
    with hub.subscribed() as one, hub.subscribed() as two:
        hub.publish({"type": "now"})
        async with asyncio.timeout(30):
            assert await anext(one) == {"type": "now"}
            assert await anext(two) == {"type": "now"}


async def test_who_falls_behind_gets_what_was_queued_and_then_the_end() -> None:
    hub = EventHub(backlog=2)
    with hub.subscribed() as slow, hub.subscribed() as quick:
        for number in range(4):
            hub.publish({"n": number})
            async with asyncio.timeout(30):
                assert await anext(quick) == {"n": number}
        assert [await anext(slow), await anext(slow)] == [{"n": 0}, {"n": 1}]
        with pytest.raises(TooSlow):
            await anext(slow)


async def test_no_secret_is_in_an_event_however_deep_it_lies() -> None:
    hub = EventHub(redact=SecretMasker(known=frozenset({"correct horse battery"})))
    with hub.subscribed() as one:
        hub.publish({"type": "entry", "entry": {"kind": "tool", "words": ["the correct horse battery is it"]}})
        async with asyncio.timeout(30):
            assert "horse" not in str(await anext(one))
