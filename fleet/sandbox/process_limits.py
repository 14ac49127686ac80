"""What each process of a sandbox may use of memory, and how many there may be: what can be said without a control group
(`fleet.sandbox.cgroup`). Pure.

Memory is bounded by RLIMIT_DATA, which counts what a process may write in; not by RLIMIT_AS, which also counts what is
merely reserved: Node.js reserves gigabytes at its start and does not start under it. It bounds each process by itself,
not all of them together.

Processes are bounded by RLIMIT_NPROC. Since Linux 5.14 the kernel counts them by user and user namespace, so that
within a sandbox only the sandbox's own count; before, one would count everything that the person runs, so there it is
not set. It does not bind root, whose sandboxes are root's to the kernel (fork(2)): for the system's own user only a
control group does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

#: From here on processes are counted by user namespace (Linux commit 21d1c5e386bc, "Reimplement RLIMIT_NPROC").
_COUNTED_APART: Final = (5, 14)


def words(memory: int | None, pids: int | None, *, release: str) -> tuple[str, ...]:
    """Return the limits as `fleet.sandbox.egress_relay` takes them.

    Args:
        memory: bytes.
        pids: processes and threads.
        release: of the kernel, as ``uname -r`` says it.
    """
    found = []
    if memory is not None:
        found.append(f"data={memory}")
    if pids is not None and _version(release) >= _COUNTED_APART:
        found.append(f"processes={pids}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Unheld:
    """A limit of a profile that this machine cannot hold, or not as it is meant."""

    key: Literal["memory", "pids"]
    what: str
    """What happens instead, as a sentence."""
    way: str
    at_all: bool
    """Whether some part of it holds."""


_GROUPS: Final = "give its agents `hosting: systemd` (Linux with control groups of version 2)."


def unheld(memory: int | None, pids: int | None, *, release: str, root: bool, grouped: bool) -> list[Unheld]:
    """Return the limits of a bubblewrap profile that do not hold as they are meant.

    Args:
        memory: bytes.
        pids: processes and threads.
        release: of the kernel, as ``uname -r`` says it.
        root: whether Muster runs as root.
        grouped: whether each of its agents has a control group (`fleet.sandbox.cgroup`), which holds all of it.
    """
    if grouped:
        return []
    found = []
    if memory is not None:
        each = (
            "The limit holds each process by itself, and the agent's files in memory. It does not hold them together."
        )
        found.append(Unheld("memory", each, f"To bound them together, {_GROUPS}", at_all=True))
    if pids is not None and root:
        what = "The agents may start any number of processes: the kernel does not count those of root."
        found.append(Unheld("pids", what, f"Run Muster as an ordinary user, or {_GROUPS}", at_all=False))
    elif pids is not None and _version(release) < _COUNTED_APART:
        what = f"The agents may start any number of processes: Linux {release} counts a user's on the whole machine."
        found.append(Unheld("pids", what, f"Install Linux 5.14 or newer, or {_GROUPS}", at_all=False))
    return found


def _version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match is not None else (0, 0)
