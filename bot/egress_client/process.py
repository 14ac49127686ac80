"""The egress as a separate process that outlives the orchestrator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from bot.config.paths import Paths
from bot.config.schema import Settings
from core.errors import MusterError
from egress.daemon.control_client import EgressControlClient
from egress.daemon.sync_control_client import ANSWER_S
from egress.errors import EgressSilent, EgressUnreachable
from egress.paths import EgressPaths
from fleet.hosting.host_command_line import environment

log = structlog.get_logger(__name__)

#: Seconds to wait for it to listen after a start, and to end after a stop.
START_S = 30.0
STOP_S = 15.0
#: Seconds to wait for the kernel to end a killed process.
KILL_S = 10.0
_PAUSE_S = 0.05
_AGAIN_S = 0.5
#: Bytes of its output that are searched for the reason of a failed start.
_LAST_WORDS = 2000


class EgressNotStarted(MusterError):
    """The egress does not start."""

    code = "egress.not_started"


class NotEnded(MusterError):
    """The hung egress cannot be killed from here."""

    code = "egress.running"


def places(paths: Paths) -> EgressPaths:
    """Return the paths of an installation's egress: its files and its sockets."""
    return EgressPaths(state=paths.state, sockets=paths.sockets)


def command(paths: Paths) -> list[str]:
    """Return the command line of an installation's egress."""
    return [
        sys.executable,
        "-P",
        "-m",
        "egress.process",
        "--state",
        str(paths.state),
        "--sockets",
        str(paths.sockets),
    ]


def variables_of(settings: Settings) -> frozenset[str]:
    """Return the names of the environment variables that contain the accounts' credentials."""
    return frozenset(
        account.credential.name
        for account in settings.accounts.values()
        if account.credential is not None and account.credential.scheme == "env"
    )


def listens(control: Path) -> bool:
    """Return whether a process listens on this socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(control))
        except BlockingIOError:
            # The backlog is full, so a process does listen.
            return True
        except OSError:
            return False
    return True


def pid_of(paths: Paths) -> int | None:
    """Return the process number of the running egress, or None.

    The lock is not taken, because a starting egress would then find it taken.
    """
    try:
        pid = int(json.loads(places(paths).lock.read_bytes())["pid"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    words = command_of(pid)
    return pid if words[1:] == command(paths)[1:] else None


def command_of(pid: int) -> list[str]:
    """Return a process's command line, or an empty list if it is not available."""
    try:
        content = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in content.removesuffix(b"\0").split(b"\0")]


def environment_of(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Return the part of the environment that the egress may see, including the variables `secrets`."""
    return {**environment(environ), **{name: environ[name] for name in secrets if environ.get(name)}}


def spawn(paths: Paths, environ: Mapping[str, str], secrets: Iterable[str]) -> subprocess.Popen[bytes]:
    """Start the egress in its own session, with a restricted environment.

    Args:
        paths: the installation.
        environ: this process's environment.
        secrets: names of further variables that it needs.
    """
    folder = places(paths).folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(_output(paths), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(
            command(paths),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=environment_of(environ, secrets),
            cwd=folder,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def last_words(paths: Paths) -> str:
    """Return the end of its output, which is empty unless something failed."""
    try:
        words = _output(paths).read_bytes()[-_LAST_WORDS:].decode(errors="replace").strip()
    except OSError:
        return ""
    return words


def _output(paths: Paths) -> Path:
    return places(paths).folder / "output"


@dataclass(slots=True)
class EgressProcess:
    """A source that finds or starts the process (bot.egress_client.source.EgressSource)."""

    paths: Paths
    environ: Mapping[str, str]
    secrets: frozenset[str] = frozenset()
    """Names of the environment variables that contain the accounts' credentials."""
    _client: EgressControlClient | None = None
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    async def find(self) -> EgressControlClient | None:
        """Return the client of the running egress, or None if none runs."""
        if self._child is not None and self._child.poll() is not None:
            log.warning("egress.ended", pid=self._child.pid, status=self._child.returncode)
            self._child = None
        if not listens(places(self.paths).control):
            return None
        if self._client is None:
            self._client = EgressControlClient(places(self.paths).control)
        return self._client

    async def start(self) -> EgressControlClient:
        """Return the client of the egress, and start the egress if necessary.

        Raises:
            EgressNotStarted: it does not start.
        """
        found = await self.find()
        if found is not None:
            return found
        if self._client is not None:
            await self._client.close()
            # A new client makes `EgressClient.ensure` push the settings again, which a new process lacks.
            self._client = None
        child = await self._spawned()
        until = time.monotonic() + START_S
        while (found := await self.find()) is None:
            second = child.returncode == 1 and "runs here already" in last_words(self.paths)
            if time.monotonic() > until or (child.returncode is not None and not second):
                raise EgressNotStarted(self._why(child))
            if second:
                # Another was started at the same moment and will listen soon, or the earlier one is about to end.
                await asyncio.sleep(_AGAIN_S)
                child = child if listens(places(self.paths).control) else await self._spawned()
            await asyncio.sleep(_PAUSE_S)
        return found

    async def _spawned(self) -> subprocess.Popen[bytes]:
        child = await asyncio.to_thread(spawn, self.paths, self.environ, self.secrets)
        self._child = child
        # Wait for the child, or it would remain as a zombie.
        threading.Thread(target=child.wait, name="egress", daemon=True).start()
        log.info("egress.started", pid=child.pid)
        return child

    def _why(self, child: subprocess.Popen[bytes]) -> str:
        words = last_words(self.paths)
        ended = "does not listen" if child.returncode is None else f"ended with status {child.returncode}"
        more = f" Its last output: {words}" if words else f" Its log: {places(self.paths).log}"
        return f"The egress (process {child.pid}) {ended}.{more}"

    async def is_outdated(self) -> bool:
        """Return whether the running egress is of another version than this process."""
        pid = await asyncio.to_thread(pid_of, self.paths)
        words = [] if pid is None else await asyncio.to_thread(command_of, pid)
        return bool(words) and words[0] != sys.executable

    async def stop(self) -> None:
        """Stop the running egress gracefully.

        Raises:
            MusterError: it does not end.
        """
        await stop(self.paths)

    async def end(self) -> int:
        """Kill the hung egress and return its process number.

        Raises:
            MusterError: it is still running.
        """
        return await asyncio.to_thread(kill, self.paths)

    async def aclose(self) -> None:
        """Close the client; the egress keeps running."""
        if self._client is not None:
            await self._client.close()
            self._client = None


async def stop(paths: Paths, *, answer_s: float = ANSWER_S) -> bool:
    """Stop an installation's egress gracefully. Return False if none ran. It has `answer_s` seconds to answer.

    Raises:
        MusterError: it does not end.
    """
    control = places(paths).control
    if not listens(control):
        return False
    pid = await asyncio.to_thread(pid_of, paths)
    async with EgressControlClient(control) as client:
        try:
            await client.stop(timeout_s=answer_s)
        except EgressSilent:
            raise MusterError(silent(pid)) from None
        except EgressUnreachable:
            # It ended before or during its answer.
            pass
    until = time.monotonic() + STOP_S
    # It stops listening before running requests are settled and a successor can start.
    while listens(control) or (pid is not None and await asyncio.to_thread(pid_of, paths) == pid):
        if time.monotonic() > until:
            raise MusterError(f"The egress was told to stop and has not yet. See {places(paths).log}.")
        await asyncio.sleep(_PAUSE_S)
    return True


def silent(pid: int | None) -> str:
    """Return the error message for a hung egress, including how to kill it."""
    if pid is None:
        return "The egress does not answer, and its process is not known. Look for `egress.process` with ps."
    return f"The egress (process {pid}) does not answer. `kill -9 {pid}` ends it; completed requests are not lost."


def kill(paths: Paths) -> int:
    """Kill an installation's egress, wait until it is gone, and return its process number. Blocks.

    A pidfd is opened before the checks, so that no other process with a reused number is killed. The process must also
    have the lock file of this installation's egress open.

    Raises:
        NotEnded: the process cannot be identified, or it does not end.
    """
    pid = pid_of(paths)
    if pid is None:
        raise NotEnded("its lock does not say which process it is. Look for `egress.process` with ps, and end it.")
    try:
        descriptor = os.pidfd_open(pid)
    except OSError as error:
        raise NotEnded(f"process {pid} cannot be reached ({error.strerror}). End it with `kill -9 {pid}`.") from None
    try:
        if pid_of(paths) != pid or not _has_open(pid, places(paths).lock):
            raise NotEnded(f"process {pid} is not the one that holds its lock. Look at it with ps.")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        # A pidfd is readable once the process has ended (pidfd_open(2)).
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if not ended.poll(KILL_S * 1000):
            raise NotEnded(f"process {pid} was killed and is still there (a disk that hangs?). Look at it with ps.")
    except PermissionError:
        raise NotEnded(f"process {pid} may not be ended from here. End it with `kill -9 {pid}`.") from None
    finally:
        os.close(descriptor)
    return pid


def _has_open(pid: int, path: os.PathLike[str]) -> bool:
    """Return whether a process has this very file open (proc(5), /proc/PID/fd)."""
    try:
        wanted = os.stat(path)
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(f"/proc/{pid}/fd/{number}"), wanted):
                    return True
    except OSError:
        return False
    return False
