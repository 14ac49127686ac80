"""What a dispatch decision takes while 10,000 tasks wait: read off the register, decided, and written.

Three operators, five roles and four urgencies, twenty agents, and six windows that all work draws on. A decision is
either one that gives a task to an agent, with its transaction, or one that finds that all must wait.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.paced import WINDOWS as PACED
from benchmarks.paced import paced
from budget.dispatch.next_task import DispatchAgent
from budget.windows.even_spread_line import EvenSpreadLine, Window
from budget.windows.pace_admission import WindowState
from database.queries import tasks
from database.queries.spending import usage_ledger
from database.queries.task_states import TaskEvent
from tests.database.queries.rows import row
from tests.scheduler.dispatch.dispatcher import NOW, STEP, Desk

TASKS, AGENTS, WINDOWS = 10_000, 20, 6
ROUNDS = 40
MOST_MS = 20.0
_DAY = 86_400.0


def measure() -> list[Figure]:
    """Return milliseconds of a decision."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        return asyncio.run(_measure(Path(folder)))


async def _measure(folder: Path) -> list[Figure]:
    desk = await Desk.open(folder)
    try:
        await desk.fill(TASKS)
        desk.standings = {standing.window.key: standing for standing in map(_window, range(WINDOWS))}
        names = [f"agent{number}" for number in range(AGENTS)]
        desk.paper.agents = {
            name: DispatchAgent(name=name, role=f"role{place % 5}", runtime="sim", readiness="busy")
            for place, name in enumerate(names)
        }
        await desk.dispatcher.look()
        waiting = [await _timed(desk) for _ in range(ROUNDS)]
        given = await _give(desk, names)
        desk.dispatcher.snapshot = paced(desk.store, lambda: desk.now).snapshot
        paced_ = await _give(desk, names)
        assert len(desk.paper.given) == 2 * ROUNDS
    finally:
        await desk.store.close()
    return [
        Figure(
            name=f"{TASKS:,} wait: one is given to an agent (median)",
            value=_ms(given),
            unit="ms",
            at_most=MOST_MS,
        ),
        Figure(name="the slowest of these", value=max(given) * 1000, unit="ms"),
        Figure(
            name=f"with the pace of {PACED} windows read off the register (median)",
            value=_ms(paced_),
            unit="ms",
        ),
        Figure(name="the slowest of these", value=max(paced_) * 1000, unit="ms"),
        Figure(name="all of them must wait (median)", value=_ms(waiting), unit="ms", at_most=MOST_MS),
        Figure(name="the slowest of these", value=max(waiting) * 1000, unit="ms"),
    ]


async def _give(desk: Desk, names: Sequence[str]) -> list[float]:
    """Return seconds of each decision that gives a task to an agent, while each has spent something since the last."""
    taken = []
    for _ in range(ROUNDS):
        number = len(desk.paper.given)
        name = names[number % AGENTS]
        desk.paper.agents[name] = replace(desk.paper.agents[name], readiness="idle")
        taken.append(await _timed(desk, steps=1))
        desk.paper.agents[name] = replace(desk.paper.agents[name], readiness="busy")
        task, _ = desk.paper.given[-1]
        async with desk.store.write(STEP) as tx:
            await tasks.change(tx, task, TaskEvent.FINISH, now=desk.now, ended_at=desk.now)
            used = row(number, agent=name, task=task, ended_at=desk.now - 1.0, usd=None)
            await usage_ledger.add(tx, [used])
    return taken


async def _timed(desk: Desk, steps: int = 0) -> float:
    began = time.perf_counter()
    if steps:
        await desk.dispatcher._step()
    else:
        await desk.dispatcher.look()
    return time.perf_counter() - began


def _ms(taken: list[float]) -> float:
    return statistics.median(taken) * 1000


def _window(number: int) -> WindowState:
    key = f"host/tokens/{number}"
    window = Window(
        key=key,
        scope="host",
        unit="tokens",
        limit=1e9,
        begins_at=NOW - _DAY,
        resets_at=NOW + 6 * _DAY,
        length_s=7 * _DAY,
        certainty="user",
        used=1e6,
        used_at=NOW,
        per_token=None,
    )
    line = EvenSpreadLine(
        window=key, drawn_at=NOW - _DAY, drawn_used=0.0, limit=1e9, resets_at=NOW + 6 * _DAY, cause="first"
    )
    return WindowState(window=window, line=line)
