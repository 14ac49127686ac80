"""`kill -9` at every commit, every send and every request, then a restart: everything stands once on Discord."""

from __future__ import annotations

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
from connectors.discord import sent_log
from connectors.discord.read_cursor import ReadCursor
from database.engine.store import Store
from database.schema import outbox
from tests.connectors import crash_runs as lives
from tests.connectors.delivery.fake_room import STEP
from tests.connectors.discord import crash_subject
from tests.connectors.discord.fake_server_state import World
from tests.connectors.discord.server import serving
from tests.crash.deaths import both, joined, started

EVENTS = ("launch", "stream", "!ps", "launch", "stream", "!ps")
STEPS = (delivery.ACCEPT, sender.RECORD, sender.SEND, sent_log.WRITE, lives.HANDLE)
PLACES = both(*STEPS)
LOOKING = both(sender.RESTAMP)


class Trial:
    """A fake Discord on which people have written, and lives of a bot."""

    def __init__(self, world: World, api: str, folder: Path, mode: str) -> None:
        self.world = world
        self.mode = mode
        self.url = f"sqlite:///{folder / 'register.db'}"
        self._folder = folder / "state"
        self._folder.mkdir()
        token = folder / "token"
        token.write_text(world.token)
        self._settings = {"token": f"file:{token}", "guild": world.guild, "channel": world.channel.id, "api": api}

    async def write(self) -> None:
        """The bot was there before; then it went, and this was said."""
        direct = self.world.direct(self.world.ana)
        position = ReadCursor(floor=self.world.fresh(), direct={str(direct.id): 0})
        store = await Store.open(self.url)
        async with store.write(STEP) as tx:
            await inbox.accept(tx, "discord", Batch(events=(), cursor=position.encode()), 1.0)
        await store.close()
        self.said = [
            (self.world.say(text, place=direct if number % 3 == 2 else None), text)
            for number, text in enumerate(EVENTS)
        ]

    async def life(self, *, place: str | None = None, requests: int | None = None) -> int | None:
        """Run the bot until it ends or dies, at a place or right after a number of requests that change something."""
        done = 0

        def count(request: str) -> None:
            nonlocal done
            if self.mode == "looks":
                self.world.forget_nonces()
            done += 0 if request.startswith("GET ") else 1
            if done == requests:
                process.kill()

        self.world.on_request = count
        arguments = (self.url, self._settings, str(self._folder), self.mode, len(EVENTS))
        process = started(crash_subject.main, *arguments, place=place)
        return await joined(process)

    async def check(self) -> None:
        """Everything that the events should have caused stands exactly once."""
        stands = Counter(each["content"] for place in self.world.places.values() for each in self.world.said(place))
        expected: Counter[str] = Counter()
        for event, text in self.said:
            expected[f"{text} {event}"] += 1
            if text == "launch":
                expected[f"hello launch {event}"] += 1
                assert self.world.reactions(event) == ["ok"]
        assert stands == expected
        openers = {int(each["id"]) for each in self.world.said() if each["content"].startswith("launch ")}
        assert {thread.id for thread in self.world.threads()} == openers
        store = await Store.open(self.url)
        async with store.read() as tx:
            states = {row.key: row.state for row in await tx.execute(select(outbox.c.key, outbox.c.state))}
        await store.close()
        assert set(states.values()) <= {"sent", "superseded"}, states


@asynccontextmanager
async def trying(folder: Path, mode: str) -> AsyncIterator[Trial]:
    async with serving() as (world, api):
        trial = Trial(world, api, folder, mode)
        await trial.write()
        yield trial


async def _killed_at(folder: Path, mode: str, place: str) -> None:
    async with trying(folder, mode) as trial:
        if "restamp" in place:
            trial.world.script.extend(["500"])
        assert await trial.life(place=place) == -signal.SIGKILL, f"{place} was never passed"
        assert await trial.life() == 0
        await trial.check()


async def test_killed_right_after_a_send_everything_stands_once(tmp_path: Path) -> None:
    await _killed_at(tmp_path, "looks", f"{sender.SEND}.after")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "place"),
    [(mode, place) for mode in crash_subject.MODES for place in (*PLACES, *(LOOKING if mode == "looks" else ()))],
)
async def test_killed_at_this_place_everything_stands_once(tmp_path: Path, mode: str, place: str) -> None:
    await _killed_at(tmp_path, mode, place)


async def _killed_after_requests(folder: Path, mode: str, rng: random.Random | None) -> None:
    async with trying(folder, mode) as trial:
        lives = 0
        # A change or a reaction is asked for again until its answer comes: each life needs to be longer than the last.
        while await trial.life(requests=1 + lives + (rng.randint(1, 4) if rng else 0)) == -signal.SIGKILL:
            lives += 1
        assert lives > 1
        await trial.check()


@pytest.mark.parametrize("mode", crash_subject.MODES)
async def test_killed_after_some_requests_before_their_answers_everything_stands_once(
    tmp_path: Path, mode: str
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    await _killed_after_requests(tmp_path, mode, random.Random(seed))


@pytest.mark.slow
@pytest.mark.parametrize("mode", crash_subject.MODES)
async def test_killed_later_in_each_life_everything_stands_once(tmp_path: Path, mode: str) -> None:
    await _killed_after_requests(tmp_path, mode, None)
