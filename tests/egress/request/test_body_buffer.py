"""Long requests: whose turn it is, and what becomes of them when their client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import weakref
from pathlib import Path

import pytest

from egress.request import body_buffer
from egress.request.body_buffer import AgentTurns, Bodies, Body
from tests.egress.whole_egress import anthropic, plane

LIMIT_S = 10.0


class _Name(str):
    """An agent's name, of which one sees whether somebody still has it."""


async def test_who_sends_many_long_requests_waits_behind_itself_and_nobody_else_does() -> None:
    turns = AgentTurns(2)
    began: list[str] = []
    gates: dict[str, asyncio.Event] = {}
    names: list[weakref.ref[_Name]] = []

    async def work(name: str) -> None:
        agent = _Name(name[0])
        names.append(weakref.ref(agent))
        # An error that a task ended with would have the name.
        with contextlib.suppress(asyncio.CancelledError):
            async with turns.turn(agent):
                began.append(name)
                await gates.setdefault(name, asyncio.Event()).wait()

    async def settled() -> list[str]:
        for _ in range(20):
            await asyncio.sleep(0)
        return began

    tasks = [asyncio.create_task(work(f"a{number}")) for number in range(3)]
    assert await settled() == ["a0"], "one of each agent's"
    tasks += [asyncio.create_task(work(name)) for name in ("b0", "c0", "b1")]
    assert await settled() == ["a0", "b0"], "two of all"
    gates["a0"].set()
    # c0 came before a1 was in the queue that all wait in.
    assert await settled() == ["a0", "b0", "c0"]
    gates["b0"].set()
    assert await settled() == ["a0", "b0", "c0", "a1"]
    for waiting in [each for each in tasks if not each.done()]:
        waiting.cancel()
    await asyncio.gather(*tasks)
    gates["d0"] = asyncio.Event()
    gates["d0"].set()
    async with asyncio.timeout(LIMIT_S):
        await work("d0")
    gc.collect()
    assert [each() for each in names] == [None] * 7, "nothing is kept of who came once"


async def test_a_long_request_of_one_agent_is_parsed_while_another_ones_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held up in the middle of being read, one agent's long request keeps its own others waiting, and nobody else's."""
    monkeypatch.setattr(body_buffer, "IN_MEMORY", 1_000)
    held, go = threading.Event(), threading.Event()
    async with plane(tmp_path) as made:
        slow, quick = await made.agent("slow"), await made.agent("quick")
        usual = body_buffer.Body.content

        def content(self: body_buffer.Body) -> bytes:
            if self.whose == "slow" and not held.is_set():
                held.set()
                go.wait(LIMIT_S)
            return usual(self)

        monkeypatch.setattr(body_buffer.Body, "content", content)
        first = asyncio.ensure_future(slow.post("/anthropic/v1/messages", json=anthropic("x " * 2_000)))
        try:
            assert await asyncio.to_thread(held.wait, LIMIT_S)
            second = asyncio.ensure_future(slow.post("/anthropic/v1/messages", json=anthropic("y " * 2_000)))
            async with asyncio.timeout(LIMIT_S):
                answer = await quick.post("/anthropic/v1/messages", json=anthropic("z " * 2_000))
            assert answer.status == 200
            assert not first.done()
            assert not second.done()
        finally:
            go.set()
        assert [(await each).status for each in (first, second)] == [200, 200]


async def test_a_file_is_not_closed_while_a_thread_has_it(tmp_path: Path) -> None:
    """Its number may be another file's in the next moment: that one would be read, or written over."""
    held, go = threading.Event(), threading.Event()
    store = Bodies(tmp_path)
    (tmp_path / "body").write_bytes(b"x" * 5_000)
    number = os.open(tmp_path / "body", os.O_RDONLY)
    body = Body(b"", number, 5_000, store, "coder0")

    def work() -> int:
        held.set()
        go.wait(LIMIT_S)
        return os.fstat(number).st_size

    async def asks() -> None:
        try:
            await store.work_on("coder0", work)
        finally:
            body.close()

    asking = asyncio.create_task(asks())
    assert await asyncio.to_thread(held.wait, LIMIT_S)
    for _ in range(3):
        asking.cancel()
        await asyncio.sleep(0)
    assert os.fstat(number).st_size == 5_000, "the client left, and the file is still there for the thread"
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
