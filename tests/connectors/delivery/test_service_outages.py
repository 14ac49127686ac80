"""The server of the register dies in the middle of everything: delivery stands aside, and goes on as if nothing was."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from connectors.delivery import inbox
from tests.connectors.delivery.fake_room import Office, opened
from tests.postgres import Postgres


async def all_done(office: Office) -> bool:
    async with office.store.read() as tx:
        return await inbox.waiting(tx) == 0


@pytest.mark.slow
async def test_what_was_said_while_the_server_was_killed_again_and_again_is_answered_once(
    server: Postgres, emptied_database: str
) -> None:
    async with opened(server.url(emptied_database)) as office, office.open() as delivery:
        for round_ in range(4):
            for number in range(5):
                office.server.post(f"{round_}.{number}", conversation=f"room {number % 2}")
            await office.server.until(lambda: len(office.server.said) > round_ * 5, limit=30)  # noqa: B023
            server.kill()
            office.server.post(f"{round_}.away")
            await server.started()
        office.server.post("last")
        expected = 4 * 6 + 1
        await office.server.until(lambda: len(office.server.said) == expected, limit=60)
        await delivery.idle()
        assert await all_done(office)
    said = office.server.texts("room 0") + office.server.texts("room 1") + office.server.texts()
    wanted = [f"re: {round_}.{number}" for round_ in range(4) for number in range(5)]
    assert sorted(said) == sorted([*wanted, *(f"re: {round_}.away" for round_ in range(4)), "re: last"])
    assert office.server.texts("room 0") == [text for text in wanted if int(text[-1]) % 2 == 0]


@pytest.mark.slow
async def test_a_commit_whose_answer_was_lost_is_not_done_twice(
    server: Postgres, emptied_database: str, tmp_path: Path
) -> None:
    cuts = 0

    def cut(sent: bytes) -> bool:
        """Every third commit reaches the server, and its answer nobody."""
        nonlocal cuts
        cuts += b"COMMIT" in sent
        return b"COMMIT" in sent and cuts % 3 == 0

    async with between(server, tmp_path, cut) as folder:
        url = f"postgresql://muster@/{emptied_database}?host={folder}"
        async with opened(url) as office, office.open() as delivery:
            for number in range(20):
                office.server.post(f"{number}")
            await office.server.until(lambda: len(office.server.said) == 20, limit=60)
            await delivery.idle()
            assert await all_done(office)
    assert office.server.texts() == [f"re: {number}" for number in range(20)]
    assert cuts > 10


@contextlib.asynccontextmanager
async def between(server: Postgres, folder: Path, cut: Callable[[bytes], bool]) -> AsyncIterator[Path]:
    """A socket in `folder` that leads to the server, and ends a connection behind what `cut` says so of.

    What was sent reaches the server and is dealt with there; the answer is kept back.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(server.socket)
        ending, answered = False, asyncio.Event()

        async def onwards() -> None:
            nonlocal ending
            while sent := await reader.read(65_536):
                ending = cut(sent)
                far_writer.write(sent)
                await far_writer.drain()
                if ending:
                    await answered.wait()
                    return

        async def backwards() -> None:
            while sent := await far_reader.read(65_536):
                if ending:
                    answered.set()
                else:
                    writer.write(sent)
                    await writer.drain()

        tasks = [asyncio.create_task(onwards()), asyncio.create_task(backwards())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.transport.abort()
        far_writer.transport.abort()

    listener = await asyncio.start_unix_server(serve, folder / server.socket.name)
    async with listener:
        yield folder
        listener.close()
