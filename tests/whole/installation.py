"""A whole installation in a test: `muster up` as a process that can be killed, and its room on a real homeserver.

async with installation(folder, synapse, models) as home:
    await home.start(MUSTER_CRASH="outbox.send.after")
    await home.ana.say(home.room, "!ps")
    assert await home.ended() == -signal.SIGKILL
    await home.start()
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import aiohttp
import yaml

from bot.outlet.process import pid_of
from bot.paths import Paths
from fleet import lifecycle
from fleet.sweep import survivors
from tests.operator_client import Operator, body, relation, thread_root

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from fleet.sim.provider import Provider
    from tests.operator_client import Event
    from tests.synapse import Account, Synapse

#: Seconds that a start may take on a busy machine, and anything else that is waited for.
START_LIMIT = 60.0
LIMIT = 60.0
#: The member of our events under which the bot's own key stands (connectors.matrix.content.KEY).
KEY = "fleet.muster.key"
_PR_SET_PDEATHSIG = 1
_PROGRAM = (sys.executable, "-P", "-m", "bot.doors.cli")


@dataclass(slots=True)
class Installation:
    """One MUSTER_HOME with its bot, its operator and their room."""

    folder: Path
    synapse: Synapse
    models: Provider
    bot: Account
    ana: Operator
    room: str
    paths: Paths
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    _log: IO[bytes] | None = None
    _environment: dict[str, str] = field(default_factory=dict)

    # --- the process ----------------------------------------------------------------------------------------------

    @property
    def log(self) -> Path:
        """What every orchestrator of this installation logged."""
        return self.folder / "muster-up.log"

    def configure(self, **changes: Any) -> None:
        """Write muster.yaml; `changes` replace top-level sections, and holds from the next start on."""
        settings: dict[str, Any] = {
            "connectors": {
                "matrix": {
                    "homeserver": self.synapse.url,
                    "user": self.bot.user_id,
                    "access_token": "env:MATRIX_TOKEN",
                    "fleet_room": self.room,
                }
            },
            "operators": {f"matrix:{self.ana.user_id}": "admin"},
            "accounts": {"sim": {"provider": "anthropic", "base_url": self.models.url, "credential": "env:SIM_KEY"}},
            "agents": {"runtime": "sim", "sandbox": "none", "heartbeat": "1s"},
            "watchdog": {"every": "1s"},
        }
        self.paths.muster_yaml.write_text(yaml.safe_dump(settings | changes))

    def environment(self, **more: str) -> dict[str, str]:
        """What our processes are given; built from nothing, so that no variable of the tests slips in."""
        inherited = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {
            **inherited,
            "HOME": str(self.folder),
            "MUSTER_HOME": str(self.paths.home),
            "MATRIX_TOKEN": self.bot.access_token,
            "SIM_KEY": "sk-test-not-a-real-key",
            **more,
        }

    async def start(self, *, ready: bool = True, **environment: str) -> None:
        """Start `muster up` and wait until it answers, is in the room, or (killed by a crash variable) has ended."""
        assert self.process is None, "it runs already"
        self._log = self._log or self.log.open("ab")
        self._log.write(f"--- start {self.starts} {environment}\n".encode())
        self._log.flush()
        self.starts += 1
        self.process = await asyncio.create_subprocess_exec(
            *(*_PROGRAM, "up", "--unattended"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=self.environment(**environment),
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
                    if any(each["kind"] == "matrix" and each["reachable"] for each in health["connectors"]):
                        return
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        """Wait until the orchestrator has ended; its exit status, negative for a signal."""
        assert self.process is not None
        async with asyncio.timeout(LIMIT):
            status = await self.process.wait()
        self.process = None
        return status

    async def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
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

    # --- the room -------------------------------------------------------------------------------------------------

    async def joined(self) -> None:
        """Wait until the bot is in the room; what was said there before is not for it."""
        try:
            await self.ana.wait_for(self.room, lambda event: _joins(event, self.bot.user_id))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    async def heard(self, wanted: Callable[[Event], bool], *, limit: float = LIMIT) -> Event:
        """The first event of the bot in the room that `wanted` says yes to."""
        try:
            return await self.ana.wait_for(
                self.room, lambda event: event["sender"] == self.bot.user_id and wanted(event), limit=limit
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.last_words()}") from None

    async def heard_words(self, words: str, *, thread: str | None = None, limit: float = LIMIT) -> Event:
        """The first message of the bot that holds `words`, edits included; in that thread, if one is given."""

        def fits(event: Event) -> bool:
            if event["type"] != "m.room.message" or words not in body(event):
                return False
            return thread is None or thread_root(event) == thread or relation(event).get("rel_type") == "m.replace"

        return await self.heard(fits, limit=limit)

    async def reply(self, event_id: str, *, limit: float = LIMIT) -> str:
        """The reply to a message, when it comes."""
        return body(await self.heard(lambda event: replies_to(event) == event_id, limit=limit))

    async def ask(self, text: str, *, thread: str | None = None) -> str:
        """Write a command and wait for the reply to it."""
        return await self.reply(await self.ana.say(self.room, text, thread=thread))

    async def marked(self, event_id: str, *marks: str, limit: float = LIMIT) -> None:
        """Wait until the bot has put each of these reactions on a message."""
        for mark in marks:
            await self.heard(lambda event, mark=mark: reacts(event) == (event_id, mark), limit=limit)  # type: ignore[misc]

    async def thread_of(self, agent: str) -> str:
        """The root of the agent's thread, once it is open."""
        opener = await self.heard(lambda event: body(event).startswith(f"{agent} ·") or f"**{agent}** ·" in body(event))
        root: str = opener["event_id"]
        return root

    async def launch(self, agent: str, *options: str) -> str:
        """Launch an agent and wait until it is ready. Returns the root of its thread."""
        await self.ask(" ".join(["!launch", agent, "--runtime", "sim", *options]))
        root = await self.thread_of(agent)
        await self.heard_words("Ready", thread=root)
        return root

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
            async with asyncio.timeout(LIMIT):
                while self.processes():
                    await asyncio.sleep(0.05)
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
            await lifecycle.kill(self.paths.agent_folder(name))
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


@contextlib.asynccontextmanager
async def installation(
    folder: Path, synapse: Synapse, models: Provider, *, invite: bool = True, **settings: Any
) -> AsyncIterator[Installation]:
    """An installation in `folder`, configured and not started; at the end nobody is left of it."""
    paths = Paths.of({"MUSTER_HOME": str(folder / "home"), "HOME": str(folder)})
    paths.config.mkdir(mode=0o700, parents=True)
    account, bot = await synapse.register(prefix="ana"), await synapse.register(prefix="muster")
    async with Operator(account) as ana:
        room = await ana.create_room("fleet", invite=[bot.user_id] if invite else [])
        home = Installation(folder=folder, synapse=synapse, models=models, bot=bot, ana=ana, room=room, paths=paths)
        home.configure(**settings)
        try:
            yield home
        finally:
            await home.close()


def replies_to(event: Event) -> str | None:
    """The message that this one answers; being in a thread is no answer."""
    found = relation(event)
    if found.get("rel_type") == "m.thread" and found.get("is_falling_back"):
        return None
    answered: str | None = found.get("m.in_reply_to", {}).get("event_id")
    return answered


def reacts(event: Event) -> tuple[str, str] | None:
    """The message on which this is a reaction, and the reaction."""
    found = relation(event)
    return (found["event_id"], found["key"]) if found.get("rel_type") == "m.annotation" else None


def _joins(event: Event, user_id: str) -> bool:
    return event.get("state_key") == user_id and event["content"].get("membership") == "join"


def _marker(folder: Path) -> str:
    try:
        marker: str = json.loads((folder / lifecycle.SPEC).read_text())["marker"]
    except (OSError, ValueError, KeyError):
        return ""
    return marker


def _die_with_parent() -> None:
    # A pytest that is killed must not leave its orchestrator behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
