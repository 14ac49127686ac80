"""A program on a pseudo-terminal of its own: started like a runtime, and ended with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping
from typing import Final

from fleet.control.host_spec import AgentSpec
from fleet.control.terminal_frames import TerminalSize
from fleet.host.runtime_process import Exit, dying_with, reap_orphans
from fleet.supervision import container_cleanup, process_sweep

#: Bytes that are read at once of what it prints.
_READ: Final = 2**16
#: A program that was hung up has this long to put its things away.
_LEAVE_S: Final = 3.0


class TerminalProgram:
    """Its terminal is a new one, so nothing that it does to it reaches a person's own terminal but as bytes."""

    def __init__(self, process: asyncio.subprocess.Process, master: int, spec: AgentSpec) -> None:
        self._process = process
        self._master = master
        self._spec = spec
        self._hung_up = False
        self._ended = False

    @classmethod
    async def start(
        cls, spec: AgentSpec, command: tuple[str, ...], variables: Mapping[str, str], size: TerminalSize
    ) -> TerminalProgram:
        """Start it where the agent's runtime runs.

        Args:
            spec: the agent.
            command: the whole command line, the sandbox's wrapping included.
            variables: of the person's terminal; they go over the agent's own.
            size: of that terminal.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        host = os.getpid()
        if spec.way_folder:
            os.makedirs(spec.way_folder, mode=0o700, exist_ok=True)
        master, slave = pty.openpty()

        def take_terminal() -> None:
            dying_with(host)
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        try:
            _resize(master, size)
            os.set_blocking(master, False)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=spec.workspace,
                env={**spec.environment, **variables, process_sweep.VARIABLE: spec.marker},
                start_new_session=True,
                close_fds=True,
                preexec_fn=take_terminal,
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return cls(process, master, spec)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def exit(self) -> Exit:
        """How it ended, once it has."""
        assert self._process.returncode is not None
        return Exit(self._process.returncode)

    async def wait(self) -> Exit:
        """Wait until its first process has ended."""
        return Exit(await self._process.wait())

    # --- its terminal ---------------------------------------------------------------------------------------------

    async def read(self) -> bytes:
        """Return what it printed next; empty once nothing more comes."""
        while not self._hung_up:
            try:
                return os.read(self._master, _READ)
            except BlockingIOError:
                await self._until_ready(writable=False)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # No process has the terminal open any more (pty(7)).
                return b""
        return b""

    async def write(self, content: bytes) -> None:
        """Type something. What the program does not take waits here."""
        while content and not self._hung_up:
            try:
                content = content[os.write(self._master, content) :]
            except BlockingIOError:
                await self._until_ready(writable=True)
            except OSError:
                return

    def resize(self, size: TerminalSize) -> None:
        """Give the terminal another size, of which the kernel tells the program (SIGWINCH)."""
        if not self._hung_up:
            with contextlib.suppress(OSError):
                _resize(self._master, size)

    async def _until_ready(self, *, writable: bool) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add = loop.add_writer if writable else loop.add_reader
        remove = loop.remove_writer if writable else loop.remove_reader

        def tell() -> None:
            if not ready.done():
                ready.set_result(None)

        add(self._master, tell)
        try:
            await ready
        finally:
            remove(self._master)

    # --- its end --------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Continue what stopped itself: there is no shell in its terminal that could."""
        for process in process_sweep.descendants(os.getpid()):
            if process.state == "T":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process.pid, signal.SIGCONT)

    async def end(self) -> None:
        """Hang up, give it a moment, and end everything that it started. Nothing else may read from it any more.

        Raises:
            fleet.supervision.process_sweep.Unsweepable: some would not go.
        """
        if self._ended:
            return
        self._ended = True
        if self.alive:
            for pid in await asyncio.to_thread(self._told_of_hangup):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGHUP)
            # What it prints meanwhile is read, since it would wait for that.
            drained = asyncio.create_task(self._drain(), name="drain terminal")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _LEAVE_S)
            drained.cancel()
            await asyncio.gather(drained, return_exceptions=True)
        self._hung_up = True
        os.close(self._master)
        await asyncio.to_thread(self._kill_all)
        await self._process.wait()
        reap_orphans()

    def _told_of_hangup(self) -> list[int]:
        """Return the processes that have none below them: a sandbox that is told ends at once, with all that is in
        it."""
        below = process_sweep.descendants(self.pid)
        parents = {process.parent for process in below if process.state not in "ZX"}
        return [each for each in (self.pid, *(process.pid for process in below)) if each not in parents]

    async def _drain(self) -> None:
        while await self.read():
            pass

    def _kill_all(self) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        try:
            container_cleanup.remove(self._spec.removal)
        finally:
            process_sweep.sweep(self._spec.marker, below=os.getpid())


def _resize(terminal: int, size: TerminalSize) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.rows, size.columns, 0, 0))
