"""Ending an agent's container, whatever it was just about to do.

Its processes carry the agent's marker (`fleet.supervision.process_sweep`). But a container is supervised by a process
that is not the agent host's: of podman by conmon(8), of docker by its service. And one whose client was killed while it
was being made has no process of the agent's yet, and is unknown to the engine: it waits in the hands of its supervisor,
for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fleet.supervision import process_sweep

#: The engine's program has so long to remove a container.
_REMOVE_S: Final = 30.0
#: A supervisor whose container is gone has so long to put its things away.
_LEAVE_S: Final = 10.0
_PAUSE_S: Final = 0.02
_SUPERVISOR: Final = "conmon"
#: How env(1) ends when the engine is not there, as on another machine that a backup was restored on: then there is
#: nothing of it either, but what the supervisors held.
_NO_PROGRAM: Final = 127
#: What a supervisor starts to put its things away.
_ENGINE: Final = "podman"


def remove(command: Sequence[str]) -> None:
    """End a container with all that runs in it.

    Args:
        command: removes it by its name, the last word (`fleet.control.host_spec.AgentSpec.removal`). Empty: there is
        none.

    Raises:
        fleet.supervision.process_sweep.Unsweepable: it may be there still.
    """
    if not command:
        return
    _end_supervised(command[-1])
    deadline = time.monotonic() + _REMOVE_S
    while True:
        try:
            done = subprocess.run(
                list(command), stdin=subprocess.DEVNULL, capture_output=True, env={}, timeout=_REMOVE_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise process_sweep.Unsweepable(f"The agent's container could not be ended: {error}.") from None
        said = done.stderr.decode("utf-8", "replace").strip()
        if done.returncode in (0, _NO_PROGRAM) or "no such container" in said.lower():
            return
        if "in progress" not in said or time.monotonic() > deadline:
            shown = "".join(sign for sign in said[-300:] if sign.isprintable()) or f"status {done.returncode}"
            raise process_sweep.Unsweepable(f"The agent's container could not be ended: {shown}.")
        # Its own supervisor is at it.
        time.sleep(_PAUSE_S)


def _end_supervised(name: str) -> None:
    """End what the supervisors of this container hold, and let them go."""
    deadline = time.monotonic() + _LEAVE_S
    while pids := _supervisors(name):
        late = time.monotonic() > deadline
        for pid in pids:
            held = [process.pid for process in process_sweep.children(pid) if late or process.name != _ENGINE]
            for each in (*held, *((pid,) if late else ())):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(each, signal.SIGKILL)
        if time.monotonic() > deadline + _LEAVE_S:
            raise process_sweep.Unsweepable(
                f"Processes {', '.join(map(str, pids))}, which hold the container {name}, stay."
            )
        time.sleep(_PAUSE_S)


def _supervisors(name: str) -> list[int]:
    """Processes that look like this container's supervisors, and are in no sandbox: an agent can call its own so."""
    found = []
    outside = os.readlink("/proc/self/ns/pid")
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            if os.path.basename(words[0]) != _SUPERVISOR.encode() or name.encode() not in words:
                continue
            if os.readlink(f"/proc/{entry}/ns/pid") == outside:
                found.append(int(entry))
    return found
