"""Agent hosts from outside: starting them, finding those that run, clearing away what is left of the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fleet import journal, lock, sweep
from fleet.control import AgentLink
from fleet.errors import AgentUnreachable, FleetError
from fleet.events import Closing, Opened, Position, RuntimeDied, RuntimeFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleet.control import Hello
    from fleet.events import Entry
    from fleet.spec import AgentSpec

LOG: Final = "host.log"
SPEC: Final = "host.json"
#: What an agent host may know of the environment of whoever starts it.
_INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "MUSTER_HOME")
#: In the environment of whoever starts an agent host: where that agent host is to die (register.crashpoints).
CRASH_VARIABLE: Final = "MUSTER_HOST_CRASH"
_LOG_BYTES: Final = 2**20
_LOG_TAIL: Final = 4000
_ASK_AGAIN_S: Final = 0.05
_DIE_S: Final = 5.0
#: An agent host takes its lock at once; after so many looks without it, it is taken for gone.
_SILENT_LOOKS: Final = 100


@dataclass(frozen=True, slots=True)
class RunningHost:
    """An agent host that holds its lock and answers."""

    folder: Path
    socket: Path
    hello: Hello


class SpawnFailed(FleetError):
    """The agent host did not start; the message has its last words."""


async def spawn(spec: AgentSpec, *, timeout_s: float = 60.0) -> int:
    """Start a detached agent host and return its process id once it answers.

    It belongs to nobody: whoever started it may end, and neither waits for it nor takes it along.

    Raises:
        SpawnFailed: it ended before it answered, or did not answer in time.
        AgentRefused: another agent host of this agent runs already.
    """
    folder = Path(spec.folder)
    log = await asyncio.to_thread(_prepare, spec, folder)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "fleet.host.process", "--detach", str(folder / SPEC)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
        )
    finally:
        os.close(log)
    if await process.wait() != 0:
        raise SpawnFailed(f"The agent host did not start. {_log_tail(folder)}".strip())
    try:
        async with asyncio.timeout(timeout_s):
            return await _greeted(spec, folder)
    except TimeoutError:
        raise SpawnFailed(f"The agent host did not answer in {timeout_s:g} s. {_log_tail(folder)}".strip()) from None


async def _greeted(spec: AgentSpec, folder: Path) -> int:
    """The process id of the agent host of this launch, once it says hello."""
    seen = False
    silent = 0
    while True:
        with contextlib.suppress(AgentUnreachable):
            async with await AgentLink.connect(spec.socket) as link:
                if link.hello.launch_id == spec.launch_id:
                    return link.hello.pid
                raise SpawnFailed(f"Another agent host of {spec.agent} was started at the same time.")
        if is_running(folder):
            seen = True
        elif seen or (silent := silent + 1) > _SILENT_LOOKS:
            # It came and went in between: where its journal says why, that is as good as an answer.
            pid = await asyncio.to_thread(_closed_in_order, folder, spec.launch_id)
            if pid is not None:
                return pid
            raise SpawnFailed(f"The agent host ended before it answered. {_log_tail(folder)}".strip())
        await asyncio.sleep(_ASK_AGAIN_S)


def is_running(folder: Path) -> bool:
    """Whether the agent of this folder has an agent host, by its lock."""
    return lock.holder(folder) is not None


async def find(places: Iterable[tuple[Path, Path]]) -> list[RunningHost]:
    """The agent hosts that hold their lock and answer, among these pairs of folder and socket."""
    found = []
    for folder, socket in places:
        if not is_running(folder):
            continue
        with contextlib.suppress(FleetError):
            async with await AgentLink.connect(socket) as link:
                found.append(RunningHost(folder, socket, link.hello))
    return found


def last_words(folder: Path) -> str:
    """Why an agent host is gone, as far as it could still say: from its journal, or else from its log."""
    closing = ""
    for entry in reversed(journal.read_last(folder, 50)):
        match entry.event:
            case RuntimeDied(reason=reason, stderr=stderr) | RuntimeFailed(reason=reason, stderr=stderr):
                return f"{reason}\n{stderr}".strip()
            case Closing(reason=reason):
                closing = reason
            case Opened():
                break
            case _:
                continue
    return closing or _log_tail(folder)


def clear_away(folder: Path) -> int:
    """End every process that is left of an agent whose host is gone; return how many there were.

    Raises:
        FleetError: the agent host runs, or something would not end.
    """
    if is_running(folder):
        raise FleetError(f"The agent host of {folder.name} runs; nothing of it is left over.")
    return sum(sweep.sweep(marker) for marker in _markers(folder))


async def kill(folder: Path) -> int:
    """End an agent host, its runtime and everything they started, at once and without asking them.

    Returns:
        How many processes that were.

    Raises:
        fleet.sweep.Unsweepable: something would not end.
    """
    return await asyncio.to_thread(kill_now, folder)


def kill_now(folder: Path) -> int:
    """What `kill` does, while the caller waits."""
    deadline = time.monotonic() + _DIE_S
    killed = set()
    while (pid := lock.holder(folder)) is not None and time.monotonic() < deadline:
        if pid and pid not in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(_ASK_AGAIN_S)
    return len(killed) + sum(sweep.sweep(marker) for marker in _markers(folder))


def tail(folder: Path, count: int) -> list[Entry]:
    """The last entries of the agent's journal, whether its host runs or not."""
    return journal.read_last(folder, count)


def _markers(folder: Path) -> set[str]:
    """The markers that the agent's launches had."""
    for incarnation in reversed(journal.incarnations(folder)):
        for entry in journal.read(folder, Position(incarnation, 0), 1):
            if isinstance(entry.event, Opened):
                earlier = entry.event.carried.get("markers")
                return {entry.event.marker, *(m for m in earlier or () if isinstance(m, str))} - {""}
    return set()


def _closed_in_order(folder: Path, launch_id: str) -> int | None:
    """The process id of a launch that is over in good order."""
    for incarnation in reversed(journal.incarnations(folder)):
        entries = journal.read(folder, Position(incarnation, 0), 1)
        if not entries or not isinstance(entries[0].event, Opened):
            continue
        last = journal.last_entry(folder)
        over = entries[0].event.launch_id == launch_id and last is not None and isinstance(last.event, Closing)
        return entries[0].event.pid if over else None
    return None


def _prepare(spec: AgentSpec, folder: Path) -> int:
    """The folder, the specification and an empty log in it; a descriptor of the log."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_running(folder):
        raise SpawnFailed(f"{spec.agent} has an agent host already.")
    spec.write(folder / SPEC)
    log = folder / LOG
    if log.exists() and log.stat().st_size:
        log.replace(log.with_suffix(".log.1"))
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    if crash := os.environ.get(CRASH_VARIABLE):
        environment["MUSTER_CRASH"] = crash
    return environment


def _log_tail(folder: Path) -> str:
    try:
        text = (folder / LOG).read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return text
