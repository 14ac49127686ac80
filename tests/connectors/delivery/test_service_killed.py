"""`kill -9` at every commit and every send, then a restart: everything stands once, and nothing is missing."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from connectors.contract.connector_protocol import TryLater
from connectors.delivery import receiver, retention, sender
from connectors.delivery import service as delivery
from connectors.memory import MemoryServer
from database import migrations
from database.engine import sqlite
from database.engine.store import Store
from database.schema import inbox, outbox
from tests.connectors import crash_runs, crash_subject
from tests.crash.deaths import both, ended
from tests.postgres import Postgres

STEPS = (
    sqlite.CREATE,
    migrations.MIGRATE,
    delivery.ACCEPT,
    receiver.GIVE_UP,
    sender.RECORD,
    sender.RESTAMP,
    sender.SEND,
    retention.SWEEP,
    crash_runs.HANDLE,
)
PLACES = both(*STEPS)
#: Places that are passed before there is a register.
MAKING = (sqlite.CREATE, migrations.MIGRATE)
#: In the mode `keys` nothing has to be looked for, so nothing is stamped anew; only a file is created.
CASES = [
    (mode, place, database)
    for database in ("sqlite", "postgresql")
    for mode in crash_subject.MODES
    for place in PLACES
    if (mode == "looks" and place.startswith("outbox.")) or (mode == "keys" and "restamp" not in place)
    if database == "sqlite" or not place.startswith(sqlite.CREATE)
]

EVENTS = ("launch", "stream", "!ps", "poison", "!ps", "stream", "launch", "!help", "!ps", "stream")


@asynccontextmanager
async def served(folder: Path, mode: str) -> AsyncIterator[tuple[MemoryServer, crash_subject.Counter, str]]:
    """A chat system on a socket, in which people have written; some messages to it fail, of some the answer is lost."""
    server = MemoryServer(capabilities=crash_subject.capabilities(mode))
    for number, text in enumerate(EVENTS):
        server.post(text, conversation=f"room {number % 3}")
    server.script(None, TryLater("no route"), None, TryLater("no route"))
    server.lose_answers(2)
    counter = crash_subject.Counter(server, mode)
    socket = str(folder / "chat.sock")
    listener = await asyncio.start_unix_server(counter.serve, socket)
    async with listener:
        yield server, counter, socket


async def run(register_url: str, socket: str, mode: str, *, place: str | None = None) -> int | None:
    """Run the bot until it ends or dies; its exit status."""
    return await ended(crash_subject.main, register_url, socket, mode, place=place)


async def check(register_url: str, server: MemoryServer) -> None:
    """Everything that the events should have caused stands exactly once."""
    stands = Tally([said.key for said in server.said] + [c.key for said in server.said for c in said.changes])
    assert [key for key, count in stands.items() if count > 1] == []
    register = await Store.open(register_url)
    async with register.read() as tx:
        states = {row.key: row.state for row in await tx.execute(select(outbox.c.key, outbox.c.state))}
        arrived = (await tx.execute(select(inbox.c.state, inbox.c.body).order_by(inbox.c.seq))).all()
    await register.close()
    for number, event in enumerate(server.since(0)):
        text = EVENTS[number]
        if text == "poison":
            expected = [f"sorry {event.event_id}"]
        else:
            expected = [key for key, *_ in crash_runs.consequences(event.event_id, text)]
        for key in expected:
            # An end that came early is what was said from the beginning, and a mark on what had no end yet is needless.
            needless = key.startswith(("end ", "mark ")) and states[key.replace("mark ", "end ", 1)] == "superseded"
            assert stands[key] == 1 or (states[key] == "superseded" and needless), key
        if text == "stream":
            answer = server.find(expected[0])
            assert answer is not None
            assert answer.text == f"stream {event.event_id}"
    assert set(states.values()) <= {"sent", "superseded"}
    assert [row.state for row in arrived] == ["failed" if text == "poison" else "done" for text in EVENTS]
    assert [row.body for row in arrived] == [None] * len(EVENTS)
    for room in range(3):
        replies = [said.key for said in server.messages(f"room {room}") if said.key.startswith("reply ")]
        assert replies == sorted(replies, key=lambda key: int(key.rpartition("$")[2]))


async def test_no_place_of_this_program_is_left_out() -> None:
    code = "from tests.connectors import crash_subject; from core import crash_points; print(*crash_points.places())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    # A connector that is not configured any more, tests/crash/mirroring.py takes out.
    apart = set(both("test.handle", "outbox.abandon"))
    places = set(printed.decode().split()) - apart
    assert places == set(PLACES)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a register, by the case's database; where its making is cut off, there is none yet."""
    case = request.node.callspec.params
    if case["database"] == "sqlite":
        yield f"sqlite:///{tmp_path / 'register.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    if not case.get("place", "").startswith(MAKING):
        yield server.url(request.getfixturevalue("emptied_database"))
        return
    name = asyncio.run(server.database())
    yield server.url(name)
    asyncio.run(server.drop(name))


@pytest.mark.parametrize(("mode", "place", "database"), CASES)
async def test_killed_at_this_place_everything_stands_once(
    tmp_path: Path, url: str, mode: str, place: str, database: str
) -> None:
    async with served(tmp_path, mode) as (server, counter, socket):
        assert await run(url, socket, mode, place=place) == -signal.SIGKILL, f"{place} was never passed"
        await counter.idle.wait()
        assert await run(url, socket, mode) == 0
        await check(url, server)


async def _killed_again_and_again(url: str, folder: Path, mode: str, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    print(f"mode {mode}, seed {seed}")
    async with served(folder, mode) as (server, counter, socket):
        for _ in range(kills):
            place = f"{rng.choice(PLACES)}:{rng.randint(1, 6)}"
            status = await run(url, socket, mode, place=place)
            await counter.idle.wait()
            assert status in (0, -signal.SIGKILL), place
        assert await run(url, socket, mode) == 0
        await check(url, server)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("mode", crash_subject.MODES)
async def test_killed_several_times_everything_stands_once(tmp_path: Path, url: str, mode: str, database: str) -> None:
    await _killed_again_and_again(url, tmp_path, mode, random.randrange(2**32), 3)


@pytest.mark.soak
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("mode", crash_subject.MODES)
@pytest.mark.parametrize("round_", range(25))
async def test_killed_again_and_again_everything_stands_once(
    tmp_path: Path, url: str, mode: str, database: str, round_: int
) -> None:
    await _killed_again_and_again(url, tmp_path, mode, random.randrange(2**32), 8)
