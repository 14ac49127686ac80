"""Agent hosts from outside: starting them, finding those that run, clearing away what is left of the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from fleet import hosting
from fleet.control.agent_host_client import AgentLink
from fleet.control.host_spec import AgentSpec
from fleet.errors import AgentUnreachable, FleetError
from fleet.hosting import Hosting
from fleet.hosting.host_command_line import CRASH_VARIABLE as CRASH_VARIABLE
from fleet.hosting.host_command_line import LOG as LOG
from fleet.hosting.host_command_line import SPEC as SPEC
from fleet.hosting.systemd_unit_text import WANTED
from fleet.journal import reader
from fleet.journal.events import Closing, JournalEntry, JournalPosition, Opened, RuntimeDied, RuntimeFailed
from fleet.supervision import container_cleanup, host_lock, offline_orders, process_sweep

_LOG_TAIL: Final = 4000
_ASK_AGAIN_S: Final = 0.05
#: Seconds between two looks at the processes of an agent host that has not answered yet.
_LOOK_AGAIN_S: Final = 0.3
_DIE_S: Final = 5.0
#: Between two looks whether what was killed is gone.
_DEATH_PAUSE_S: Final = 0.005
#: An agent host has so long to leave whoever started it.
DETACH_S: Final = 30.0
#: When no one waits for a start any more, the agent host has so long to take its lock.
SETTLE_S: Final = 5.0


class SpawnFailed(FleetError):
    """The agent host did not start; the message has its last words."""

    code = "agent.not_started"


class SpawnBarred(SpawnFailed):
    """It is not started before someone does what the message says, however often that is tried."""


class HostNotReady(SpawnFailed):
    """The agent host runs and has not answered yet; it may still do so."""


async def spawn(spec: AgentSpec, *, timeout_s: float = 60.0) -> int:
    """Start a detached agent host and return its process id once it answers.

    It belongs to no one: whoever started it may end, and neither waits for it nor takes it along. A cancelled start is
    either done, and the agent host holds its lock, or undone, and no process is left of it.

    Raises:
        HostNotReady: it did not answer in time, and was left alone.
        SpawnFailed: it ended before it answered, or did not get as far as its lock and was ended.
        AgentRefused: another agent host of this agent runs already.
    """
    folder = Path(spec.folder)
    place = hosting.of(spec)
    birth = asyncio.create_task(asyncio.to_thread(_bear, spec, folder, place), name=f"start {spec.agent}")
    try:
        group = await asyncio.shield(birth)
        return await _greeted(spec, folder, place, group, timeout_s)
    except asyncio.CancelledError:
        await _to_the_end(asyncio.create_task(_settle(birth, folder, place), name=f"settle {spec.agent}"))
        raise


def _bear(spec: AgentSpec, folder: Path, place: Hosting) -> int:
    """Start an agent host where it is to run; its process group."""
    _prepare(spec, folder)
    try:
        return place.start(DETACH_S)
    except hosting.Stuck as stuck:
        _end_newborn(stuck.group, folder, place)
        raise SpawnFailed(f"{str(stuck).rstrip('.')}, and was ended.") from None
    except hosting.NotHosted as error:
        failed = SpawnBarred if isinstance(error, hosting.Barred) else SpawnFailed
        raise failed(f"{error} {_log_tail(folder)}".strip()) from None


async def _greeted(spec: AgentSpec, folder: Path, place: Hosting, group: int, timeout_s: float) -> int:
    """Return the process id of the agent host of this launch, once it says hello."""
    try:
        async with asyncio.timeout(timeout_s):
            gone, look_at = False, time.monotonic()
            while (pid := await _hello(spec)) is None:
                if time.monotonic() >= look_at:
                    # It goes through all processes of the machine, which many that start must not do all the time.
                    look_at = time.monotonic() + _LOOK_AGAIN_S
                    was_gone, gone = gone, not await asyncio.to_thread(_lives, group, folder)
                    # Once may be before its first process has become the program that it is known by.
                    if was_gone and gone:
                        return await asyncio.to_thread(_came_and_went, spec, folder, place)
                await asyncio.sleep(_ASK_AGAIN_S)
            return pid
    except TimeoutError:
        pass
    if is_running(folder):
        raise HostNotReady(f"The agent host did not answer in {timeout_s:g} s. {_log_tail(folder)}".strip())
    await asyncio.to_thread(_end_newborn, group, folder, place)
    reason = f"The agent host did not come up in {timeout_s:g} s, and was ended."
    raise SpawnFailed(f"{reason} {_log_tail(folder)}".strip())


async def _hello(spec: AgentSpec) -> int | None:
    """Return the process id of the agent host that answers; None when none does."""
    try:
        async with await AgentLink.connect(spec.socket) as link:
            hello = link.hello
    except AgentUnreachable:
        return None
    if hello.launch_id != spec.launch_id:
        raise SpawnFailed(f"Another agent host of {spec.agent} was started at the same time.")
    return hello.pid


def _came_and_went(spec: AgentSpec, folder: Path, place: Hosting) -> int:
    """Return the process id of an agent host that is gone again: where its journal says why, that is as good as an
    answer."""
    pid = _closed_in_order(folder, spec.launch_id)
    if pid is None:
        with contextlib.suppress(hosting.NotHosted):
            place.end()
        raise SpawnFailed(f"The agent host ended before it answered. {_log_tail(folder)}".strip())
    return pid


async def _settle(birth: asyncio.Task[int], folder: Path, place: Hosting) -> None:
    """See a start that no one waits for any more to one of its ends."""
    with contextlib.suppress(FleetError, OSError):
        await asyncio.to_thread(_lock_or_nothing, await birth, folder, place)


def _lock_or_nothing(group: int, folder: Path, place: Hosting) -> None:
    """Wait until the agent host has its lock or is gone; end it if that takes too long."""
    deadline = time.monotonic() + SETTLE_S
    while not is_running(folder) and _newborn(group, folder):
        if time.monotonic() > deadline:
            _end_newborn(group, folder, place)
            return
        time.sleep(_ASK_AGAIN_S)


async def _to_the_end(task: asyncio.Task[None]) -> None:
    """Wait for a task that ends soon by itself, however often the waiting is cancelled."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()


def _lives(group: int, folder: Path) -> bool:
    """Return whether the agent host that was started as this process group has its lock, or is on its way to it."""
    return is_running(folder) or bool(_newborn(group, folder))


def _newborn(group: int, folder: Path) -> list[int]:
    """Return the processes of an agent host that was just started; they carry no marker, and may have no lock yet."""
    return process_sweep.of_group(group, with_argument=str(folder / SPEC))


def _end_newborn(group: int, folder: Path, place: Hosting) -> None:
    """End an agent host that has no lock yet. It has begun nothing, so nothing else is left of it.

    Returns once they are gone: a signal is not obeyed in the instant in which it is sent.
    """
    deadline = time.monotonic() + _DIE_S
    while (pids := _newborn(group, folder)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_DEATH_PAUSE_S)
    with contextlib.suppress(hosting.NotHosted):
        place.end()


def is_running(folder: Path) -> bool:
    """Return whether the agent of this folder has an agent host, by its lock."""
    return host_lock.holder(folder) is not None


def last_words(folder: Path) -> str:
    """Return why an agent host is gone, as far as it could still say: from its journal, or else from its log."""
    closing = ""
    for entry in reversed(reader.read_last(folder, 50)):
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


def clear_away(folder: Path, *, among: Collection[str] | None = None) -> int:
    """End every process that is left of an agent whose host is gone; return how many there were.

    Args:
        folder: the agent's.
        among: the markers that processes carried (`process_sweep.markers`) when the agent host was gone already;
            whoever has another one has left nothing, and is not looked for. None: look.

    Raises:
        FleetError: the agent host runs, or something would not end.
    """
    if is_running(folder):
        raise FleetError(f"The agent host of {folder.name} runs; nothing of it is left over.", code="agent.running")
    (folder / WANTED).unlink(missing_ok=True)
    count = sum(process_sweep.sweep(marker) for marker in markers_of(folder) if among is None or marker in among)
    container_cleanup.remove(_removal(folder))
    return count


async def kill(folder: Path) -> int:
    """End an agent host, its runtime and everything they started, at once and without asking them; what it ran in too.

    Returns:
        How many processes that were.

    Raises:
        fleet.supervision.process_sweep.Unsweepable: something would not end.
        fleet.hosting.NotHosted: its tmux session or its unit would not end.
    """
    return await asyncio.to_thread(kill_now, folder)


def kill_now(folder: Path) -> int:
    """Return what `kill` does, while the caller waits."""
    (folder / WANTED).unlink(missing_ok=True)
    deadline = time.monotonic() + _DIE_S
    killed = set()
    while (pid := host_lock.holder(folder)) is not None and time.monotonic() < deadline:
        if pid and pid not in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)
        time.sleep(_ASK_AGAIN_S)
    count = len(killed) + sum(process_sweep.sweep(marker) for marker in markers_of(folder))
    container_cleanup.remove(_removal(folder))
    if (place := _place(folder)) is not None:
        place.end()
    return count


def _place(folder: Path) -> Hosting | None:
    """Return what the agent host of this folder was started in last; None where that is not known."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return hosting.of(AgentSpec.read(folder / SPEC))
    return None


def _removal(folder: Path) -> tuple[str, ...]:
    """Return what ends the sandbox that the agent of this folder had last."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return AgentSpec.read(folder / SPEC).removal
    return ()


def tail(folder: Path, count: int) -> list[JournalEntry]:
    """Return the last entries of the agent's journal, whether its host runs or not."""
    return reader.read_last(folder, count)


def markers_of(folder: Path) -> set[str]:
    """Return the markers that the agent's launches had."""
    for incarnation in reversed(reader.incarnations(folder)):
        for entry in reader.read(folder, JournalPosition(incarnation, 0), 1):
            if isinstance(entry.event, Opened):
                earlier = entry.event.carried.get("markers")
                return {entry.event.marker, *(m for m in earlier or () if isinstance(m, str))} - {""}
    return set()


def _closed_in_order(folder: Path, launch_id: str) -> int | None:
    """Return the process id of a launch that is over in good order."""
    for incarnation in reversed(reader.incarnations(folder)):
        entries = reader.read(folder, JournalPosition(incarnation, 0), 1)
        if not entries or not isinstance(entries[0].event, Opened):
            continue
        last = reader.last_entry(folder)
        over = entries[0].event.launch_id == launch_id and last is not None and isinstance(last.event, Closing)
        return entries[0].event.pid if over else None
    return None


def _prepare(spec: AgentSpec, folder: Path) -> None:
    """The folder, the specification and an empty log in it; what the last agent host ran in is taken away."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_running(folder):
        raise SpawnFailed(f"{spec.agent} has an agent host already.")
    offline_orders.launched(folder)
    if (before := _place(folder)) is not None and before != hosting.of(spec):
        with contextlib.suppress(hosting.NotHosted):
            before.end()
    if (removal := _removal(folder)) != spec.removal:
        container_cleanup.remove(removal)
    spec.write(folder / SPEC)
    log = folder / LOG
    if log.exists() and log.stat().st_size:
        log.replace(log.with_suffix(".log.1"))
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def _log_tail(folder: Path) -> str:
    try:
        text = (folder / LOG).read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return text
