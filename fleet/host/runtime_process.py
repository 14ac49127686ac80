"""The runtime's process: started with nothing inherited, watched, and ended together with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.redaction import SecretMasker
from fleet.control.host_spec import AgentSpec
from fleet.host.acp.update_parser import clean
from fleet.host.stderr_log import StderrLog
from fleet.runtimes import RUNTIMES, preparation
from fleet.supervision import container_cleanup, process_sweep

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_STDERR_LINES: Final = 60
_STDERR_CHARACTERS: Final = 500
#: How long a dead runtime's pipes are still read: a process that it left behind may hold them open for ever.
_DRAIN_S: Final = 2.0

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a runtime's process ended."""

    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"was ended by signal {-self.code}"


def check_workspace(spec: AgentSpec) -> None:
    """Look whether a program of the agent's runtime may be started in its workspace, as it is now.

    Raises:
        FleetError: it must not; the message says why and what to do.
    """
    if (runtime := RUNTIMES.get(spec.runtime)) is not None and runtime.check is not None:
        runtime.check(Path(spec.workspace), spec.sandboxed)


def make_ready(spec: AgentSpec) -> None:
    """Do the same, and renew the agent's home for the start. Nothing of the agent may run.

    Raises:
        FleetError: it must not be started; the message says why and what to do.
    """
    if (runtime := RUNTIMES.get(spec.runtime)) is not None:
        home = Path(spec.folder) / "home"
        preparation.before_start(runtime, home, Path(spec.workspace), sandboxed=spec.sandboxed)


def adopt_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind, so that it can be found and ended."""
    if _libc is not None:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def dying_with(host: int) -> None:
    """Have the kernel end this process, just forked, when its parent ends.

    Args:
        host: the parent's process id; this process ends at once if that one is gone already.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != host:
            os._exit(1)


class _Streams(asyncio.subprocess.SubprocessStreamProtocol):
    """The pipes of a process, and its end: `asyncio` tells of that only when no one holds the pipes any more, which
    what a runtime leaves behind may do for ever (seen in CPython 3.11)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=2**16, loop=loop)
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class RuntimeProcess:
    """A started runtime. Its process group is its own, and it dies with this process."""

    def __init__(self, process: asyncio.subprocess.Process, exited: asyncio.Event, spec: AgentSpec) -> None:
        self._process = process
        self._exited = exited
        self._spec = spec
        self._stderr: deque[str] = deque(maxlen=_STDERR_LINES)
        self._stderr_task = asyncio.create_task(self._read_stderr(), name="runtime stderr")
        self._log = StderrLog(Path(spec.folder), clock=time.time)
        self._redact: SecretMasker | None = None
        self._child_seen = False
        self._ended = False

    @classmethod
    async def start(cls, spec: AgentSpec) -> RuntimeProcess:
        """Start it.

        Raises:
            OSError: the program cannot be run.
        """
        host = os.getpid()
        if spec.way_folder:
            os.makedirs(spec.way_folder, mode=0o700, exist_ok=True)

        loop = asyncio.get_running_loop()
        transport, streams = await loop.subprocess_exec(
            lambda: _Streams(loop),
            *spec.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=spec.workspace,
            env={**spec.environment, process_sweep.VARIABLE: spec.marker},
            start_new_session=True,
            close_fds=True,
            preexec_fn=functools.partial(dying_with, host),
        )
        return cls(asyncio.subprocess.Process(transport, streams, loop), streams.exited, spec)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> Exit:
        await self._exited.wait()
        code = self._process.returncode
        assert code is not None
        return Exit(code)

    async def last_words(self) -> str:
        """Return the last lines of its stderr, once nothing more comes or soon after it died."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._stderr_task), _DRAIN_S)
        return "\n".join(self._stderr)

    def child_state(self) -> str | None:
        """Of an adapter's true runtime: running, stopped or gone; None where there is none, or it was not seen yet."""
        if not self._spec.adapter or not self._spec.child_names:
            return None
        states = [
            process.state
            for process in process_sweep.descendants(self.pid)
            if process.state not in "ZX" and process.is_called(self._spec.child_names)
        ]
        if not states:
            return "gone" if self._child_seen else None
        self._child_seen = True
        # What the agent itself starts may go by the same name: one that runs says nothing for one that does not.
        return "stopped" if any(state in "Tt" for state in states) else "running"

    async def end(self) -> int:
        """Kill it and everything that it started; return how many processes that were.

        Raises:
            fleet.supervision.process_sweep.Unsweepable: some would not go.
        """
        if self._ended:
            return 0
        self._ended = True
        killed = await asyncio.to_thread(self._kill_all)
        await self._exited.wait()
        self._stderr_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._stderr_task
        reap_orphans()
        return killed

    def _kill_all(self) -> int:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        try:
            # First, while its supervisor is there to put the container's things away: that is below this process, too.
            container_cleanup.remove(self._spec.removal)
        finally:
            count = process_sweep.sweep(self._spec.marker, below=os.getpid())
        return count

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        stderr = self._process.stderr
        rest = ""
        while block := await stderr.read(2**14):
            whole, newline, rest = (rest + block.decode("utf-8", "replace")).rpartition("\n")
            self._keep(whole if newline else "")
            rest = rest[-4 * _STDERR_CHARACTERS :]
        self._keep(rest)

    def _keep(self, text: str) -> None:
        """Keep what it said for the journal, and write it down. Masked as a whole: a secret may have several lines."""
        if not text.strip():
            return
        if self._redact is None:
            # Its patterns take their time, and most runtimes say nothing.
            from core.redaction import SecretMasker

            self._redact = SecretMasker(known=self._spec.secrets())
        masked = self._redact(clean(text))
        lines = [line for line in masked.split("\n") if line.strip()]
        self._stderr.extend(line[:_STDERR_CHARACTERS] for line in lines)
        self._log.add(lines)


def reap_orphans(except_pid: int | None = None) -> None:
    """Collect the dead among what descendants left behind."""
    for process in process_sweep.children(os.getpid()):
        if process.state == "Z" and process.pid != except_pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def hint_for(stderr: str, hints: Mapping[str, str]) -> str | None:
    """Return the sentence of the first hint whose pattern is found in what the runtime said last."""
    for pattern, sentence in hints.items():
        with contextlib.suppress(re.error):
            if re.search(pattern, stderr, re.IGNORECASE):
                return sentence
    return None


def missing_program(command: tuple[str, ...], error: OSError) -> str:
    """Return why a command could not be started, as a sentence."""
    program = command[0] if command else "(nothing)"
    if isinstance(error, FileNotFoundError) and error.filename and str(error.filename) != program:
        return f"The folder {error.filename} is not there, so {Path(program).name} cannot be started in it."
    return f"{program} cannot be started: {error.strerror or error}. Install it, or name another program in the roster."
