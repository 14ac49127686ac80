"""Two hundred threads that are at work at once on each connector, and what a thousand threads take in memory.

In each thread an answer grows by an edit a second, and then stands; all begin and end together, which is the worst that
a fleet can do. On the fake Discord, whose limits are those that Discord tells of, the last of these texts is compared
with the moment at which the limit of all requests lets it stand at the earliest. While they grow, permission requests
come, which go first. A pane of tmux shows what the terminal's connector keeps, which is measured with one who reads.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from sqlalchemy import func, select

from benchmarks.figures import Figure
from connectors.contract.connector_protocol import Connector
from connectors.contract.connector_registry import NoSettings
from connectors.contract.messages import Batch, Message, OpenThread, Outbound, OutboundContent, Priority, Replace
from connectors.delivery import outbox
from connectors.delivery.settings import DeliverySettings
from connectors.discord.connector import DiscordConnector
from connectors.discord.settings import DiscordSettings
from connectors.memory import MemoryConnector, MemoryServer
from connectors.terminal.connector import MAIN, TerminalConnector
from connectors.terminal.transcript_view import ScreenView
from database import schema
from tests.connectors.delivery.fake_room import STEP, Office
from tests.connectors.delivery.fake_room import opened as office_opened
from tests.connectors.discord.fake_server_state import Place, World
from tests.connectors.discord.server import serving
from tests.connectors.matrix.conftest import Bot
from tests.encrypted_operator import EncryptedOperator
from tests.synapse import Synapse

THREADS = 200
EDITS = 3
REQUESTS = 10
LIMIT = 240.0
#: Of what Discord tells of: all requests of a bot in a second, and those of one kind in one channel.
EVERYTHING = (50, 1.0)
OF_A_CHANNEL = (5, 5.0)
#: Part of the requests is left for what no one waits for.
LATER_AT_MOST = 1.5
REQUEST_AT_MOST_S = 3.0
KNOWN = 1000
KNOWN_AT_MOST_MB = 30.0


def measure() -> list[Figure]:
    """Return each connector in turn, then the memory."""
    figures = []
    for name, place in (
        ("in memory", _in_memory),
        ("terminal", _in_a_terminal),
        ("Discord's fake", _on_discord),
        ("Matrix on Synapse", _on_matrix),
        ("Matrix on Synapse, encrypted", _on_encrypted_matrix),
    ):
        figures += asyncio.run(_measured(name, place))
    few, many = (asyncio.run(_resident(threads)) for threads in (1, KNOWN))
    return [
        *figures,
        Figure(name="a bot on Discord that knows 1 thread, RSS", value=few, unit="MB"),
        Figure(name=f"{KNOWN:,} threads add to it", value=many - few, unit="MB", at_most=KNOWN_AT_MOST_MB),
    ]


async def _measured(name: str, place: Callable[[Path], _Home]) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        async with (
            asyncio.timeout(LIMIT),
            place(Path(folder)) as (office, connectors, room, world),
            office.open(connectors),
        ):
            computed = time.process_time()
            await office.until(lambda: _in_touch(office))
            threads = [f"thread {number}" for number in range(THREADS)]
            await _say(office, ((key, OpenThread(title=key, message=Message(text=key))) for key in threads), to=room)
            await _sent(office, threads)
            if world is not None:
                world.limits.everything = EVERYTHING
                world.limits.kinds |= {"post": OF_A_CHANNEL, "change_message": OF_A_CHANNEL}
            await asyncio.sleep(2.0)  # so that the burst is there again
            asked = await _grow(office, threads)
            began, before = time.time(), 0 if world is None else len(world.wire)
            last = {f"{key} end": key for key in threads}
            changes = (
                (key, Replace(target=f"{of} said", message=Message(text=key), final=True)) for key, of in last.items()
            )
            await _say(office, changes, priority=Priority.FINAL, threads=last)
            taken = await _all_said(office) - began
            computed = time.process_time() - computed
    figures = [
        Figure(name=f"{name}: the last of {THREADS} texts stands after", value=taken, unit="s"),
        Figure(
            name=f"{name}: a permission request among them, at most", value=asked, unit="s", at_most=REQUEST_AT_MOST_S
        ),
        Figure(name=f"{name}: CPU, the chat system in memory included", value=computed, unit="s"),
    ]
    if world is not None:
        forced = (len(world.wire) - before) / EVERYTHING[0]
        refused = world.limits.refused.count("everything")
        figures += [
            Figure(name=f"{name}: to what the limit forces", value=taken / forced, unit="times", at_most=LATER_AT_MOST),
            Figure(name=f"{name}: requests that were refused", value=refused, unit="", at_most=0),
        ]
    return figures


async def _grow(office: Office, threads: list[str]) -> float:
    """Let an answer grow in each thread, and ask for permissions. Returns the seconds until the last of these stood."""
    said = {f"{key} said": key for key in threads}
    await _say(office, ((key, Message(text="…")) for key in said), priority=Priority.PROGRESS, threads=said)
    slowest = 0.0
    for edit in range(EDITS):
        grown = {f"{key} {edit}": of for key, of in said.items()}
        changes = ((key, Replace(target=f"{of} said", message=Message(text=key))) for key, of in grown.items())
        await _say(office, changes, priority=Priority.PROGRESS, threads=grown)
        asked = {f"request {edit} {number}": threads[number] for number in range(REQUESTS)}
        began = time.time()
        await _say(office, ((key, Message(text=key)) for key in asked), priority=Priority.APPROVAL, threads=asked)
        slowest = max(slowest, await _sent(office, asked) - began)
        await asyncio.sleep(1.0)
    return slowest


async def _say(
    office: Office,
    contents: Iterable[tuple[str, OutboundContent]],
    *,
    to: str | None = None,
    threads: dict[str, str] | None = None,
    priority: Priority = Priority.REPLY,
) -> None:
    assert office.delivery is not None
    async with office.store.write(STEP) as tx:
        for key, content in contents:
            thread = None if threads is None else threads[key]
            await office.put_in(tx, key, content, to=to, thread_of=thread, priority=priority)
    office.delivery.wake()


async def _sent(office: Office, keys: Iterable[str]) -> float:
    """Wait until these stand. When the last one did, in seconds since the epoch."""
    wanted, latest, seen = set(keys), 0.0, 0
    while wanted:
        async with office.changed:
            await office.changed.wait_for(partial(_more, office, seen))
        for row in office.outcomes[seen:]:
            assert row.state == "sent", row
            if row.key in wanted:
                wanted.discard(row.key)
                latest = max(latest, row.sent_at or 0.0)
        seen = len(office.outcomes)
    return latest


def _more(office: Office, seen: int) -> bool:
    return len(office.outcomes) > seen


async def _all_said(office: Office) -> float:
    """Wait until nothing is left to say; what was never tried says the end from the beginning. When that was."""
    while True:
        async with office.store.read() as tx:
            counts = await outbox.counts(tx)
            last = await tx.scalar(select(func.max(schema.outbox.c.sent_at)))
        if not any(count for (_, state), count in counts.items() if state == "pending"):
            assert not any(state == "dead" for _, state in counts)
            return float(last or 0.0)
        await asyncio.sleep(0.05)


async def _in_touch(office: Office) -> bool:
    assert office.delivery is not None
    return all(health.reachable for health in (await office.delivery.health()).values())


# --- where ---------------------------------------------------------------------------------------------------------

_Home: TypeAlias = AbstractAsyncContextManager[tuple[Office, dict[str, Connector], str, World | None]]


@asynccontextmanager
async def _office(folder: Path, name: str) -> AsyncIterator[Office]:
    url = f"sqlite:///{folder / 'register.db'}"
    async with office_opened(url, settings=DeliverySettings(), name=name) as office:
        yield office


@asynccontextmanager
async def _in_memory(folder: Path) -> AsyncIterator[tuple[Office, dict[str, Connector], str, World | None]]:
    async with _office(folder, "memory") as office:
        yield office, {"memory": MemoryConnector(server=MemoryServer())}, "room", None


class _Terminal(TerminalConnector):
    """One that says when it has begun, as those do which have a place in a history."""

    async def start(self, cursor: str | None) -> None:
        assert self._sink is not None
        await self._sink(Batch(events=(), cursor="begun"))
        await super().start(cursor)


@asynccontextmanager
async def _in_a_terminal(folder: Path) -> AsyncIterator[tuple[Office, dict[str, Connector], str, World | None]]:
    terminal = _Terminal("terminal", NoSettings(), folder)
    async with _office(folder, "terminal") as office, terminal.attached() as session:
        view = ScreenView(progressive=True)

        async def read() -> None:
            async for line in session:
                view.show(line)

        reading = asyncio.ensure_future(read())
        yield office, {"terminal": terminal}, MAIN, None
        session.end()
        await reading


@asynccontextmanager
async def _on_discord(folder: Path) -> AsyncIterator[tuple[Office, dict[str, Connector], str, World | None]]:
    async with serving() as (world, api), _office(folder, "discord") as office:
        yield office, {"discord": _bot(world, api, folder)}, str(world.channel.id), world


@asynccontextmanager
async def _on_matrix(folder: Path) -> AsyncIterator[tuple[Office, dict[str, Connector], str, World | None]]:
    async with _homeserver(folder) as homeserver:
        account = await homeserver.register(prefix="bot")
        bot = Bot(account, folder / "bot")
        room = await _room(account.homeserver, account.access_token)
        async with _office(folder, "matrix") as office:
            yield office, {"matrix": bot.connector}, room, None


@asynccontextmanager
async def _on_encrypted_matrix(folder: Path) -> AsyncIterator[tuple[Office, dict[str, Connector], str, World | None]]:
    async with _homeserver(folder) as homeserver:
        account, operator = await homeserver.register(prefix="bot"), await homeserver.register(prefix="ana")
        bot = Bot(account, folder / "bot", encryption="required")
        async with EncryptedOperator(operator, folder / "ana") as ana, _office(folder, "matrix") as office:
            room = await _room(account.homeserver, account.access_token, _ENCRYPTED | {"invite": [operator.user_id]})
            await ana.join(room)
            yield office, {"matrix": bot.connector}, room, None
            kinds = {event["type"] for event in await _said(account.homeserver, account.access_token, room)}
            assert kinds == {"m.room.encrypted"}, kinds


@asynccontextmanager
async def _homeserver(folder: Path) -> AsyncIterator[Synapse]:
    homeserver = Synapse(folder / "synapse")
    homeserver.start()
    try:
        yield homeserver
    finally:
        homeserver.stop()


_ENCRYPTED = {
    "initial_state": [{"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
}


async def _room(homeserver: str, token: str, more: Mapping[str, Any] | None = None) -> str:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.post(f"{homeserver}/_matrix/client/v3/createRoom", json=more or {}) as answer,
    ):
        return str((await answer.json())["room_id"])


async def _said(homeserver: str, token: str, room: str) -> list[dict[str, Any]]:
    """Return the last hundred events, as the homeserver has them."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(f"{homeserver}/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100") as answer,
    ):
        return list((await answer.json())["chunk"])


def _bot(world: World, api: str, folder: Path) -> DiscordConnector:
    (folder / "token").write_text(world.token)
    given = {"token": f"file:{folder / 'token'}", "guild": world.guild, "channel": world.channel.id, "api": api}
    return DiscordConnector("discord", DiscordSettings.model_validate(given), folder)


# --- memory --------------------------------------------------------------------------------------------------------


async def _resident(threads: int) -> float:
    """RSS in MB of a process with a bot that knows so many threads and has said something in each."""
    world = World()
    for _ in range(threads):
        thread = world.add(Place(id=world.fresh(), type=11, name="coder0", parent=world.channel.id))
        world.say("hello", place=thread)
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        async with asyncio.timeout(LIMIT), serving(world) as (_, api):
            given = {"api": api, "guild": world.guild, "channel": world.channel.id, "folder": folder,
                     "threads": [str(thread.id) for thread in world.threads()]}  # fmt: skip
            (Path(folder) / "token").write_text(world.token)
            program = [sys.executable, "-m", "benchmarks.connectors", json.dumps(given)]
            process = await asyncio.create_subprocess_exec(*program, stdout=subprocess.PIPE)
            printed, _ = await process.communicate()
            assert process.returncode == 0
    return float(printed)


async def _live(api: str, guild: int, channel: int, folder: str, threads: list[str]) -> float:
    """Return the life of that process."""
    given = {"token": f"file:{folder}/token", "guild": guild, "channel": channel, "api": api}
    connector = DiscordConnector("discord", DiscordSettings.model_validate(given), Path(folder))
    async with _office(Path(folder), "discord") as office, office.open({"discord": connector}):
        await connector.connected()
        for number, thread in enumerate(threads):
            message = Outbound(key=f"{number}", connector="discord", conversation=thread, content=Message(text="hi"))
            await connector.send(message, conversation=thread, target=None)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


if __name__ == "__main__":
    import logging

    from core import logs

    logs.configure(logging.StreamHandler(sys.stderr), str, level=logging.ERROR)
    print(asyncio.run(_live(**json.loads(sys.argv[1]))))
