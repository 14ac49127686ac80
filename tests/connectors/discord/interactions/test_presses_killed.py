"""`kill -9` around every step of a button that is pressed: it counts once, or Discord was never told of it."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from connectors.contract.messages import Batch, Button, Message, Outbound
from connectors.delivery import inbox, sender
from connectors.delivery import outbox as sends
from connectors.delivery import service as delivery
from connectors.discord.interactions import open_interactions
from connectors.discord.read_cursor import ReadCursor
from database.engine.store import Store
from database.schema import inbox as events
from database.schema import outbox
from tests.connectors.delivery.fake_room import STEP
from tests.connectors.discord.interactions import crash_subject
from tests.connectors.discord.interactions.crash_subject import QUESTION
from tests.connectors.discord.interactions.test_commands_killed import Trial
from tests.connectors.discord.server import serving
from tests.crash.deaths import both

PRESSES = 2
STEPS = (open_interactions.WRITE, delivery.ACCEPT, sender.RECORD, sender.SEND, crash_subject.HANDLE)
PLACES = [*both(*STEPS)]
PLACES += [f"{sender.SEND}.after:{passage}" for passage in (2, 4)]


class Presses(Trial):
    """The same with a question that has buttons."""

    async def _give(self) -> str:
        return self.world.click(self.world.said()[0]["id"], "muster:✅")

    async def _over(self) -> bool:
        store = await Store.open(self.url)
        async with store.read() as tx:
            handled = set((await tx.execute(select(events.c.event_id).where(events.c.state == "done"))).scalars())
            waits = (await tx.execute(select(outbox.c.key).where(outbox.c.state == "pending"))).first()
        await store.close()
        return handled >= set(self.given) and self.world.callbacks.keys() >= set(self.given) and waits is None

    async def check(self) -> None:
        assert not self.lost & self.world.callbacks.keys(), "what Discord was told of counts"
        texts = Counter(self.world.texts())
        question = "it is over" if self.given else "may I?"
        assert texts == Counter([question, *(f"pressed {number}" for number in self.given)])
        assert bool(self.world.buttons(self.world.said()[0]["id"])) == (not self.given)
        for number in self.given:
            # Discord recognises no repetition there: right behind a crash it is told twice.
            assert set(self.world.asides[number]) == {f"thanks {number}"}


@asynccontextmanager
async def trying(folder: Path) -> AsyncIterator[Presses]:
    async with serving() as (world, api):
        trial = Presses(world, api, folder)
        store = await Store.open(trial.url)
        question = Message(text="may I?", buttons=(Button(key="✅", label="Yes"),))
        async with store.write(STEP) as tx:
            position = ReadCursor(floor=world.fresh())
            await inbox.accept(tx, "discord", Batch(events=(), cursor=position.encode()), 1.0)
            asked = Outbound(key=QUESTION, connector="discord", conversation=str(world.channel.id), content=question)
            await sends.put(tx, asked, time.time())
        await store.close()
        await trial.life()
        assert world.said()
        yield trial


async def _killed_at(folder: Path, place: str) -> None:
    async with trying(folder) as trial:
        assert await trial.life(place=place, give=PRESSES) == -signal.SIGKILL, f"{place} was never passed"
        await trial.life()
        await trial.check()
        # It may die before anything is pressed, but not there.
        assert trial.given or not place.startswith(crash_subject.HANDLE)


@pytest.mark.parametrize("place", [f"{open_interactions.WRITE}.after", f"{crash_subject.HANDLE}.after"])
async def test_killed_before_it_counted_a_press_counts_once(tmp_path: Path, place: str) -> None:
    await _killed_at(tmp_path, place)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_killed_at_each_place_a_press_counts_once(tmp_path: Path, place: str) -> None:
    await _killed_at(tmp_path, place)


async def test_killed_after_some_requests_before_their_answers_a_press_counts_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    first, more = draw.randint(1, 5), draw.randint(2, 4)
    async with trying(tmp_path) as trial:
        lives = 0
        while await trial.life(requests=first + lives * more, give=0 if lives else PRESSES) == -signal.SIGKILL:
            lives += 1
        assert lives
        await trial.check()
