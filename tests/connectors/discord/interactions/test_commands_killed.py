"""`kill -9` around every step of a slash command: it is done and answered once, or Discord was never told of it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from connectors.contract.messages import Batch
from connectors.delivery import inbox, sender
from connectors.delivery import service as delivery
from connectors.discord.interactions import open_interactions
from connectors.discord.interactions.open_interactions import OpenInteractions
from connectors.discord.read_cursor import ReadCursor
from database.engine.store import Store
from database.schema import inbox as events
from database.schema import outbox
from tests import waiting
from tests.connectors.delivery.fake_room import STEP
from tests.connectors.discord.fake_server_state import LOADING, World
from tests.connectors.discord.interactions import crash_subject
from tests.connectors.discord.server import serving
from tests.crash.deaths import both, started

COMMANDS = 3
STEPS = (open_interactions.WRITE, delivery.ACCEPT, sender.RECORD, sender.SEND, crash_subject.HANDLE)
PLACES = [*both(*STEPS)]
PLACES += [f"{open_interactions.WRITE}.after:{passage}" for passage in range(3, 13, 3)]


class Trial:
    """A fake Discord, on which commands are given to a bot that dies now and then."""

    def __init__(self, world: World, api: str, folder: Path) -> None:
        self.world = world
        self.url = f"sqlite:///{folder / 'register.db'}"
        self.given: list[str] = []
        self.lost: set[str] = set()
        self._folder = folder / "state"
        self._folder.mkdir()
        token = folder / "token"
        token.write_text(world.token)
        self._settings = {"token": f"file:{token}", "guild": world.guild, "channel": world.channel.id, "api": api}

    async def life(self, *, place: str | None = None, requests: int | None = None, give: int = 0) -> int | None:
        """Run the bot until it dies at a place, or after so many requests that change something; or until all is done.

        Args:
            place: see `core.crash_points`.
            requests: how many.
            give: how many commands are given once it is there.
        """
        done, before = 0, self.world.identifies

        def count(request: str) -> None:
            nonlocal done
            done += 0 if request.startswith(("GET ", "PUT /applications")) else 1
            if done == requests:
                process.kill()

        self.world.on_request = count
        process = started(crash_subject.main, self.url, self._settings, str(self._folder), place=place)
        try:
            async with asyncio.timeout(30):
                await waiting.until(
                    lambda: not process.is_alive() or (self.world.identifies > before and self._hears())
                )
                for _ in range(give):
                    self.given.append(await self._give())
                while process.is_alive() and not await self._over():
                    if not give:
                        self._without_lost()
                    await asyncio.sleep(0.02)
            return process.exitcode
        finally:
            process.kill()
            await asyncio.to_thread(process.join, 10)

    async def _give(self) -> str:
        place = self.world.channel if len(self.given) % 3 else self.world.direct(self.world.ana)
        return self.world.invoke("ps", place=place)

    def _hears(self) -> bool:
        return any(session.outgoing is not None for session in self.world.sessions.values())

    def _without_lost(self) -> None:
        """Of what the bot died before it was written down, it knows nothing, and Discord said so to who gave it."""
        kept = OpenInteractions(self._folder / open_interactions.FILE)
        self.lost |= {each for each in self.given if each not in self.world.callbacks and kept.get(each) is None}
        self.given = [each for each in self.given if each not in self.lost]

    async def _over(self) -> bool:
        """Whether everything that Discord took is answered, and nothing else is under way."""
        if any(number not in self.world.callbacks for number in self.given):
            return False
        if any(number not in self.world.responses for number in self.given):
            return False
        store = await Store.open(self.url)
        async with store.read() as tx:
            handled = set((await tx.execute(select(events.c.event_id).where(events.c.state == "done"))).scalars())
            waits = (await tx.execute(select(outbox.c.key).where(outbox.c.state == "pending"))).first()
        await store.close()
        return handled >= set(self.given) and waits is None

    async def check(self) -> None:
        assert not self.lost & self.world.callbacks.keys()
        texts = Counter(each["content"] for place in self.world.places.values() for each in self.world.said(place))
        expected = Counter({f"{words} {number}": 1 for number in self.given for words in ("ps", "more of ps")})
        assert texts == expected
        for number in self.given:
            answer = self.world.responses[number]
            assert answer["content"] == f"ps {number}"
            assert not answer["flags"] & LOADING
            assert self.world.reactions(answer["id"]) == ["ok"]


@asynccontextmanager
async def trying(folder: Path) -> AsyncIterator[Trial]:
    async with serving() as (world, api):
        trial = Trial(world, api, folder)
        store = await Store.open(trial.url)
        # Nothing is to be made durable before a command is: the bot would die of that, and nobody hear of the command.
        position = ReadCursor(floor=world.fresh(), channel=str(world.channel.id))
        async with store.write(STEP) as tx:
            await inbox.accept(tx, "discord", Batch(events=(), cursor=position.encode()), 1.0)
        await store.close()
        yield trial


async def _killed_at(folder: Path, place: str) -> None:
    async with trying(folder) as trial:
        assert await trial.life(place=place, give=COMMANDS) == -signal.SIGKILL, f"{place} was never passed"
        await trial.life()
        await trial.check()
        assert trial.given or place.startswith(open_interactions.WRITE)


@pytest.mark.parametrize("place", [f"{open_interactions.WRITE}.after", f"{delivery.ACCEPT}.before"])
async def test_killed_between_acknowledgement_and_inbox_it_is_done_and_answered_once(
    tmp_path: Path, place: str
) -> None:
    await _killed_at(tmp_path, place)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
async def test_killed_at_each_place_it_is_done_and_answered_once(tmp_path: Path, place: str) -> None:
    await _killed_at(tmp_path, place)


async def _killed_after_requests(folder: Path, first: int, more: int) -> None:
    async with trying(folder) as trial:
        lives = 0
        # An answer is asked for again until its receipt comes: each life needs to be longer than the last.
        while await trial.life(requests=first + lives * more, give=0 if lives else COMMANDS) == -signal.SIGKILL:
            lives += 1
        assert lives
        await trial.check()


async def test_killed_after_some_requests_before_their_answers_it_is_answered_once(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    await _killed_after_requests(tmp_path, draw.randint(1, 6), draw.randint(2, 4))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 8))
async def test_killed_after_each_number_of_requests_it_is_answered_once(tmp_path: Path, first: int) -> None:
    await _killed_after_requests(tmp_path, first, 1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(30))
async def test_killed_at_random_it_is_answered_once(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    await _killed_after_requests(tmp_path, draw.randint(1, 9), draw.randint(1, 5))
