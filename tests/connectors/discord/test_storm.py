"""A day on Discord on which nothing goes well: whatever is said is taken, and what is to be said stands once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest

from connectors.contract.messages import Message, OpenThread, Replace
from connectors.delivery import outbox
from connectors.discord import gateway_session
from tests.connectors.discord.conftest import Desk
from tests.connectors.discord.fake_server_state import Place


async def storm(desk: Desk, rng: random.Random, steps: int) -> None:
    """Lives of a bot, with faults in each, on a server where people go on writing."""
    world = desk.world
    asked: list[str] = []
    put: list[tuple[str, str]] = []
    direct = world.direct(world.ana)

    def place() -> Place:
        return rng.choice([world.channel, *world.threads(), direct])

    async def say(number: int) -> None:
        at = place()
        if at is direct and not known:
            return
        asked.append(world.say(f"{number}", place=at))

    async def answer(number: int) -> None:
        key = f"k{number}"
        text = "\n".join(f"{key} line {line} of many words" for line in range(rng.choice([1, 1, 150])))
        threads = list(opened)
        if rng.random() < 0.15 and len(opened) < 5:
            opened.append(key)
            await desk.office.put(key, OpenThread(title=key, message=Message(text=text)), to=desk.room)
        elif threads and rng.random() < 0.5:
            await desk.office.put(key, Message(text=text), thread_of=rng.choice(threads))
        else:
            await desk.office.put(key, Message(text=text), to=desk.room)
        if rng.random() < 0.3:
            text = "\n".join(f"{key} now {line} of other words" for line in range(rng.choice([1, 150])))
            change = Replace(target=key, message=Message(text=text), final=True)
            row = await desk.office.row(key)
            where = {"thread_of": row.outbound.thread_of} if row.outbound.thread_of else {"to": desk.room}
            await desk.office.put(f"{key}/change", change, **where)
        put.append((key, text))

    async def find(key: str) -> outbox.Row | None:
        async with desk.office.store.read() as tx:
            return await outbox.get(tx, key)

    faults: list[Callable[[], object]] = [
        world.drop,
        world.ask_to_reconnect,
        world.forget_sessions,
        lambda: world.script.extend(rng.choices([None, "lost", "500", "429", "html 403"], k=rng.randint(1, 4))),
        lambda: setattr(rng.choice([world.channel, *world.threads()]), "archived", bool(world.threads())),
    ]
    opened: list[str] = []
    known = False
    number = 0
    async with desk.open():
        first = world.say("hello", place=direct)
        await desk.office.until_state(f"re {first}", "sent")
        known = True
    while number < steps:
        async with desk.open():
            for _ in range(rng.randint(3, 15)):
                number += 1
                what = rng.random()
                if what < 0.4:
                    await say(number)
                elif what < 0.75:
                    await answer(number)
                else:
                    rng.choice(faults)()
                world.channel.archived = False
                if rng.random() < 0.3:
                    await asyncio.sleep(rng.random() / 20)
        for _ in range(rng.randint(0, 4)):
            number += 1
            await say(number)
    world.script.clear()
    async with desk.open() as delivery:
        for key in (*(f"re {event}" for event in asked), *(key for key, _ in put)):
            async with asyncio.timeout(20):
                while (row := await find(key)) is None or row.state != "sent":
                    await asyncio.wait({asyncio.create_task(asyncio.sleep(0.02))})
        async with asyncio.timeout(20):
            await delivery.idle()
    assert set(asked) <= set(desk.office.handled)
    places = [world.channel, direct, *world.threads()]
    texts = Counter(text for each in places for text in world.texts(each))
    assert {text: count for text, count in texts.items() if count > 1} == {}
    whole = "\n".join(texts)
    for _, text in put:
        assert all(line in whole for line in text.split("\n"))
    for event in asked:
        found, _ = world.message(event)
        assert texts[f"re: {found['content']}"] == 1


@pytest.mark.slow
async def test_on_a_day_on_which_nothing_goes_well_all_is_taken_and_said_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_session, "FIRST_PAUSE", 0.01)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await storm(desk, random.Random(seed), 120)
