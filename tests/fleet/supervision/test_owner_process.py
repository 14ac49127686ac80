"""What ends with a process hears of its end, and takes no other for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from fleet.supervision import owner_process

#: Names itself, and then waits to be killed.
_OWNER = "from fleet.supervision import owner_process; print(owner_process.this_process(), flush=True); input()"


def _begun() -> tuple[subprocess.Popen[str], str]:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert owner.stdout is not None
    return owner, owner.stdout.readline().strip()


async def test_the_end_of_the_process_is_heard_once() -> None:
    owner, name = _begun()
    heard: asyncio.Queue[None] = asyncio.Queue()
    with owner, owner_process.watched(name, lambda: heard.put_nowait(None)):
        # Another watcher in between sees that nothing happened yet.
        assert heard.empty()
        owner.kill()
        async with asyncio.timeout(30):
            await heard.get()
        await asyncio.sleep(0)
        assert heard.empty()
    with owner_process.watched(name, lambda: heard.put_nowait(None)):
        async with asyncio.timeout(30):
            await heard.get()


async def test_another_process_with_its_number_is_not_taken_for_it() -> None:
    heard = asyncio.Event()
    number = owner_process.this_process().partition("/")[0]
    with owner_process.watched(f"{number}/1", heard.set):
        async with asyncio.timeout(30):
            await heard.wait()


async def test_nothing_is_watched_unless_a_process_is_named() -> None:
    with owner_process.watched("", lambda: None), owner_process.watched(owner_process.this_process(), lambda: None):
        pass
