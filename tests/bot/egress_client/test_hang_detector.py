"""An egress that is there and does not answer: it is ended, and another takes its place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.egress_client import process
from bot.egress_client.hang_detector import HUNG_S, TIMES, HangDetector
from bot.egress_client.process import NotEnded, places
from core.errors import MusterError
from tests.bot.egress_client.test_client import spent
from tests.bot.egress_client.test_process import home, pid_of, streams, until_another
from tests.bot.orchestrator import ROOM, House, egress_client

__all__ = ["home"]


def test_it_must_be_silent_for_long_and_to_several_calls() -> None:
    silence = HangDetector()
    stalled = [silence.missed(at * HUNG_S, (at + 1) * HUNG_S, HUNG_S) for at in range(TIMES + 1)]
    assert not any(stalled), "we were away ourselves"
    for now in (200.0, 205.0, 210.0):
        assert not silence.missed(now, now + 5, HUNG_S), "what was before does not count"
    silence.heard()
    times = range(0, int(HUNG_S), 10)
    assert [silence.missed(at, at + 5, HUNG_S) for at in times] == [False] * len(times)
    assert silence.missed(HUNG_S, HUNG_S + 5, HUNG_S)


async def test_a_stopped_egress_is_killed_and_another_takes_over(home: House) -> None:
    async with home.open() as orchestrator:
        assert egress_client(orchestrator) is not None
        egress_client(orchestrator).hung_s = 2.0
        thread = await home.launch("coder0")
        await home.marks(home.say("one", thread), "✅")
        midway = home.say("[[say: half of it,]][[hang]]", thread)
        await streams(home, 1)
        first = pid_of(home.paths)
        os.kill(first, signal.SIGSTOP)
        await home.heard(ROOM, f"has not answered for 2 seconds. Its process {first} was killed")
        await until_another(home.paths, first)
        await home.marks(midway, "❌")
        await home.marks(home.say("three", thread), "✅")
        used = await spent(home, 3)
        assert (used.requests, used.estimated) == (3, 1), "what was under way is an estimate"


def test_nothing_else_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock names whom to kill; whoever has that number now and not the lock is left alone."""
    paths = Paths.of({"MUSTER_HOME": str(tmp_path)})
    lock = places(paths).lock
    lock.parent.mkdir(parents=True)
    with pytest.raises(NotEnded, match="does not say which process"):
        process.kill(paths)
    lock.write_text(json.dumps({"pid": os.getpid()}))
    with pytest.raises(NotEnded, match="does not say which process"):
        process.kill(paths)
    looks = [sys.executable, "-c", "print(flush=True); input()"]
    monkeypatch.setattr(process, "command", lambda _: looks)
    with subprocess.Popen(looks, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alike:
        try:
            assert alike.stdout is not None
            alike.stdout.readline()
            lock.write_text(json.dumps({"pid": alike.pid}))
            with pytest.raises(NotEnded, match="not the one that holds its lock"):
                process.kill(paths)
            assert alike.poll() is None
        finally:
            alike.kill()


async def test_to_stop_one_that_hangs_says_how_to_end_it(home: House) -> None:
    async with home.open():
        await home.launch("coder0")
    first = pid_of(home.paths)
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(MusterError, match=f"kill -9 {first}"):
        async with asyncio.timeout(30):
            await process.stop(home.paths, answer_s=0.2)
    os.kill(first, signal.SIGCONT)
