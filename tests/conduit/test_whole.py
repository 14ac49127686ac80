"""What provisioning wrote is what Muster runs with: from an empty folder to an answer in the room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest

from tests import waiting
from tests.conduit.conftest import ANA, BOT, Person, stands
from tests.conduit.fake_homeserver import StandIn

LIMIT = 60.0
#: Messages between two syncs; a timeline holds ten.
BURST = 50

pytestmark = pytest.mark.slow


@contextlib.asynccontextmanager
async def running(person: Person) -> AsyncIterator[None]:
    """`muster up`, from its start to its end in order; the terminal is there and says nothing."""
    environment = os.environ | {"MUSTER_HOME": str(person.home)}
    log = (person.folder / "muster.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "up",
        env=environment, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        log.close()


async def answered(homeserver: StandIn, room: str, words: str) -> None:
    """Wait until the bot has said this."""

    def is_said() -> bool:
        said = [event for at, event in homeserver.events if at == room and event["sender"] == BOT]
        return any(words in str(event["content"].get("body")) for event in said)

    async with asyncio.timeout(LIMIT):
        await homeserver.until(is_said)


async def test_from_nothing_to_an_answer_in_the_room(person: Person, homeserver: StandIn) -> None:
    await person.done()
    room = stands(person, homeserver)
    async with running(person):
        # The first thing that it asks for is what was said so far; what comes after that is for it.
        await waiting.until(lambda: "GET /_matrix/client/v3/sync" in homeserver.requests, limit=LIMIT)
        homeserver.say(room, ANA, "m.room.message", {"msgtype": "m.text", "body": "!whoami"})
        await homeserver.hurry()
        await answered(homeserver, room, "admin")
    assert (await person.done())["changed"] == []


def answers(homeserver: StandIn, room: str) -> list[str]:
    """What the bot's messages there answer, one by one."""
    relations = [
        event["content"].get("m.relates_to", {})
        for at, event in homeserver.events
        if at == room and event["sender"] == BOT and event["type"] == "m.room.message"
    ]
    found = [relation.get("m.in_reply_to", {}).get("event_id") for relation in relations]
    return [event_id for event_id in found if event_id is not None]


async def test_fifty_commands_at_once_are_each_answered_once(person: Person, homeserver: StandIn) -> None:
    await person.done()
    room = stands(person, homeserver)

    def burst() -> list[str]:
        return [
            homeserver.say(room, ANA, "m.room.message", {"msgtype": "m.text", "body": f"!help whoami {number}"})
            for number in range(BURST)
        ]

    async with running(person):
        await waiting.until(lambda: "GET /_matrix/client/v3/sync" in homeserver.requests, limit=LIMIT)
        asked = burst()
        await homeserver.hurry()
        async with asyncio.timeout(LIMIT):
            await homeserver.until(lambda: set(asked) <= set(answers(homeserver, room)))
    asked += burst()  # while it is down
    async with running(person), asyncio.timeout(LIMIT):
        await homeserver.until(lambda: set(asked) <= set(answers(homeserver, room)))
    assert sorted(answers(homeserver, room)) == sorted(asked)
