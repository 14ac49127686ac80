"""From an operator's `!ps` to the reply on their screen, in an encrypted room and in one that is not.

It is the same bot and the same client, which is asked in turn in both rooms; so what the ratio shows is what encrypting
and decrypting cost at both ends, and on the way.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, percentile
from benchmarks.house import house
from benchmarks.round_trip import LIMIT, REST, WARM_UP
from tests.encrypted_operator import EncryptedOperator
from tests.system.matrix_installation import Installation, replies_to

ROUNDS = 200
AT_MOST = 1.5


def measure() -> list[Figure]:
    """Ask in both rooms in turn, and compare."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        async with (
            asyncio.timeout(LIMIT),
            house(encryption="allowed") as home,
            EncryptedOperator(await home.synapse.log_in(home.ana.account), Path(folder)) as ana,
        ):
            rooms = {kind: await _room(home, ana, encrypted=kind == "encrypted") for kind in ("plain", "encrypted")}
            for _ in range(WARM_UP):
                for room in rooms.values():
                    await _ask(home, ana, room)
            taken: dict[str, list[float]] = {kind: [] for kind in rooms}
            for _ in range(ROUNDS):
                for kind, room in rooms.items():
                    taken[kind].append(await _ask(home, ana, room))
    figures = []
    for percent in (50, 95):
        plain, encrypted = (percentile(taken[kind], percent) for kind in ("plain", "encrypted"))
        figures += [
            Figure(name=f"!ps, plain, p{percent}", value=plain, unit="ms"),
            Figure(name=f"!ps, encrypted, p{percent}", value=encrypted, unit="ms"),
            Figure(name=f"encrypted to plain, p{percent}", value=encrypted / plain, unit="times", at_most=AT_MOST),
        ]
    return figures


async def _room(home: Installation, ana: EncryptedOperator, *, encrypted: bool) -> str:
    """Return a room in which the bot is."""
    room = await ana.create_room(invite=[home.bot.user_id], encrypted=encrypted)
    await ana.wait_for(
        room,
        lambda event: event.get("state_key") == home.bot.user_id and event["content"].get("membership") == "join",
    )
    return room


async def _ask(home: Installation, ana: EncryptedOperator, room: str) -> float:
    """Return milliseconds from before the question is sent until the reply is read."""
    await asyncio.sleep(REST)
    began = time.perf_counter()
    asked = await ana.say(room, "!ps")
    await ana.wait_for(
        room,
        lambda event: (
            event["sender"] == home.bot.user_id and event["type"] == "m.room.message" and replies_to(event) == asked
        ),
    )
    return (time.perf_counter() - began) * 1000
