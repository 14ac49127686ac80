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
from typing import Final

#: From here on processes are counted by user namespace (Linux commit 21d1c5e386bc, "Reimplement RLIMIT_NPROC").
_COUNTED_APART: Final = (5, 14)


def words(memory: int | None, pids: int | None, *, release: str) -> tuple[str, ...]:
    """The limits as `fleet.sandbox.relay` takes them.

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


def _version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match is not None else (0, 0)
