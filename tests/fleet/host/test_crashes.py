"""The agent host is killed at every place where something becomes durable or goes out, and started again.

Whatever the place: every message was given to the runtime once, or is said to be uncertain or cut; what was not begun
is done at the next start; nothing is in the journal twice; and no process is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from core import crash_points
from fleet.control.agent_host_client import AgentLink, HostStatus
from fleet.errors import AgentRefused, AgentUnreachable, FleetError
from fleet.host import control_server, journal_writer, message_images
from fleet.host.acp import stdio_transport
from fleet.host.state import AgentState, fold
from fleet.journal.events import Closing, JournalEntry, MessageQueued, PermissionAsked, TurnEnded, TurnStarted
from fleet.supervision import host_lifecycle, process_sweep
from tests import soak, waiting
from tests.fleet.host.scripted_agent import LIMIT_S, START, Agent, gone

PNG = {"name": "a.png", "media_type": "image/png", "data": "iVBORw0KGgo="}
MESSAGES: dict[str, dict[str, Any]] = {
    "m1": {"text": "say=one tool=make", "images": [PNG]},
    "m2": {"text": "ask=rm say=two"},
    "m3": {"text": "wait say=three"},
    "m4": {"text": "say=four", "mode": "queue"},
}
#: Steps of the agent host; those of other packages may be imported in the same run.
STEPS = [
    *(journal_writer.OPEN, journal_writer.COMMIT, message_images.WRITE, control_server.REPLY, control_server.STREAM),
    *(
        stdio_transport.OPEN,
        stdio_transport.PROMPT,
        stdio_transport.CANCEL,
        stdio_transport.ANSWER,
        stdio_transport.PING,
    ),
]
#: Of places that are passed often, later passages are met in the long form.
LATER = {
    journal_writer.COMMIT: (2, 3, 5, 8, 12),
    control_server.REPLY: (2, 4, 7),
    control_server.STREAM: (4,),
    stdio_transport.OPEN: (2,),
}
MOMENTS = [(f"{step}.{side}", 1) for step in STEPS for side in ("before", "after")]
#: Places that are met in every run, whatever else is left out.
ALWAYS = {f"{each}.after" for each in (journal_writer.COMMIT, stdio_transport.PROMPT, stdio_transport.ANSWER)}
LATER_MOMENTS = [(f"{step}.{side}", n) for step in LATER for n in LATER[step] for side in ("before", "after")]


def test_every_place_of_the_agent_host_is_met() -> None:
    ours = {place for place in crash_points.places() if place.split(".")[0] in {"runtime", "control", "image"}}
    assert ours <= {place for place, _ in MOMENTS}


@pytest.mark.parametrize(
    ("place", "passage"),
    [
        *(pytest.param(*each, marks=() if each[0] in ALWAYS else pytest.mark.slow) for each in MOMENTS),
        *(pytest.param(*each, marks=pytest.mark.soak) for each in LATER_MOMENTS),
    ],
)
async def test_killed_there_nothing_is_lost_and_nothing_done_twice(
    tmp_path: Path, place: str, passage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent.make(tmp_path)
    monkeypatch.setenv(host_lifecycle.CRASH_VARIABLE, f"{place}:{passage}")
    with contextlib.suppress(FleetError):
        await host_lifecycle.spawn(agent.launch())
        await converse(agent)
    await waiting.until(lambda: not host_lifecycle.is_running(agent.folder), limit=LIMIT_S)
    assert not any(isinstance(entry.event, Closing) for entry in agent.entries()), "it was not killed there"
    monkeypatch.delenv(host_lifecycle.CRASH_VARIABLE)
    await finish(agent)


@pytest.mark.slow
async def test_killed_at_random_moments(tmp_path: Path) -> None:
    await killed_at_random(tmp_path, rounds=3)


@pytest.mark.soak
async def test_killed_at_random_moments_for_long(tmp_path: Path) -> None:
    deadline = time.monotonic() + soak.share()
    number = 0
    while time.monotonic() < deadline:
        number += 1
        await killed_at_random(tmp_path / str(number), rounds=5)


async def killed_at_random(home: Path, rounds: int) -> None:
    seed = int(soak.seed())
    print(f"MUSTER_SEED={seed}")
    rng = random.Random(seed)
    agent = Agent.make(home)
    for _ in range(rounds):
        await host_lifecycle.spawn(agent.launch())
        async with await AgentLink.connect(agent.spec.socket) as link:
            pid = link.hello.pid
            talking = asyncio.create_task(converse(agent))
            with contextlib.suppress(TimeoutError, FleetError):
                await asyncio.wait_for(asyncio.shield(talking), rng.uniform(0.0, 1.0))
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(talking, return_exceptions=True)
        await gone(agent)
    await finish(agent)


async def converse(agent: Agent) -> None:
    """Send all messages, answer what is asked, cancel what waits, and stop; a journaled message is not sent again."""
    async with await AgentLink.connect(agent.spec.socket) as link:
        answering = asyncio.create_task(attend(link))
        try:
            for id_, message in MESSAGES.items():
                await link.send(id_, **message)
            await until_settled(link)
            await link.shutdown(reason="done")
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


async def attend(link: AgentLink) -> None:
    endless, working = None, None
    async with contextlib.aclosing(link.follow(START)) as stream:  # type: ignore[type-var]
        async for item in stream:
            if isinstance(item, JournalEntry) and isinstance(item.event, TurnStarted) and item.event.message == "m3":
                endless = item.event.turn
            if isinstance(item, HostStatus) and item.state == "working":
                working = item.turn
            if endless is not None and working == endless:
                await link.cancel()
                endless = None
            if isinstance(item, JournalEntry) and isinstance(item.event, PermissionAsked):
                asked = item.event
                with contextlib.suppress(AgentRefused):
                    await link.answer(
                        incarnation=item.position.incarnation,
                        session=asked.session,
                        request=asked.request,
                        digest=asked.digest,
                        option="yes",
                    )


async def until_settled(link: AgentLink) -> None:
    async with asyncio.timeout(LIMIT_S):
        state = AgentState()
        async with contextlib.aclosing(link.follow(START)) as stream:  # type: ignore[type-var]
            async for item in stream:
                if isinstance(item, JournalEntry):
                    state = state.after(item)
                    if set(MESSAGES) <= set(state.fates) and not state.queue and state.turn is None:
                        return
    raise AgentUnreachable


async def finish(agent: Agent) -> None:
    """Start it again without a fault, let it do what is left, and look at everything."""
    before = agent.spec.marker
    await host_lifecycle.spawn(agent.launch())
    assert process_sweep.survivors(before) == []
    await converse(agent)
    await gone(agent)
    assert agent.left_over() == []

    entries = agent.entries()
    positions = [entry.position for entry in entries]
    assert positions == sorted(set(positions))
    queued = Counter(entry.event.id for entry in entries if isinstance(entry.event, MessageQueued))
    assert queued == Counter(list(MESSAGES))
    started = Counter(entry.event.message for entry in entries if isinstance(entry.event, TurnStarted))
    ended = Counter(entry.event.message for entry in entries if isinstance(entry.event, TurnEnded))
    assert started == ended == queued

    state = fold(entries)
    assert not state.queue
    assert state.turn is None
    assert not state.permissions
    arrived = Counter(agent.prompts())
    for id_, message in MESSAGES.items():
        fate, times = state.fates[id_], arrived[message["text"]]
        if fate == "uncertain":
            assert times <= 1
        elif fate == "cancelled" and id_ in cancelled_unsent(entries):
            assert times == 0
        else:
            assert fate in {"finished", "cancelled", "cut"}
            assert times == 1, (id_, fate)


def cancelled_unsent(entries: list[JournalEntry]) -> set[str]:
    """Messages whose turn was cancelled before their prompt was written."""
    events = [entry.event for entry in entries]
    return {e.message for e in events if isinstance(e, TurnEnded) and e.stop_reason == "cancelled" and not e.accepted}
