"""Finding and ending whatever an agent left behind.

Runtimes start shells in sessions of their own, which outlive the runtime's process group. All processes of an agent
carry its marker in their environment (`VARIABLE`), and most are still below the agent host in the tree of processes:
by these two they are found. Where a sandbox has a pid namespace of its own, the kernel has ended them all before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.errors import FleetError

VARIABLE: Final = "MUSTER_AGENT"

#: Processes that fork while they are being ended are met again in the next round.
_ROUNDS: Final = 200
_PAUSE_S: Final = 0.02


class Unsweepable(FleetError):
    """Processes of an agent are left that would not go."""

    code = "agent.processes_left"


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """One process, as the kernel describes it (proc(5), /proc/PID/stat)."""

    pid: int
    parent: int
    state: str
    """R running, S sleeping, D in the kernel, T stopped, t traced, Z zombie, X dead."""
    name: str
    group: int = 0
    """The process group."""

    def is_called(self, names: Iterable[str]) -> bool:
        """Return whether its name, or the name of its program or script, is among `names`."""
        called = {self.name}
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")[:2]
            called.update(os.path.basename(os.fsdecode(word)) for word in words)
        return any(name in called or name[:15] == self.name for name in names)


def survivors(marker: str) -> list[int]:
    """Return the processes that carry the marker and are not dead; as root of all users, else of one's own."""
    if not marker:
        return []
    wanted = f"{VARIABLE}={marker}".encode()
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and _alive(pid):
                found.append(pid)
    return found


def name_of(pid: int) -> str:
    """Return what the kernel calls a process (proc(5), /proc/PID/comm); empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def markers() -> frozenset[str]:
    """Return the markers that processes carry; of those of other users only root is told.

    Two looks, since a process is not seen in the instant in which it becomes another program.
    """
    found: set[str] = set()
    prefix = f"{VARIABLE}=".encode()
    for pause in (_PAUSE_S, 0.0):
        for pid in _pids():
            with contextlib.suppress(OSError):
                variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                found.update(os.fsdecode(each[len(prefix) :]) for each in variables if each.startswith(prefix))
        time.sleep(pause)
    return frozenset(found)


def descendants(pid: int) -> list[ProcessEntry]:
    """Return all processes below `pid`."""
    by_parent: dict[int, list[ProcessEntry]] = {}
    for process in _processes():
        by_parent.setdefault(process.parent, []).append(process)
    found: list[ProcessEntry] = []
    waiting = [pid]
    while waiting:
        below = by_parent.pop(waiting.pop(), [])
        found.extend(below)
        waiting.extend(process.pid for process in below)
    return found


def children(pid: int) -> list[ProcessEntry]:
    """Return the processes whose parent is `pid`, the dead ones that no one collected included."""
    return [process for process in _processes() if process.parent == pid]


def of_group(group: int, *, with_argument: str) -> list[int]:
    """Return the living processes of a process group on whose command line `with_argument` stands."""
    argument = os.fsencode(with_argument)
    found = []
    for process in _processes():
        if process.group != group or process.state in "ZX":
            continue
        with contextlib.suppress(OSError):
            if argument in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0"):
                found.append(process.pid)
    return found


def sweep(marker: str, *, below: int | None = None) -> int:
    """End every process with the marker, and all below the process `below`; return how many there were.

    Each round stops them all before it kills any, so that none can start another in between. Two rounds must find
    nothing: a process is not seen in the instant in which it becomes another program.

    Raises:
        Unsweepable: some are left, for instance because they belong to another user.
    """
    met: set[int] = set()
    left: list[int] = []
    clean = False
    for _ in range(_ROUNDS):
        left = _left(marker, below)
        if not left and clean:
            return len(met)
        clean = not left
        _signal(left, signal.SIGSTOP)
        left += [pid for pid in _left(marker, below) if pid not in left]
        _signal(left, signal.SIGKILL)
        met.update(left)
        time.sleep(_PAUSE_S)
    raise Unsweepable(f"Processes {', '.join(map(str, left))} of the agent would not end. Look at them with ps.")


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _left(marker: str, below: int | None) -> list[int]:
    left = set(survivors(marker))
    if below is not None:
        left.update(process.pid for process in descendants(below) if process.state not in "ZX")
    left.discard(os.getpid())
    return sorted(left)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _processes() -> list[ProcessEntry]:
    return [process for pid in _pids() if (process := _look(pid)) is not None]


def _look(pid: int) -> ProcessEntry | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may itself hold any character.
    head, _, rest = stat.rpartition(")")
    fields = rest.split()
    if len(fields) < 3:
        return None
    return ProcessEntry(pid, int(fields[1]), fields[0], head.partition("(")[2], int(fields[2]))


def _alive(pid: int) -> bool:
    process = _look(pid)
    return process is not None and process.state not in "ZX"
