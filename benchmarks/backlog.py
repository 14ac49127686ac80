"""1,000 commands that were written while the bot was down: from its start until the last reply was sent.

Once with the chat system in memory, which shows what Muster itself takes, and once with a real Synapse and `muster up`
as a process of its own, which also has to start. One room, so one reply goes out after the other, in order: on Synapse
it is the homeserver that says how fast, so the last reply is compared with a bare client that writes as many messages
into the same room, and what has the bound is that every command was run and its reply written down.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.figures import Figure
from benchmarks.house import house as house_on_synapse
from tests.bot.orchestrator import ADMIN, house
from tests.system.matrix_installation import replies_to

EVENTS = 1000
AT_MOST_S = 10.0
LIMIT = 180.0


def measure() -> list[Figure]:
    """Let a backlog grow, start the bot, and wait for the last reply."""
    return [*asyncio.run(_in_memory()), *asyncio.run(_on_synapse())]


async def _in_memory() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        async with asyncio.timeout(LIMIT), house(Path(folder)) as home:
            async with home.open():
                await home.ask("!whoami")
            for _ in range(EVENTS):
                home.chat.post("!whoami", sender=ADMIN)
            began, computed = time.perf_counter(), time.process_time()
            async with home.open():
                await home.chat.until(lambda: len(home.chat.said) > EVENTS, limit=LIMIT)
                taken, computed = time.perf_counter() - began, time.process_time() - computed
                assert len(home.chat.said) == EVENTS + 1
    return [
        Figure(name="in memory: start to the last reply", value=taken, unit="s", at_most=AT_MOST_S),
        Figure(name="in memory: of that, CPU", value=computed, unit="s"),
    ]


async def _on_synapse() -> list[Figure]:
    async with asyncio.timeout(LIMIT), house_on_synapse() as home:
        await home.ask("!whoami")
        await home.stop()
        began = time.time()
        asked = {await home.ana.say(home.room, "!whoami") for _ in range(EVENTS)}
        writing = time.time() - began
        began = time.time()
        await home.start(ready=False)
        # The operator's client would ask the homeserver once per reply, and slow it down; the register is watched.
        handled, sent = await _answered(home.paths.state / "register.db")
        assert home.process is not None
        used = psutil.Process(home.process.pid).cpu_times()
        replies = [replies_to(event) for event in await home.ana.messages(home.room, home.bot.user_id)]
        assert sorted(each for each in replies if each in asked) == sorted(asked), "not every reply stands once"
    return [
        Figure(name="on Synapse: a bare client writes as many, in turn", value=writing, unit="s"),
        Figure(name="on Synapse: start to the last event handled", value=handled - began, unit="s", at_most=AT_MOST_S),
        Figure(name="on Synapse: start to the last reply sent", value=sent - began, unit="s"),
        Figure(name="on Synapse: the orchestrator's CPU for all of it", value=used.user + used.system, unit="s"),
        Figure(name="on Synapse: last reply to bare client", value=(sent - began) / writing, unit="times"),
    ]


async def _answered(register_file: Path) -> tuple[float, float]:
    """Wait until all is said. When the last event was handled and the last reply sent, in seconds since the epoch."""
    register = sqlite3.connect(f"file:{register_file}?mode=ro", uri=True)
    try:
        while True:
            sent, last = register.execute("select count(*), max(sent_at) from outbox where state = 'sent'").fetchone()
            if sent > EVENTS:
                (handled,) = register.execute("select max(handled_at) from inbox").fetchone()
                return float(handled), float(last)
            await asyncio.sleep(0.1)
    finally:
        register.close()
