"""What a command takes in a shell: ``--help`` and ``ps`` beside ``python -c pass``, and CPU to a cut-off."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure
from bot.config.paths import Paths
from core import unix_sockets
from egress.paths import EgressPaths

ROUNDS = 21
AT_MOST_MS = 80.0
#: Of CPU, over that of ``python -c pass``.
HELP_CPU_MS = 80.0
PS_CPU_MS = 150.0
#: From the start of `muster up` in a new installation to the answer to what was typed; for an idle machine.
FIRST_ANSWER_MS = 1500.0
_STARTS = 5
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
        *_cpu_of_commands(),
        *_first_answers(),
        *_cut_off(),
    ]


def _first_answers() -> list[Figure]:
    """The time and the CPU of all threads from the start of `muster up` until it answers `!whoami`."""
    taken = [_first_answer() for _ in range(_STARTS)]
    wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
    return [
        Figure(name="muster up: until the first answer", value=wall, unit="ms", at_most=FIRST_ANSWER_MS),
        Figure(name="muster up: CPU until the first answer", value=cpu, unit="ms"),
    ]


def _first_answer() -> tuple[float, float]:
    muster = str(Path(sys.executable).with_name("muster"))
    with tempfile.TemporaryDirectory(prefix="mx-bench-") as home:
        Path(home, "muster.yaml").write_text("connectors: {}\n")
        environment = {"MUSTER_HOME": home, "HOME": home, "PATH": os.environ["PATH"]}
        began = time.perf_counter()
        with subprocess.Popen(
            (muster, "up"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"!whoami\n")
            process.stdin.flush()
            while b"You are" not in (line := process.stdout.readline()):
                if not line:
                    raise RuntimeError("muster up ended without an answer")
            wall = (time.perf_counter() - began) * 1000
            threads = Path(f"/proc/{process.pid}/task").iterdir()
            cpu = sum(int(Path(thread, "schedstat").read_text().split()[0]) for thread in threads) / 1e6
            process.stdin.close()
            process.stdout.read()
        return wall, cpu


def _cpu_of_commands() -> list[Figure]:
    """CPU of whole processes, in turn with Python's own."""
    muster = str(Path(sys.executable).with_name("muster"))
    with tempfile.TemporaryDirectory(prefix="mx-bench-") as home, _gateway(Path(home)) as environment:
        taken: dict[str, list[float]] = {"": [], "--help": [], "ps": []}
        for _ in range(ROUNDS):
            taken[""].append(_cpu((sys.executable, "-c", "pass"), environment))
            for word in ("--help", "ps"):
                taken[word].append(_cpu((muster, word), environment))
    bare, shown, ps = (statistics.median(each) for each in taken.values())
    return [
        Figure(name="muster --help over python -c pass: CPU", value=shown - bare, unit="ms", at_most=HELP_CPU_MS),
        Figure(name="muster ps over python -c pass: CPU", value=ps - bare, unit="ms", at_most=PS_CPU_MS),
    ]


@contextlib.contextmanager
def _gateway(home: Path) -> Iterator[dict[str, str]]:
    """Stand in for the gateway of an installation in `home`, and yield the environment of its commands."""
    environment = {"MUSTER_HOME": str(home), "HOME": str(home), "PATH": os.environ["PATH"]}
    paths = Paths.of(environment)
    paths.prepare()
    content = json.dumps({"state": "done", "text": "| agent |\n| --- |\n| coder0 |", "data": []}).encode()
    with contextlib.closing(unix_sockets.listen(paths.gateway_socket)) as listening:
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):  # the end: it is shut down
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(2**16)
                        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield environment
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            server.join()


def _cpu(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Run a command, and return its CPU in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


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
