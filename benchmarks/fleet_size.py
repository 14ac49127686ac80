"""How `ps`, the watchdog's sweep and the start grow with the fleet: 10, 100 and 1,000 agents.

The agents are rows in the register with journals on the disk. Stopped ones are that and nothing else; running ones have
an agent host each, for which one process stands in. The chat is in memory, so `ps` is everything from the operator's
message to the reply, but the network. Growth is the time at ten times as many agents: ten would be linear.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.figures import Figure
from bot.app.orchestrator import Orchestrator
from core.crash_points import declare
from database.queries.agents import agents
from database.queries.agents.agents import AgentRow, PositionRow
from fleet.control.host_spec import CONTROL_PROTOCOL
from fleet.journal import reader
from fleet.journal.events import Closing, Event, JournalEntry, JournalPosition, Opened, RuntimeStarted
from tests.bot.orchestrator import House, house

SIZES = (10, 100, 1000)
ROUNDS = 9
LIMIT = 300.0
PS_AT_MOST_MS = 250.0
SWEEP_AT_MOST_MS = 200.0
#: Of CPU, until 1,000 agents that run are known to be idle.
START_CPU_AT_MOST_MS = 10_000.0
#: Of the step from 100 to 1,000 agents; a line through zero would be 10.
GROWTH_AT_MOST = 12.0
#: No sweep comes in between.
_SETTINGS = "watchdog: {every: 1h}\n"
_FILL = declare("benchmark.fill")


def measure() -> list[Figure]:
    """Fill installations with agents, start, ask and sweep."""
    taken = {size: asyncio.run(_of_size(size)) for size in SIZES}
    figures = []
    bounds = {
        "!ps: CPU": PS_AT_MOST_MS,
        "!ps --all: CPU": PS_AT_MOST_MS,
        "sweep: CPU": SWEEP_AT_MOST_MS,
        "start, all running: CPU": START_CPU_AT_MOST_MS,
    }
    for name in taken[SIZES[0]]:
        for size in SIZES:
            bound = bounds.get(name) if size == SIZES[-1] else None
            figures.append(Figure(name=f"{name}, {size:,} agents", value=taken[size][name], unit="ms", at_most=bound))
        figures.append(Figure(name=f"{name}, 100 to 10", value=taken[100][name] / taken[10][name], unit="times"))
        growth = taken[1000][name] / taken[100][name]
        # How long a thing takes depends on what else the machine does, what it costs much less so.
        bound = GROWTH_AT_MOST if name.endswith("CPU") else None
        figures.append(Figure(name=f"{name}, 1,000 to 100", value=growth, unit="times", at_most=bound))
    return figures


async def _of_size(size: int) -> dict[str, float]:
    """Return what each thing takes with so many agents, in milliseconds."""
    names = [f"agent{number}" for number in range(size)]
    found: dict[str, float] = {}
    async with asyncio.timeout(LIMIT):
        async with _filled(names, wanted="stopped") as home:
            began, computed = time.perf_counter(), time.process_time()
            async with home.open() as orchestrator:
                await _all_are(orchestrator, "stopped", size)
                found["start, all stopped"] = (time.perf_counter() - began) * 1000
                found["start, all stopped: CPU"] = (time.process_time() - computed) * 1000
        async with _filled(names, wanted="running") as home, _hosts(home, names):
            began, computed = time.perf_counter(), time.process_time()
            async with home.open() as orchestrator:
                await _all_are(orchestrator, "idle", size)
                found["start, all running"] = (time.perf_counter() - began) * 1000
                found["start, all running: CPU"] = (time.process_time() - computed) * 1000
                (sweep,) = (job.act for job in orchestrator.jobs.table if job.name == "watchdog")
                acts = {"!ps": lambda: home.ask("!ps"), "!ps --all": lambda: home.ask("!ps --all"), "sweep": sweep}
                for name, act in acts.items():
                    found[name], found[f"{name}: CPU"] = await _medians(act)
    return found


async def _medians(act: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return milliseconds that went by, and those of CPU, after one round to warm up."""
    taken, computed = [], []
    for _ in range(ROUNDS + 1):
        began, worked = time.perf_counter(), time.process_time()
        await act()
        taken.append((time.perf_counter() - began) * 1000)
        computed.append((time.process_time() - worked) * 1000)
    return statistics.median(taken[1:]), statistics.median(computed[1:])


async def _all_are(orchestrator: Orchestrator, state: str, size: int) -> None:
    """Wait until every agent is known to be in this state."""
    while True:
        # Looking at all of them costs something, too; so first it is asked whether there is anything to see.
        supervisors = list(orchestrator.agents._supervisors.values())
        known = sum(supervisor.host_runs is False or supervisor.seen is not None for supervisor in supervisors)
        if known == size:
            views = await orchestrator.agents.view()
            if sum(view.liveness.state == state for view in views) == size:
                return
        await asyncio.sleep(0.02)


# --- agents that are only written down ---------------------------------------------------------------------------


@asynccontextmanager
async def _filled(names: Sequence[str], *, wanted: str) -> AsyncIterator[House]:
    """A house whose agents were launched once, told all, and run or were stopped."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        async with house(Path(folder), settings=_SETTINGS, roster=_roster(names)) as home:
            async with home.open() as orchestrator, orchestrator.store.write(_FILL) as tx:
                for name in names:
                    last = _write_journal(home.paths.agent_folder(name), name, stopped=wanted == "stopped")
                    await agents.add(tx, _row(name, str(home.paths.workspace(name)), wanted))
                    place = PositionRow(agent=name, incarnation=1, seq=last, view_incarnation=1, view_seq=last)
                    await agents.move(tx, place, time.time())
            try:
                yield home
            finally:
                # Nothing of these agents runs: the house need not look for them one by one.
                shutil.rmtree(home.paths.agents)
                home.paths.agents.mkdir()


def _roster(names: Sequence[str]) -> str:
    return "agents:\n" + "".join(f"  - {{name: {name}, role: coder, runtime: sim}}\n" for name in names)


def _row(name: str, workspace: str, wanted: str) -> AgentRow:
    now = time.time()
    return AgentRow(
        name=name,
        role="coder",
        runtime="sim",
        model=None,
        sandbox="bubblewrap",
        workspace=workspace,
        wanted=wanted,
        at_once=False,
        keep_session=True,
        state="idle" if wanted == "running" else "stopped",
        detail=None,
        launch_id=f"launch-{name}",
        launched_by="memory:@ana",
        connector="memory",
        room="room",
        thread_key=f"th/launch-{name}",
        started_at=now,
        stopped_at=None if wanted == "running" else now,
    )


def _write_journal(folder: Path, name: str, *, stopped: bool) -> int:
    """Return a journal of one incarnation; the number of its last entry."""
    happened: list[Event] = [
        Opened(agent=name, launch_id=f"launch-{name}", marker=f"bench-{name}", pid=1, protocol=CONTROL_PROTOCOL),
        RuntimeStarted(pid=1, session="s1", loaded=False),
    ]
    if stopped:
        happened.append(Closing(reason="asked to stop"))
    path = reader.path_of(folder, 1)
    path.parent.mkdir(parents=True, mode=0o700)
    now = time.time()
    entries = [
        JournalEntry(position=JournalPosition(1, seq), at=now, event=each) for seq, each in enumerate(happened, start=1)
    ]
    path.write_text("".join(json.dumps(entry.to_json()) + "\n" for entry in entries))
    return len(entries)


@asynccontextmanager
async def _hosts(home: House, names: Sequence[str]) -> AsyncIterator[None]:
    """Agent hosts for all of them."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.agent_hosts", str(home.paths.home), *names), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError("the stand-in for agent hosts ended at its start; what it says is above")
        yield
    finally:
        process.kill()
        await process.wait()
