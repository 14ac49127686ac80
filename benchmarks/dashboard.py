"""From a key in the dashboard until its effect is painted, with 1,000 agents that change.

The dashboard is a process of its own in a terminal of its own. Once its documents change 60 times a second in its
memory, and once twice a second over a gateway's socket, as an orchestrator sends them. Both processes read the same
clock.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import resource
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, percentile
from bot.config.paths import Paths
from bot.read_models.fleet import AgentGate, FleetAgent, FleetModel
from bot.read_models.provenance import Provenance
from bot.read_models.waiting import WaitingModel
from tests.bot.gateway_feed.small_gateway import SmallGateway

AGENTS = 1_000
UPDATES = 60
#: Updates a second over the socket: no more are sent.
SENT = 2
KEYS = 300
COLUMNS, ROWS = 120, 40
#: Milliseconds for a key.
AT_MOST = 100.0
_STATES = ("idle", "working", "waiting", "failed")


def agents_at(step: int) -> Iterator[FleetAgent]:
    """Yield the agents; every tenth changes with each step."""
    for number in range(AGENTS):
        changes = step if number % 10 == 0 else 0
        yield FleetAgent(
            name=f"agent{number:04}",
            role="coder",
            runtime="claude",
            model="opus",
            wanted="running",
            state=_STATES[(number + changes) % len(_STATES)],
            seen=Provenance(source="protocol", at=1_700_000_000.0 + step),
            activity=f"Edit src/module{number}.py, step {changes}",
            sandbox="bubblewrap",
            workspace="/work",
            host="host",
            tenant_id="t",
            tokens_today=1_000 * number + changes,
            gate=AgentGate(),
        )


def measure() -> list[Figure]:
    """Press keys, and wait for each to be painted."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-", dir="/tmp") as folder:
        in_memory, busy = _pressed("-")
        stop = threading.Event()
        serving = threading.Thread(target=lambda: asyncio.run(_serve(Path(folder), stop)))
        serving.start()
        try:
            over_socket, used = _pressed(folder)
        finally:
            stop.set()
            serving.join()
    figures = []
    for name, taken, cpu in (
        (f"{UPDATES} updates a second in memory", in_memory, busy),
        (f"{SENT} whole fleets a second over the socket", over_socket, used),
    ):
        figures += [
            Figure(name=f"a key, {name}, p50", value=percentile(taken, 50), unit="ms"),
            Figure(name=f"a key, {name}, p95", value=percentile(taken, 95), unit="ms", at_most=AT_MOST),
            Figure(name=f"CPU of the dashboard, {name}", value=100 * cpu, unit="%"),
        ]
    return figures


async def _serve(home: Path, stop: threading.Event) -> None:
    paths = Paths.of({"MUSTER_HOME": str(home), "HOME": str(home)})
    paths.prepare()
    async with SmallGateway(paths.gateway_socket).running() as gateway:
        await gateway.put("waiting", WaitingModel())
        step = 0
        while not stop.is_set():
            await gateway.put("fleet", FleetModel(agents=tuple(agents_at(step))))
            step += 1
            await asyncio.sleep(1 / SENT)


def _pressed(home: str) -> tuple[list[float], float]:
    """Return the milliseconds of each key, and the share of a core that the dashboard used."""
    seed = random.randrange(1_000_000)
    print(f"dashboard: seed {seed}", file=sys.stderr)
    rng = random.Random(seed)
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    told, tells = os.pipe()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.dashboard_subject", str(tells), home]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    subject = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, pass_fds=(tells,), env=environment)
    os.close(tells)
    os.close(slave)
    threading.Thread(target=_drain, args=(master,), daemon=True).start()
    taken = []
    try:
        with os.fdopen(told) as answers:
            answers.readline()  # the first row is chosen when the fleet is there
            for number in range(KEYS):
                time.sleep(rng.uniform(0.02, 0.1))
                pressed = time.monotonic()
                os.write(master, b"k" if number % 100 == 99 else b"j")
                taken.append(1_000 * (float(answers.readline()) - pressed))
            os.write(master, b"q")
            subject.wait(30)
    finally:
        subject.kill()
        subject.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return taken, cpu / (time.monotonic() - began)


def _drain(master: int) -> None:
    try:
        while os.read(master, 65_536):
            pass
    except OSError:
        return  # the terminal is gone
