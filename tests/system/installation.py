"""A MUSTER_HOME in a test, and `muster up` there as a process that can be killed, in whichever chat system."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import aiohttp

from bot.config.paths import Paths
from bot.egress_client.process import pid_of
from fleet.sim.provider.server import Provider
from fleet.supervision import host_lifecycle
from fleet.supervision.process_sweep import survivors
from tests import forked_orchestrators, soak, waiting
from tests.forked_orchestrators import ForkedOrchestrator

#: Seconds that a start may take on a busy machine, and anything else that is waited for.
START_LIMIT = 60.0
LIMIT = 60.0
_PR_SET_PDEATHSIG = 1
_PROGRAM = (sys.executable, "-P", "-m", "bot")


@dataclass(slots=True, kw_only=True)
class Premises:
    """One MUSTER_HOME, and what runs there."""

    folder: Path
    models: Provider
    paths: Paths
    kind: str
    """Of the connector without which it is not ready."""
    process: asyncio.subprocess.Process | ForkedOrchestrator | None = None
    starts: int = 0
    _log: IO[bytes] | None = None
    _struck: asyncio.subprocess.Process | ForkedOrchestrator | None = None

    # --- the process ----------------------------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        """What every orchestrator of this installation logged."""
        return self.folder / "muster-up.log"

    def secrets(self) -> Mapping[str, str]:
        """What its connector needs in its environment."""
        return {}

    def environment(self, **more: str) -> dict[str, str]:
        """What our processes are given; built from nothing, so that no variable of the tests slips in."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **inherited,
            "HOME": str(self.folder),
            "MUSTER_HOME": str(self.paths.home),
            "SIM_KEY": "sk-test-not-a-real-key",
            **self.secrets(),
            **more,
        }

    async def start(self, *, ready: bool = True, **environment: str) -> None:
        """Start `muster up` and wait until it answers, is in the room, or (killed by a crash variable) has ended.

        The first life is an interpreter; later ones are forked, which takes a third of its time.
        """
        assert self.process is None, "it runs already"
        self._log = self._log or self.log.open("ab")
        self._log.write(f"--- start {self.starts} {environment}\n".encode())
        self._log.flush()
        self.starts += 1
        command, variables = (*_PROGRAM, "up", "--unattended"), self.environment(**environment)
        if self.starts > 1:
            self.process = forked_orchestrators.start(command, variables, self.folder, self.log)
        else:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=variables,
                cwd=self.folder,
                preexec_fn=_die_with_parent,
            )
        if ready:
            await self.ready()

    async def ready(self) -> None:
        """Wait until the bot is connected and the gateway answers; returns at once when the process has ended."""
        async with asyncio.timeout(START_LIMIT):
            while self.process is not None and self.process.returncode is None:
                with contextlib.suppress(OSError, aiohttp.ClientError):
                    health = await self.gateway("GET", "/v1/health")
                    if any(each["kind"] == self.kind and each["reachable"] for each in health["connectors"]):
                        return
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Wait until the orchestrator has ended; its exit status, negative for a signal."""
        assert self.process is not None
        async with asyncio.timeout(LIMIT):
            status = await self.process.wait()
        self.process = None
        return status

    def strike(self) -> None:
        """kill -9, once for each life; nothing waits for its end. By its id, since `Process.kill` would take the exit
        status of one that is dead already away from who waits for it."""
        if self.process is None or self._struck is self.process:
            return
        self._struck = self.process
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)

    async def kill(self) -> None:
        """kill -9, and the end."""
        if self.process is not None:
            self.strike()
            await self.ended()

    async def stop(self) -> int:
        """SIGTERM, as a service manager does it; the exit status."""
        assert self.process is not None
        self.process.terminate()
        return await self.ended()

    @contextlib.asynccontextmanager
    async def revived(
        self, crashes: Iterable[str] = (), *, pause: Callable[[], Awaitable[None]] | None = None
    ) -> AsyncIterator[list[str | None]]:
        """Start it again whenever it is killed, each time with the next of `crashes`, for the length of the block.

        Args:
            crashes: where it is to die; after the last one, nowhere.
            pause: awaited before it is started again.

        Yields the crash places (None: it was killed from outside) of the deaths so far.

        Raises:
            AssertionError: it ended in another way than by SIGKILL.
        """
        waiting = iter(crashes)
        deaths: list[str | None] = []

        async def keep() -> None:
            armed: str | None = None
            while True:
                if self.process is None:
                    armed = next(waiting, None)
                    await self.start(ready=False, **({"MUSTER_CRASH": armed} if armed is not None else {}))
                assert self.process is not None
                status = await self.process.wait()
                self.process = None
                assert status == -signal.SIGKILL, f"it ended with {status}\n{self.last_words()}"
                deaths.append(armed)
                if pause is not None:
                    await pause()

        keeping = asyncio.create_task(keep())
        owner = asyncio.current_task()
        assert owner is not None
        keeping.add_done_callback(lambda done: None if done.cancelled() else owner.cancel())
        try:
            yield deaths
        except asyncio.CancelledError:
            if keeping.done() and not keeping.cancelled():
                owner.uncancel()
                keeping.result()
            raise
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    async def killed_at(self, crashes: Sequence[str], scene: str, play: Callable[[], Awaitable[None]]) -> None:
        """Play a scene, again and again, until it has died at each of these places, or the time for soak tests is over.

        Args:
            crashes: where it is to die.
            scene: its name, for a message.
            play: plays it once.
        """
        armed, over = list[str](), False

        def places() -> Iterator[str]:
            nonlocal over
            for place in soak.in_time(crashes):
                armed.append(place)
                yield place
            over = True

        async with self.revived(places()) as deaths:
            while not over:
                before = len(deaths)
                await play()
                assert len(deaths) > before, f"{scene} does not pass {armed[before]}"
        assert deaths == armed

    # --- doors ----------------------------------------------------------------------------------------------------

    async def gateway(self, method: str, path: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Ask the gateway; what it answered."""
        connector = aiohttp.UnixConnector(str(self.paths.gateway_socket))
        async with (
            aiohttp.ClientSession(connector=connector) as http,
            http.request(method, f"http://muster{path}", json=arguments) as response,
        ):
            return await response.json()

    async def shell(self, *arguments: str) -> tuple[int, str]:
        """`muster ARGUMENTS` in a shell: exit status and all that it printed."""
        process = await asyncio.create_subprocess_exec(
            *(*_PROGRAM, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self.environment(),
            cwd=self.folder,
            preexec_fn=_die_with_parent,
        )
        async with asyncio.timeout(LIMIT):
            printed, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, printed.decode()

    # --- what is left ---------------------------------------------------------------------------------------------

    def agents(self) -> list[str]:
        """Everybody who was ever launched here."""
        return sorted(folder.name for folder in self.paths.agents.iterdir()) if self.paths.agents.is_dir() else []

    def processes(self) -> list[tuple[int, str]]:
        """Every process of this installation but the orchestrator and the egress: agent hosts, runtimes and what those
        started.

        All of them have a path of this installation in their environment or on their command line.
        """
        own = {os.getpid(), self.process.pid if self.process is not None else 0, pid_of(self.paths) or 0}
        markers = {pid for name in self.agents() for pid in survivors(_marker(self.paths.agent_folder(name)))}
        found = {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in own:
                continue
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{entry}/cmdline").read_bytes()
                seen = command + Path(f"/proc/{entry}/environ").read_bytes()
                if command and (os.fsencode(self.folder) in seen or int(entry) in markers):
                    found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        return sorted(found.items())

    async def nobody_left(self) -> None:
        """Wait until only the orchestrator is left of this installation.

        Raises:
            AssertionError: somebody stays.
        """
        try:
            await waiting.until(lambda: not self.processes(), limit=LIMIT)
        except TimeoutError:
            raise AssertionError(f"left over: {self.processes()}\n{self.last_words()}") from None

    def last_words(self, lines: int = 40) -> str:
        """The end of the log, for a message about what went wrong."""
        written = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        written = [line for line in written if '"logger": "alembic' not in line]
        return "\n".join(["the log ends:", *written[-lines:]])

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        await self.kill()
        for name in self.agents():
            await host_lifecycle.kill(self.paths.agent_folder(name))
        end_egress(self.paths)
        if self._log is not None:
            self._log.close()
        await self.nobody_left()


def end_egress(paths: Paths) -> None:
    """End the egress of an installation, which outlives all else, as the last of it."""
    pid = pid_of(paths)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _marker(folder: Path) -> str:
    try:
        marker: str = json.loads((folder / host_lifecycle.SPEC).read_text())["marker"]
    except (OSError, ValueError, KeyError):
        return ""
    return marker


def _die_with_parent() -> None:
    # A pytest that is killed must not leave its orchestrator behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
