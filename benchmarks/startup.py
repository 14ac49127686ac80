"""What a command takes in a shell before it acts: ``muster --help`` beside ``python -c pass``, and CPU to a cut-off."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from bot.config.paths import Paths
from core import unix_sockets
from egress.paths import EgressPaths

ROUNDS = 21
AT_MOST_MS = 120.0
#: Of CPU, from the start of the process until the egress has the message that closes an agent's way out.
CUTOFF_CPU_MS = 150.0
_AGENT = "coder0"


def measure() -> list[Figure]:
    """Run both in turn, and compare the medians."""
    muster = (str(Path(sys.executable).with_name("muster")), "--help")
    bare = (sys.executable, "-c", "pass")
    _time(muster), _time(bare)  # read from the disk once
    taken: list[tuple[float, float]] = [(_time(muster), _time(bare)) for _ in range(ROUNDS)]
    help_ms, bare_ms = (statistics.median(column) for column in zip(*taken, strict=True))
    return [
        Figure(name="python -c pass, median", value=bare_ms, unit="ms"),
        Figure(name="muster --help, median", value=help_ms, unit="ms"),
        Figure(name="muster --help over python -c pass", value=help_ms - bare_ms, unit="ms", at_most=AT_MOST_MS),
        *_cut_off(),
    ]


def _cut_off() -> list[Figure]:
    """CPU, which does not depend on what else the machine does as much as the time does."""
    muster = str(Path(sys.executable).with_name("muster"))
    with tempfile.TemporaryDirectory(prefix="mx-bench-") as home:
        paths = Paths.of({"MUSTER_HOME": home, "HOME": home})
        paths.prepare()
        with contextlib.closing(
            unix_sockets.listen(EgressPaths(state=paths.state, sockets=paths.sockets).control)
        ) as egress:
            egress.listen()
            egress.settimeout(30)
            figures = []
            for words, last in ((("egress", "cutoff", _AGENT), "/deny"), (("estop",), "/estop")):
                taken = statistics.median(_cpu_until(egress, (muster, *words), last, home) for _ in range(ROUNDS))
                name = f"muster {words[0]}{' cutoff' if len(words) > 1 else ''}: CPU until the egress has the message"
                figures.append(Figure(name=name, value=taken, unit="ms", at_most=CUTOFF_CPU_MS))
            return figures


def _cpu_until(egress: socket.socket, command: tuple[str, ...], last: str, home: str) -> float:
    """Run a command, stand in for its egress until it sends `last`, and return the CPU that it has used, in ms."""
    environment = {"MUSTER_HOME": home, "HOME": home, "PATH": os.environ["PATH"]}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        while True:
            connection, _ = egress.accept()
            with connection:
                line = connection.recv(2**16).split(b"\r\n", 1)[0].decode()
                # The first number is nanoseconds on a CPU (Linux, Documentation/scheduler/sched-stats.rst).
                used = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
                answer = json.dumps({"agents": [_AGENT], "streams": 0}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
            if line.split()[1] == last:
                break
        if process.wait(30):
            raise RuntimeError(f"{' '.join(command)} failed")
        return used / 1e6


def _time(command: tuple[str, ...]) -> float:
    """Return milliseconds from start to end."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000
