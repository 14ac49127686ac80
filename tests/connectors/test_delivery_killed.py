"""`kill -9` at every commit and every send, then a restart: everything stands once, and nothing is missing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import sys
from collections import Counter as Tally
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import pytest

from connectors import delivery, receiving, retention, sending
from connectors.contract import TryLater
from connectors.memory import MemoryServer
from register import database_file, migrations
from register.crashpoints import ENVIRONMENT_VARIABLE
from tests.connectors import mortal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STEPS = (
    database_file.CREATE,
    migrations.MIGRATE,
    delivery.ACCEPT,
    receiving.GIVE_UP,
    sending.RECORD,
    sending.RESTAMP,
    sending.SEND,
    retention.SWEEP,
    mortal.HANDLE,
)
PLACES = [f"{step}.{side}" for step in STEPS for side in ("before", "after")]
#: In the mode `keys` nothing has to be looked for, so nothing is stamped anew.
CASES = [
    (mode, place)
    for mode in mortal.MODES
    for place in PLACES
    if (mode == "looks" and place.startswith("outbox.")) or (mode == "keys" and "restamp" not in place)
]

EVENTS = ("launch", "stream", "!ps", "poison", "!ps", "stream", "launch", "!help", "!ps", "stream")


@asynccontextmanager
async def served(folder: Path, mode: str) -> AsyncIterator[tuple[MemoryServer, mortal.Counter, str]]:
    """A chat system on a socket, in which people have written; some messages to it fail, of some the answer is lost."""
    server = MemoryServer(capabilities=mortal.capabilities(mode))
    for number, text in enumerate(EVENTS):
        server.post(text, conversation=f"room {number % 3}")
    server.script(None, TryLater("no route"), None, TryLater("no route"))
    server.lose_answers(2)
    counter = mortal.Counter(server, mode)
    socket = str(folder / "chat.sock")
    listener = await asyncio.start_unix_server(counter.serve, socket)
    async with listener:
        yield server, counter, socket


async def run(folder: Path, socket: str, mode: str, *, place: str | None = None) -> int:
    """Run the bot until it ends or dies; its exit status."""
    environment = {**os.environ, ENVIRONMENT_VARIABLE: place or ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.connectors.mortal",
        f"sqlite:///{folder / 'register.db'}",
        socket,
        mode,
        env=environment,
    )
    try:
        async with asyncio.timeout(60):
            return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def check(folder: Path, server: MemoryServer) -> None:
    """Everything that the events should have caused stands exactly once."""
    stands = Tally([said.key for said in server.said] + [c.key for said in server.said for c in said.changes])
    assert [key for key, count in stands.items() if count > 1] == []
    with closing(sqlite3.connect(folder / "register.db")) as register:
        states = dict(register.execute("SELECT key, state FROM outbox"))
        inbox = register.execute("SELECT event_id, state, body FROM inbox ORDER BY seq").fetchall()
    for number, event in enumerate(server.since(0)):
        text = EVENTS[number]
        if text == "poison":
            expected = [f"sorry {event.event_id}"]
        else:
            expected = [key for key, *_ in mortal.consequences(event.event_id, text)]
        for key in expected:
            assert stands[key] == 1 or (states[key] == "superseded" and key.startswith("end ")), key
        if text == "stream":
            answer = server.find(expected[0])
            assert answer is not None
            assert answer.text == f"stream {event.event_id}"
    assert set(states.values()) <= {"sent", "superseded"}
    assert [state for _, state, _ in inbox] == ["failed" if text == "poison" else "done" for text in EVENTS]
    assert [body for _, _, body in inbox] == [None] * len(EVENTS)
    for room in range(3):
        replies = [said.key for said in server.messages(f"room {room}") if said.key.startswith("reply ")]
        assert replies == sorted(replies, key=lambda key: int(key.rpartition("$")[2]))


async def test_no_place_of_this_program_is_left_out() -> None:
    code = "from tests.connectors import mortal; from register import crashpoints; print(*crashpoints.places())"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    places = set(printed.decode().split()) - {"test.handle.before", "test.handle.after"}
    assert places == set(PLACES)


@pytest.mark.parametrize(("mode", "place"), CASES)
async def test_killed_at_this_place_everything_stands_once(tmp_path: Path, mode: str, place: str) -> None:
    async with served(tmp_path, mode) as (server, counter, socket):
        assert await run(tmp_path, socket, mode, place=place) == -signal.SIGKILL, f"{place} was never passed"
        await counter.idle.wait()
        assert await run(tmp_path, socket, mode) == 0
        check(tmp_path, server)


async def _killed_again_and_again(folder: Path, mode: str, seed: int, kills: int) -> None:
    rng = random.Random(seed)
    print(f"mode {mode}, seed {seed}")
    async with served(folder, mode) as (server, counter, socket):
        for _ in range(kills):
            place = f"{rng.choice(PLACES)}:{rng.randint(1, 6)}"
            status = await run(folder, socket, mode, place=place)
            await counter.idle.wait()
            assert status in (0, -signal.SIGKILL), place
        assert await run(folder, socket, mode) == 0
        check(folder, server)


@pytest.mark.parametrize("mode", mortal.MODES)
async def test_killed_several_times_everything_stands_once(tmp_path: Path, mode: str) -> None:
    await _killed_again_and_again(tmp_path, mode, random.randrange(2**32), 3)


@pytest.mark.soak
@pytest.mark.parametrize("mode", mortal.MODES)
@pytest.mark.parametrize("round_", range(25))
async def test_killed_again_and_again_everything_stands_once(tmp_path: Path, mode: str, round_: int) -> None:
    await _killed_again_and_again(tmp_path, mode, random.randrange(2**32), 8)
