"""From an operator's command to the reply on their screen, through everything; beside a bare echo bot's.

Both bots are processes of their own on the same homeserver and are asked in turn by the same client. What the client
and the homeserver take is in both; what the ratio shows is what durable delivery and the command table add.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import echo_bot
from benchmarks.figures import Figure, percentile
from benchmarks.house import house
from tests.operator_client import Operator
from tests.system.matrix_installation import Installation, replies_to

ROUNDS = 100
WARM_UP = 10
#: The bound of each command's time in that of the echo bot.
AT_MOST = {"!ps": 1.3, "!whoami": 1.15, "!help": 1.15}
LIMIT = 240.0
#: Seconds of rest after each reply, so that what one bot does afterwards is not counted as the other's time.
REST = 0.03


def measure() -> list[Figure]:
    """Ask both bots in turn, and compare."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with asyncio.timeout(LIMIT), house() as home, _echo(home) as (echo, echo_room):
        for agent in ("one", "two"):
            await home.launch(agent)
        bots = ((home.bot.user_id, home.room), (echo, echo_room))
        for _ in range(WARM_UP):
            for bot, room in bots:
                await _ask(home.ana, bot, room, "!ps")
        taken: dict[tuple[str, str], list[float]] = {(bot, words): [] for bot, _ in bots for words in AT_MOST}
        for _ in range(ROUNDS):
            for words in AT_MOST:
                for bot, room in bots:
                    taken[bot, words].append(await _ask(home.ana, bot, room, words))
    figures = []
    for words, at_most in AT_MOST.items():
        # A median alone is steady enough for the narrow bound.
        for percent in (50, 95) if words == "!ps" else (50,):
            ours, theirs = (percentile(taken[bot, words], percent) for bot, _ in bots)
            figures += [
                Figure(name=f"echo bot, p{percent}", value=theirs, unit="ms"),
                Figure(name=f"{words}, p{percent}", value=ours, unit="ms"),
                Figure(name=f"{words} to echo bot, p{percent}", value=ours / theirs, unit="times", at_most=at_most),
            ]
    return figures


async def _ask(ana: Operator, bot: str, room: str, words: str) -> float:
    """Return milliseconds from before the question is sent until the reply is seen."""
    await asyncio.sleep(REST)
    began = time.perf_counter()
    asked = await ana.say(room, words)
    await ana.wait_for(room, lambda event: event["sender"] == bot and replies_to(event) == asked)
    return (time.perf_counter() - began) * 1000


@asynccontextmanager
async def _echo(home: Installation) -> AsyncIterator[tuple[str, str]]:
    """A running echo bot: its user and the room in which it listens."""
    account = await home.synapse.register(prefix="echo")
    room = await home.ana.create_room("echo", invite=[account.user_id])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(echo_bot.__file__)),
        stdout=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "MATRIX_HOMESERVER": home.synapse.url,
            "MATRIX_USER": account.user_id,
            "MATRIX_TOKEN": account.access_token,
            "MATRIX_ROOM": room,
        },
    )
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError("the echo bot ended at its start; what it says is above")
        yield account.user_id, room
    finally:
        process.kill()
        await process.wait()
