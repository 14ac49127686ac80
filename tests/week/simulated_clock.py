"""A week in fast motion: one clock for everything but the agents' own processes, and nothing that waits for it.

    week = Week(orchestrator, room, clock, egress)
    await week.advance(tuesday + 9 * HOUR)

Nothing waits for the clock; it is set. On the way it stops wherever something is due (midnights, reports, tasks
that are looked at again, agents that go on), and each time does what timers would have done, until all is quiet.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol
from zoneinfo import ZoneInfo

import pytest

from bot.app.orchestrator import Orchestrator
from bot.egress_client.in_process import InProcessEgress
from database.queries import tasks
from database.queries.agents import agents, auto_resume
from database.queries.spending import usage_ledger
from fleet.hosting import detached
from fleet.hosting.host_command_line import host_command
from fleet.sim.provider.server import Provider
from tests import forked_hosts

ZONE = ZoneInfo("Europe/Vienna")
HOUR, DAY = 3600.0, 86_400.0
#: The midnight at which our week begins. The provider's week begins two hours later (a Thursday in UTC).
BEGINNING = datetime(2027, 6, 17, tzinfo=ZONE).timestamp()
_HOST = Path(__file__).with_name("clocked_host.py")
#: Seconds that real work may take at each stop.
LIMIT = 30.0


class FakeClock:
    """Seconds since the epoch, from where somebody set it on at the usual pace; in other processes, too."""

    def __init__(self, file: Path, at: float) -> None:
        file.write_bytes(struct.pack("d", 0.0))
        self.file = file
        with file.open("r+b") as opened:
            self._ahead = mmap.mmap(opened.fileno(), struct.calcsize("d"))
        self.set(at)

    def set(self, at: float) -> None:
        self._ahead[:] = struct.pack("d", at - time.time())

    def __call__(self) -> float:
        return time.time() + float(struct.unpack("d", self._ahead[:])[0])


@contextlib.contextmanager
def clocked_hosts(clock: FakeClock) -> Iterator[None]:
    """Agent hosts that are started meanwhile follow this clock."""

    def command(folder: Path, *options: str) -> list[str]:
        _, _, _, _, *rest = host_command(folder, *options)
        return [sys.executable, "-P", str(_HOST), str(clock.file), *rest]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detached, "host_command", command)
        patch.setattr(detached, "start_process", forked_hosts.start_interpreter)
        yield


class Room(Protocol):
    """Where the operator is."""

    async def ask(self, text: str) -> str:
        """Write a command and wait for the reply to it."""

    async def say(self, text: str, agent: str) -> None:
        """Write into an agent's thread."""

    async def texts(self) -> list[str]:
        """All that stands in the room and its threads now of the bot's, in the order in which it came."""

    async def heard(self, words: str) -> str:
        """The first message of the bot's with these words, when it comes."""

    async def pictures(self) -> list[bytes]:
        """All pictures of the bot's."""


@dataclass(slots=True)
class Week:
    orchestrator: Orchestrator
    room: Room
    clock: FakeClock
    egress: InProcessEgress
    models: Provider
    stops: list[float] = field(default_factory=list)
    """Where the clock has stood."""

    @staticmethod
    def at(day: int, hour: float) -> float:
        """A day (0: the first) and an hour of the operator's zone, in seconds since the epoch."""
        midnight = datetime.fromtimestamp(BEGINNING, ZONE) + timedelta(days=day)
        return (midnight + timedelta(hours=hour)).timestamp()

    async def advance(self, to: float) -> None:
        """Let time go by until `to`, and everything happen that is due meanwhile."""
        # What was done since the last stop has its consequences at its own time.
        await self._round()
        while (due := await self._due(to)) < to:
            await self._stop(due)
        await self._stop(to)

    async def advance_to(self, day: int, hour: float) -> None:
        """The same, to a day and an hour of it (`at`)."""
        await self.advance(self.at(day, hour))

    async def _stop(self, at: float) -> None:
        # What took long here is past already.
        self.clock.set(max(at, self.clock()))
        self.stops.append(at)
        await self._round()

    async def _round(self) -> None:
        """What timers would do about now."""
        services = self.orchestrator.services
        await self.quiet()
        await services.pace.redraw()
        services.dispatcher.opened()
        await self._look()
        await services.continuing.look()
        await self.quiet()
        await services.reports.sweep()
        await self.quiet()

    async def _look(self) -> None:
        """Have the tasks looked at, and once more where an agent was just not heard of."""
        async with asyncio.timeout(LIMIT):
            while True:
                await self.orchestrator.services.dispatcher.look()
                async with self.orchestrator.store.read() as tx:
                    if not {"starting", "unknown"} & {each.why for each in await tasks.in_states(tx, ["queued"])}:
                        return
                await asyncio.sleep(0.02)
                await self.heard_again()

    async def _due(self, until: float) -> float:
        """When something is due next, at the latest `until`."""
        services = self.orchestrator.services
        now = self.clock()
        found = [until, _next_midnight(now)]
        found += [at for each in await services.reports.schedules() if (at := each.next_after(now)) is not None]
        async with self.orchestrator.store.read() as tx:
            waiting = await tasks.in_states(tx, ["queued"])
            stopped = await auto_resume.waiting(tx)
        # Half a second later: what is to be at a moment is after it.
        found += [each.look_at + 0.5 for each in waiting if each.look_at is not None]
        found += [each.resume_at + 0.5 for each in stopped if each.resume_at is not None]
        return min((at for at in found if at > now), default=until)

    # --- waiting for what is real ---------------------------------------------------------------------------------

    async def heard_again(self) -> None:
        """Wait until every agent that runs was heard since the clock was set: nobody is to be taken for silent."""

        async def silent() -> list[str]:
            views = await self.orchestrator.agents.view()
            return [view.row.name for view in views if view.liveness.state == "unknown"]

        await _until_none(silent)

    async def quiet(self) -> None:
        """Wait until nothing is under way: no turn, no message to an agent, nothing to copy and nothing to send."""
        await _until_none(self._busy)
        await self.orchestrator.quiet()

    async def _busy(self) -> list[str]:
        running = self.egress.egress
        found: list[str] = []
        async with self.orchestrator.store.read() as tx:
            for each in await tasks.in_states(tx, ["dispatched", "running"]):
                found.append(f"task {each.id} {each.state}")
            known = {row.name: row for row in await agents.every(tx)}
            copied = None if running is None else await usage_ledger.copied(tx, running.ledger.id)
        for view in await self.orchestrator.agents.view():
            if known[view.row.name].wanted == "running" and view.liveness.state not in ("idle", "waiting", "failed"):
                found.append(f"{view.row.name} is {view.liveness.state}")
            if view.queued:
                found.append(f"{view.row.name} has messages")
        if running is not None and copied is not None:
            head = running.ledger.head
            if (copied.entries, copied.observations) < (head.entries, head.observations):
                found.append("ledger")
            if running.proxy.streams:
                found.append("streams")
        return found


async def _until_none(found: Callable[[], Awaitable[list[str]]]) -> None:
    """Wait until it finds nothing any more."""
    last: list[str] = []
    try:
        async with asyncio.timeout(LIMIT):
            while last := await found():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not quiet within {LIMIT:.0f} s: {', '.join(last)}") from None


def _next_midnight(at: float) -> float:
    day = datetime.fromtimestamp(at, ZONE).date() + timedelta(days=1)
    return datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp()
