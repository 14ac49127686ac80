"""The process with which an agent host ends, where it is not to outlive it.

Process numbers are used again, so a process is named by its number and its start time, and watched by a pidfd, which is
readable once the process has ended (pidfd_open(2)).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Fields of /proc/PID/stat after the name in parentheses, up to the start time (proc_pid_stat(5), field 22).
_START_TIME: Final = 19


def this_process() -> str:
    """Return the name of this process for `watched`."""
    return f"{os.getpid()}/{_started(os.getpid())}"


@contextmanager
def watched(owner: str, ended: Callable[[], None]) -> Iterator[None]:
    """Call `ended` in the running event loop, once, when a process has ended; at once if it has ended already.

    Args:
        owner: the process, as `this_process` named it; empty: none is watched.
        ended: what to do.
    """
    if not owner:
        yield
        return
    loop = asyncio.get_running_loop()
    number, _, started = owner.partition("/")
    try:
        descriptor = os.pidfd_open(int(number))
    except ProcessLookupError:
        loop.call_soon(ended)
        yield
        return

    def over() -> None:
        loop.remove_reader(descriptor)
        ended()

    try:
        # Looked up after the pidfd was opened: it is the same process, or the number was used again.
        if _started(int(number)) == started:
            loop.add_reader(descriptor, over)
        else:
            loop.call_soon(ended)
        yield
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _started(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The name may have spaces and parentheses of its own.
    return text.rpartition(")")[2].split()[_START_TIME]
