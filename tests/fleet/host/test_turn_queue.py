"""Turns beside what happens to the runtime between them."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from pathlib import Path

from fleet.host.background_tasks import BackgroundTasks
from fleet.host.journal_fanout import JournalFanout
from fleet.host.permission_requests import PendingPermissions
from fleet.host.runtime_lifetime import RuntimeLife
from fleet.host.state import AgentState
from fleet.host.turn_queue import TurnQueue
from fleet.host.update_recorder import UpdateRecorder
from fleet.journal.events import RuntimeStarted
from tests.fleet.host.scripted_agent import LIMIT_S, Agent


async def send_while_it_ends(folder: str) -> None:
    chronicle = await JournalFanout.open(Agent.make(Path(folder)).spec, AgentState(), clock=time.time)
    desk = PendingPermissions(chronicle.journal, timeout_s=60, clock=time.time, grants=dict)
    tasks = BackgroundTasks()
    transcript = UpdateRecorder(chronicle, desk)
    turns = TurnQueue(chronicle, transcript, desk, tasks)
    life = RuntimeLife(chronicle, on_update=transcript.updated, on_permission=transcript.asked)
    try:
        assert isinstance(await life.start(None), RuntimeStarted)
        turns.serve(life)
        assert life.process is not None
        life.process.stdin.close()
        async with asyncio.timeout(LIMIT_S):
            await life.until_ended()
        await turns.send("m1", "say=too-late", "queue", "ana", ())
        running = asyncio.create_task(turns.run())
        await asyncio.wait({running}, timeout=0.1)
        assert not running.done()
        assert [message.id for message in chronicle.state.queue] == ["m1"]
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await life.end(gently=False)
        await chronicle.journal.close()


def test_a_message_that_came_while_the_runtime_ended_waits_and_keeps_nobody_busy(tmp_path: Path) -> None:
    # In a process of its own: with a runtime, everything ends that the process of its agent host has started.
    lines = (
        "import asyncio, sys, tests.fleet.host.test_turn_queue as here",
        "asyncio.run(here.send_while_it_ends(sys.argv[1]))",
    )
    program = "; ".join(lines)
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
