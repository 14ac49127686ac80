"""An operator at work while everything around is killed at random moments."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field

import aiohttp

from fleet.supervision import host_lock
from tests.operator_client import body
from tests.system.installation import LIMIT
from tests.system.operator_record import Message
from tests.system.scenarios import STANDING, Stage

#: More than one answer to a sync brings.
BURST = 60
#: People who wait for so many answers say no more until some have come.
BACKLOG = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """How bad it gets. Times are in seconds."""

    kills: int
    """How often something is killed."""
    share: int = 3
    """Kills of the orchestrator for each of an agent host and each outage of the homeserver."""
    seconds: float = 3600.0
    """After so long it is over, whatever was killed by then."""
    pauses: tuple[float, ...] = (0.0, 0.0, 4.0)
    """Before a restart, one of these; before the first, the first."""
    bursts: bool = True
    """In long pauses, more is said than one answer to a sync brings."""
    hosts: bool = False
    """Agent hosts are killed as well."""
    outage: float = 0.0
    """For so long the homeserver is gone, now and then; 0: never."""


@dataclass(slots=True)
class Mayhem:
    stage: Stage
    plan: Plan
    rng: random.Random
    _room: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by whoever says something, and by outages: what a person says reaches the server or was not said."""
    _proofs: list[tuple[Message, str]] = field(default_factory=list)
    _killed: int = 0
    _paused: bool = False

    async def run(self) -> None:
        """Let it happen, until enough was killed; then wait until everything has come to its end."""
        self.stage.books.may_be_cut = self.plan.hosts
        # An answer waits for the end of a pause and of an outage, and behind what piled up in them.
        self.stage.books.patience = LIMIT + 4 * (max(self.plan.pauses) + self.plan.outage)
        async with self.stage.home.revived(pause=self._pause), asyncio.TaskGroup() as people:
            watching = people.create_task(self._watch())
            approving = people.create_task(self._approve())
            talking = people.create_task(self._talk())
            await self._kill()
            talking.cancel()
            await asyncio.wait([talking])
            await self._end()
            approving.cancel()
            watching.cancel()
        for message, proof in self._proofs:
            written = self.stage.home.paths.workspace(STANDING) / proof
            done = written.read_text() if written.exists() else ""
            assert done in (("x\n",) if not self.plan.hosts else ("", "x\n")), f"{message.token} did {done!r}"
        books = self.stage.books
        print(f"{self._killed} kills, {len(books.messages)} messages, {len(books.commands)} commands")

    # --- the operator ---------------------------------------------------------------------------------------------

    async def _talk(self) -> None:
        while True:
            if self.stage.books.waiting() < BACKLOG:
                async with self._room:
                    await asyncio.shield(self._say())
            await asyncio.sleep(self.rng.uniform(0.0, 0.3))

    async def _say(self) -> None:
        books, thread = self.stage.books, self.stage.thread
        match self.rng.randrange(8):
            case 0 | 1 | 2:
                await books.command("!ps")
            case 3:
                await books.command(f"!stop guest{self.rng.randrange(3)}")
            case 4:
                proof = f"random{len(self._proofs)}"
                asking = await books.message(thread, f"[[run: echo x >> {proof}]]")
                self._proofs.append((asking, proof))
            case _:
                await books.message(thread)

    async def _burst(self) -> None:
        async with self._room:
            for number in range(BURST):
                await (
                    self.stage.books.message(self.stage.thread) if number % 6 == 0 else self.stage.books.command("!ps")
                )

    async def _watch(self) -> None:
        """Look at the room, homeserver or not."""
        while True:
            try:
                await self.stage.home.ana.sync(timeout=2.0)
            except (aiohttp.ClientError, ConnectionError):
                await asyncio.sleep(0.2)

    async def _approve(self) -> None:
        home, allowed, looked = self.stage.home, set[str](), 0
        while True:
            events = home.ana.seen.get(home.room, [])
            for event in events[looked:]:
                asks = event["sender"] == home.bot.user_id and "asks for permission" in body(event)
                if asks and "m.new_content" not in event["content"] and event["event_id"] not in allowed:
                    allowed.add(event["event_id"])
                    async with self._room:
                        await home.ana.react(home.room, event["event_id"], "✅")
            looked = len(events)
            await asyncio.sleep(0.05)

    async def _end(self) -> None:
        """Everything comes to its end; an agent whose host was killed is started again for that."""
        books = self.stage.books
        async with asyncio.TaskGroup() as tasks:
            settling = tasks.create_task(books.settled())
            while not settling.done():
                if self.plan.hosts:
                    await books.ask(f"!launch {STANDING}")
                await asyncio.wait([settling], timeout=3.0)

    # --- the killer -----------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        until = time.monotonic() + self.plan.seconds
        waiting: list[str] = []
        while self._killed < self.plan.kills and time.monotonic() < until:
            if not waiting:
                waiting = (
                    ["orchestrator"] * self.plan.share
                    + ["host"] * self.plan.hosts
                    + ["homeserver"] * (self.plan.outage > 0)
                )
                self.rng.shuffle(waiting)
            await asyncio.sleep(self.rng.uniform(0.3, 3.0))
            self._killed += 1
            match waiting.pop():
                case "host":
                    pid = host_lock.holder(self.stage.home.paths.agent_folder(STANDING))
                    if pid:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    async with self._room:
                        await self.stage.books.command(f"!launch {STANDING}")
                case "homeserver":
                    async with self._room:
                        self.stage.home.synapse.kill()
                        await asyncio.sleep(self.rng.uniform(0.1, self.plan.outage))
                        await self.stage.home.synapse.restarted()
                case _:
                    self.stage.home.strike()

    async def _pause(self) -> None:
        seconds = self.plan.pauses[0] if not self._paused else self.rng.choice(self.plan.pauses)
        self._paused = True
        if seconds and self.plan.bursts and self.stage.books.waiting() < BACKLOG:
            await self._burst()
        await asyncio.sleep(seconds)
