"""Two orchestrators take turns with one register on PostgreSQL: nothing is lost, nothing is done or said twice, and
neither touches the agents of the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bot.config.instance_lock import holder
from bot.config.paths import Paths
from bot.leadership import lease
from fleet.sim.provider.server import Provider
from fleet.supervision import host_lock
from tests.operator_client import Event, body, relation
from tests.postgres import Postgres
from tests.synapse import Synapse
from tests.system.installation import LIMIT
from tests.system.matrix_installation import KEY, Installation, installation, replies_to

# In one process: tests/bot/leadership/test_standby.py.
pytestmark = [pytest.mark.synapse, pytest.mark.slow]

#: Within so many seconds another one leads; nothing is waited for that long but that.
TAKEN_OVER = 30.0


@contextlib.asynccontextmanager
async def pair(
    folder: Path, synapse: Synapse, models: Provider, url: str, *, apart: bool = True
) -> AsyncIterator[tuple[Installation, Installation]]:
    """Two orchestrators of one fleet, with the same bot in the same room; of two installations, or of one."""
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    async with installation(folder / "a", synapse, models, register={"url": url}) as first:
        second = Installation(
            folder=folder / ("b" if apart else "a"),
            synapse=synapse,
            models=models,
            bot=first.bot,
            ana=first.ana,
            room=first.room,
            paths=Paths.of({"MUSTER_HOME": str(folder / ("b" if apart else "a") / "home"), "HOME": str(folder)}),
        )
        if apart:
            second.paths.config.mkdir(mode=0o700, parents=True)
            second.configure(register={"url": url})
        try:
            await first.start()
            await first.joined()
            yield first, second
        finally:
            for each in (first, second):
                if each.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        each.process.send_signal(signal.SIGCONT)
            await first.kill()
            await second.close()


async def stands_by(home: Installation) -> None:
    """Wait until the orchestrator of `home` waits for its turn."""
    async with asyncio.timeout(LIMIT):
        while True:
            assert home.process is not None
            assert home.process.returncode is None, home.last_words()
            found = holder(home.paths.standby_lock)
            if found is not None and found.pid == home.process.pid:
                return
            await asyncio.sleep(0.05)


async def leads(home: Installation) -> float:
    """Wait until the room heard that this one leads; how long that took, seconds."""
    assert home.process is not None
    began = time.monotonic()
    await home.heard_words(f"led by `process {home.process.pid} on", limit=TAKEN_OVER + 10)
    return time.monotonic() - began


def host_of(home: Installation, agent: str) -> int | None:
    """The process of an agent's host."""
    return host_lock.holder(home.paths.agent_folder(agent))


async def balance(home: Installation, commands: list[str]) -> None:
    """Every command has one reply, and nothing of ours stands twice."""
    for event in commands:
        await home.reply(event)
    room = await home.ana.events(home.room)
    ours = [event for event in room if event["sender"] == home.bot.user_id]
    answered = Counter(replies_to(event) for event in ours if relation(event).get("rel_type") != "m.replace")
    assert [answered[event] for event in commands] == [1] * len(commands)
    keys = Counter(key for event in ours if (key := event["content"].get(KEY)) is not None)
    assert [key for key, times in keys.items() if times > 1] == []


def said(events: list[Event], words: str) -> list[str]:
    return [body(event) for event in events if event["type"] == "m.room.message" and words in body(event)]


async def row_of(postgres: Postgres, database: str, agent: str) -> dict[str, Any]:
    connection = await postgres.connect(database)
    try:
        return dict(await connection.fetchrow("SELECT * FROM agents WHERE name = $1", agent))
    finally:
        await connection.close()


async def test_another_installation_stands_by_takes_over_and_leaves_the_agents_of_the_first_alone(
    tmp_path: Path, synapse: Synapse, models: Provider, postgres: Postgres, postgres_database: str
) -> None:
    async with pair(tmp_path, synapse, models, postgres.url(postgres_database)) as (first, second):
        thread = await first.launch("coder0")
        host = host_of(first, "coder0")
        before = await row_of(postgres, postgres_database, "coder0")
        assert host is not None

        await second.start(ready=False)
        await stands_by(second)
        status, printed = await second.shell("health")
        assert status == 3
        assert "Muster stands by here" in printed
        assert f"process {first.process.pid if first.process else 0} on" in printed
        status, printed = await second.shell("up", "--unattended")
        assert (status, "is running here already" in printed) == (1, True)

        commands = [await first.ana.say(first.room, "!whoami")]
        assert await first.stop() == 0
        commands.append(await first.ana.say(first.room, "!health"))
        await leads(second)
        for line, answer in {
            "!ps": "unknown",
            "!restart coder0": "belongs to the Muster on",
            "!launch coder0": "belongs to the Muster on",
            "!stop coder0 --now": "belongs to the Muster on",
        }.items():
            commands.append(await first.ana.say(first.room, line))
            assert answer in await first.reply(commands[-1])
        message = await first.ana.say(first.room, "remember [[say: I was there]]", thread=thread)
        await second.ready()
        # A few sweeps of the watchdog and of those who bring agents back.
        checks = (await second.gateway("GET", "/v1/health"))["jobs"]
        watched = next(each["last_run"] for each in checks if each["name"] == "watchdog")
        async with asyncio.timeout(LIMIT):
            while watched == next(
                each["last_run"]
                for each in (await second.gateway("GET", "/v1/health"))["jobs"]
                if each["name"] == "watchdog"
            ):
                await asyncio.sleep(0.1)
        assert host_of(first, "coder0") == host
        os.kill(host, 0)
        assert host_of(second, "coder0") is None
        assert await row_of(postgres, postgres_database, "coder0") == before

        await first.start(ready=False)
        await stands_by(first)
        assert await second.stop() == 0
        await leads(first)
        await first.heard_words("I was there")
        await first.marked(message, "✅")
        commands.append(await first.ana.say(first.room, "!ps"))
        assert "idle" in await first.reply(commands[-1])
        assert host_of(first, "coder0") == host, "it never noticed"
        room = await first.ana.events(first.room)
        assert len(said(room, "Muster is led by")) == 2
        assert said(room, "does not answer") == []
        await balance(first, commands)


async def test_of_one_installation_the_one_that_stands_by_goes_on_when_the_leader_is_killed(
    tmp_path: Path, synapse: Synapse, models: Provider, postgres: Postgres, postgres_database: str
) -> None:
    async with pair(tmp_path, synapse, models, postgres.url(postgres_database), apart=False) as (first, second):
        await first.launch("coder0")
        host = host_of(first, "coder0")
        await second.start(ready=False)
        await stands_by(second)
        assert second.process is not None
        async with asyncio.timeout(LIMIT):
            while f"process {second.process.pid} on" not in await first.reply(
                await first.ana.say(first.room, "!health")
            ):
                await asyncio.sleep(0.1)
        commands = [await first.ana.say(first.room, "!whoami") for _ in range(5)]
        await first.kill()
        await leads(second)
        commands.append(await first.ana.say(first.room, "!ps"))
        assert "idle" in await second.reply(commands[-1])
        assert host_of(second, "coder0") == host
        await balance(second, commands)
        room = await first.ana.events(first.room)
        assert len(said(room, "ended without a word")) == 1
        # `muster down` ends both.
        await first.start(ready=False)
        await stands_by(first)
        status, printed = await second.shell("down")
        assert status == 0, printed
        assert (await first.ended(), await second.ended()) == (0, 0)
        # In the background it is the same.
        await first.start()
        status, printed = await second.shell("up", "--detach")
        assert (status, "Muster stands by in the background" in printed) == (0, True), printed
        status, printed = await second.shell("down")
        assert (status, await first.ended()) == (0, 0), printed
        assert (await second.shell("down"))[0] == 3, "nobody is left, and nobody has taken over"


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_a_leader_that_falls_silent_is_followed_within_thirty_seconds_and_does_no_more(
    tmp_path: Path, synapse: Synapse, models: Provider, postgres: Postgres, postgres_database: str, how: str
) -> None:
    async with pair(tmp_path, synapse, models, postgres.url(postgres_database)) as (first, second):
        thread = await first.launch("coder0")
        host = host_of(first, "coder0")
        await second.start(ready=False)
        await stands_by(second)
        commands: list[str] = []

        async def talk() -> None:
            while True:
                commands.append(await first.ana.say(first.room, "!whoami"))
                await asyncio.sleep(0.5)

        talking = asyncio.create_task(talk())
        try:
            await first.reply(await first.ana.say(first.room, "!ps"))
            assert first.process is not None
            old = first.process
            if how == "killed":
                await first.kill()
            else:
                old.send_signal(signal.SIGSTOP)
            assert await leads(second) < TAKEN_OVER
            if how == "stopped":
                old.send_signal(signal.SIGCONT)
                await stands_by(first)
                assert old.returncode is None
            else:
                await first.start(ready=False)
                await stands_by(first)
            await asyncio.sleep(1.0)
        finally:
            talking.cancel()
            await asyncio.wait([talking])
        await balance(second, commands)
        assert host_of(first, "coder0") == host
        room = await first.ana.events(first.room)
        assert len(said(room, "was silent for")) == 1
        # And back: what the agent is told then, it hears once.
        await second.stop()
        await leads(first)
        message = await first.ana.say(first.room, "onlyonce [[say: heard it]]", thread=thread)
        await first.marked(message, "✅")
        asked = [entry for entry in models.ledger.entries if entry.results == 0 and "onlyonce " in entry.text]
        assert len(asked) == 1
        await balance(first, commands)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_killed_while_it_takes_over_the_room_hears_of_it_once(
    tmp_path: Path, synapse: Synapse, models: Provider, postgres: Postgres, postgres_database: str, side: str
) -> None:
    async with pair(tmp_path, synapse, models, postgres.url(postgres_database)) as (first, second):
        await first.launch("coder0")
        await second.start(ready=False, MUSTER_CRASH=f"register.hold.{side}")
        await stands_by(second)
        commands = [await first.ana.say(first.room, "!whoami")]
        await first.stop()
        assert await second.ended() == -signal.SIGKILL
        commands.append(await first.ana.say(first.room, "!ps"))
        await second.start()
        await first.heard_words("Muster is led by")
        await balance(second, commands)
        room = await first.ana.events(first.room)
        assert len(said(room, "Muster is led by")) == 1


async def test_a_leader_of_the_same_installation_that_is_stopped_is_ended_and_followed(
    tmp_path: Path, synapse: Synapse, models: Provider, postgres: Postgres, postgres_database: str
) -> None:
    async with pair(tmp_path, synapse, models, postgres.url(postgres_database), apart=False) as (first, second):
        await first.launch("coder0")
        host = host_of(first, "coder0")
        await second.start(ready=False)
        await stands_by(second)
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)
        commands = [await first.ana.say(first.room, "!whoami")]
        assert await leads(second) < TAKEN_OVER
        assert await first.ended() == -signal.SIGKILL
        commands.append(await first.ana.say(first.room, "!ps"))
        assert "idle" in await second.reply(commands[-1])
        assert host_of(second, "coder0") == host
        await balance(second, commands)


@pytest.mark.parametrize("apart", [True, False])
async def test_after_an_outage_of_the_server_the_leader_leads_on(
    tmp_path: Path, synapse: Synapse, models: Provider, apart: bool
) -> None:
    server = Postgres()
    try:
        await server.started()
        url = server.url(await server.database())
        async with pair(tmp_path, synapse, models, url, apart=apart) as (first, second):
            await second.start(ready=False)
            await stands_by(second)
            assert first.process is not None
            leader = first.process.pid
            server.kill()
            await asyncio.sleep(lease.SHARED_DURATION + 2.0)
            command = await first.ana.say(first.room, "!whoami")
            await server.started()
            await first.reply(command)
            # Long enough for one that stands by to lead, if it would.
            await asyncio.sleep(lease.SHARED_DURATION / 2)
            await stands_by(second)
            assert first.process.pid == leader
            assert first.process.returncode is None
            assert said(await first.ana.events(first.room), "Muster is led by") == []
    finally:
        server.remove()


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_they_take_turns_for_long(
    tmp_path: Path,
    synapse: Synapse,
    models: Provider,
    postgres: Postgres,
    postgres_database: str,
    rng: random.Random,
) -> None:
    async with pair(tmp_path, synapse, models, postgres.url(postgres_database)) as (first, second):
        await first.launch("coder0")
        host = host_of(first, "coder0")
        commands: list[str] = []

        async def talk() -> None:
            while True:
                commands.append(await first.ana.say(first.room, "!whoami"))
                await asyncio.sleep(rng.uniform(0.0, 2.0))

        talking = asyncio.create_task(talk())
        turns = 0
        leader, other = first, second
        try:
            for how in rng.choices(["killed", "stopped", "asked"], k=8):
                if other.process is None:
                    await other.start(ready=False)
                await stands_by(other)
                await asyncio.sleep(rng.uniform(0.0, 6.0))
                old = leader.process
                assert old is not None
                assert other.process is not None
                waiting = other.process.pid
                match how:
                    case "killed":
                        await leader.kill()
                    case "asked":
                        assert await leader.stop() == 0
                    case "stopped":
                        old.send_signal(signal.SIGSTOP)
                turns += 1
                async with asyncio.timeout(TAKEN_OVER + 10):
                    while turns > len(said(await first.ana.events(first.room), "Muster is led by")):
                        await asyncio.sleep(0.2)
                assert other.process is not None
                assert other.process.pid == waiting
                if how == "stopped":
                    old.send_signal(signal.SIGCONT)
                leader, other = other, leader
        finally:
            talking.cancel()
            await asyncio.wait([talking])
        await balance(leader, commands)
        assert host_of(first, "coder0") == host
        assert len(said(await first.ana.events(first.room), "Muster is led by")) == turns
