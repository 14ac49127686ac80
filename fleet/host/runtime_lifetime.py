"""One life of an agent's runtime: its process, the protocol on its pipes, its session, and its death."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from fleet.errors import FleetError
from fleet.host.acp.acp_client import AcpClient, PromptEnd, RuntimeTrouble
from fleet.host.acp.session_setup import AsideSession, Established, establish, establish_aside
from fleet.host.acp.stdio_transport import StdioTransport
from fleet.host.acp.stray_output import NoiseTally
from fleet.host.journal_fanout import JournalFanout
from fleet.host.runtime_process import RuntimeProcess, hint_for, make_ready, missing_program
from fleet.journal.events import Notice, RuntimeDied, RuntimeFailed, RuntimeStarted
from fleet.supervision import process_sweep
from fleet.supervision.process_sweep import Unsweepable

#: A runtime whose input was closed has this long to put its things away.
_LEAVE_S: Final = 2.0
#: How often it is looked whether the runtime behind an adapter has ended: nothing tells of it.
_LOOK_S: Final = 0.05


class RuntimeLife:
    """Lived once: `start`, then `death` or `end`.

    Args:
        on_update, on_permission: as `AcpClient` takes them.
    """

    def __init__(
        self,
        chronicle: JournalFanout,
        *,
        on_update: Callable[[str, dict[str, Any]], None],
        on_permission: Callable[[str, dict[str, Any], Any], Awaitable[str | None]],
    ) -> None:
        self._chronicle = chronicle
        self._spec = chronicle.spec
        self._on_update = on_update
        self._on_permission = on_permission
        self._process: RuntimeProcess | None = None
        self._client: AcpClient | None = None
        self._established: Established | None = None
        self._silent = asyncio.Event()
        self.noise = NoiseTally(chronicle.journal)

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def process(self) -> RuntimeProcess | None:
        return self._process

    @property
    def pid(self) -> int | None:
        """Its process id, while it is alive."""
        return self._process.pid if self._process is not None and self._process.alive else None

    @property
    def session(self) -> Established:
        """What it agreed to when it started."""
        assert self._established is not None
        return self._established

    @property
    def silent(self) -> bool:
        """Whether nothing more can come from it."""
        return self._silent.is_set()

    # --- its beginning --------------------------------------------------------------------------------------------

    async def start(
        self, known: str | None, *, taken_over: bool = False, goes_on: bool = False
    ) -> RuntimeStarted | RuntimeFailed:
        """Get the runtime to where it takes prompts, or tell why it does not get there.

        Args:
            known: the session to go on with, if there was one.
            taken_over: whether it is a person's, which is loaded or nothing.
            goes_on: whether an earlier life in this agent host had that session.
        """
        try:
            await asyncio.to_thread(make_ready, self._spec)
            self._process = await RuntimeProcess.start(self._spec)
        except FleetError as error:
            return RuntimeFailed(reason=str(error))
        except (OSError, ValueError) as error:
            reason = missing_program(self._spec.command, error) if isinstance(error, OSError) else f"{error}."
            return RuntimeFailed(reason=reason)
        transport = StdioTransport(
            self._process.stdin,
            self._process.stdout,
            room=self._chronicle.journal.room,
            on_noise=self.noise.heard,
            on_end=self._silent.set,
        )
        self._client = AcpClient(transport, on_update=self._on_update, on_permission=self._on_permission)
        try:
            async with asyncio.timeout(self._spec.initialize_timeout_s):
                ready = await establish(self._client, self._spec, known, taken_over=taken_over, goes_on=goes_on)
        except TimeoutError:
            return await self._failed(f"The runtime was not ready after {self._spec.initialize_timeout_s:g} s.")
        except RuntimeTrouble as error:
            if self.silent:
                how = await self._how_it_ended()
                return await self._failed(f"The runtime {how} before it was ready.")
            return await self._failed(str(error))
        self._established = ready
        return RuntimeStarted(
            pid=self._process.pid,
            session=ready.session,
            loaded=ready.loaded,
            images=ready.images,
            note=ready.note,
            version=ready.version,
        )

    async def _failed(self, reason: str) -> RuntimeFailed:
        assert self._process is not None
        if printed := self.noise.sentence:
            reason = f"{reason} {printed}"
        await self.end(gently=False)
        stderr = await self._process.last_words()
        hint = hint_for(f"{reason}\n{stderr}", self._spec.hints)
        return RuntimeFailed(reason=f"{reason} {hint}" if hint else reason, stderr=stderr)

    # --- what it is asked -----------------------------------------------------------------------------------------

    async def prompt(self, text: list[str], pictures: list[tuple[str, str]]) -> PromptEnd:
        """Run one turn. `pictures` are media type and base64 content.

        Raises:
            RuntimeTrouble: the runtime answered with an error, or is gone.
        """
        return await self._connected().prompt(self.session.session, text, pictures)

    async def open_aside(self, known: Collection[str]) -> AsideSession:
        """Begin a session for a question on the side; see `establish_aside`.

        Raises:
            RuntimeTrouble: it began none, or is gone.
        """
        return await establish_aside(self._connected(), self._spec, self.session, known)

    async def prompt_aside(self, session: str, text: list[str]) -> PromptEnd:
        """Run one turn in another session than the agent's.

        Raises:
            RuntimeTrouble: the runtime answered with an error, or is gone.
        """
        return await self._connected().prompt(session, text, [])

    async def close_aside(self, session: str) -> None:
        """Have the runtime put such a session away, where it can be asked to. Failures do not matter."""
        client = self._client
        if client is None or not self.session.closable:
            return
        with contextlib.suppress(TimeoutError, RuntimeTrouble):
            async with asyncio.timeout(_LEAVE_S):
                await client.close_session(session)

    def _connected(self) -> AcpClient:
        if self._client is None:
            raise RuntimeTrouble("The runtime is gone.")
        return self._client

    async def cancel(self, session: str) -> None:
        """Ask it to end the session's turn, if it still hears."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                await self._client.cancel(session)

    async def ping(self) -> None:
        """Come back when its loop has answered.

        Raises:
            ConnectionError: it is gone.
        """
        if self._client is None:
            raise ConnectionError
        await self._client.ping()

    # --- its end --------------------------------------------------------------------------------------------------

    async def until_ended(self) -> None:
        """Wait until it says nothing more, or its process is gone although something holds its pipes."""
        assert self._process is not None
        stream = asyncio.ensure_future(self._silent.wait())
        process = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait({stream, process}, return_when=asyncio.FIRST_COMPLETED)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(stream), _LEAVE_S)
        finally:
            stream.cancel()
            process.cancel()

    async def death(self) -> RuntimeDied:
        """End what is left of a runtime that ended by itself, and tell how it did."""
        assert self._process is not None
        how = await self._how_it_ended()
        await self.end(gently=False)
        stderr = await self._process.last_words()
        hint = hint_for(stderr, self._spec.hints)
        turn = self._chronicle.state.turn
        return RuntimeDied(
            reason=f"The runtime {how}." + (f" {hint}" if hint else ""),
            stderr=stderr,
            turn=turn.turn if turn is not None else None,
        )

    async def end(self, *, gently: bool) -> None:
        """End the runtime with everything that belongs to the agent; `gently`: it may put its things away first."""
        client, self._client = self._client, None
        if client is not None:
            if gently:
                await self._put_session_away(client)
            await client.close()
        process = self._process
        if gently and process is not None and process.alive:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _LEAVE_S)
        try:
            if process is not None:
                await process.end()
            else:
                await asyncio.to_thread(process_sweep.sweep, self._spec.marker, below=os.getpid())
        except Unsweepable as error:
            self._chronicle.journal.record(Notice(text=str(error)))

    async def _put_session_away(self, client: AcpClient) -> None:
        """Have the runtime write down what it knows, where it can be asked to.

        An adapter ends at once when its input does, and a sandbox takes the true runtime with it: Claude Code 2.1
        writes its conversation a moment after the turn, so the last turn was lost then.
        """
        ready, process = self._established, self._process
        if ready is None or not ready.closable or process is None:
            return
        with contextlib.suppress(TimeoutError, RuntimeTrouble):
            async with asyncio.timeout(_LEAVE_S):
                await client.close_session(ready.session)
                while await asyncio.to_thread(process.child_state) in {"running", "stopped"}:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)

    async def _how_it_ended(self) -> str:
        """Return what can be said of a runtime that says nothing more."""
        assert self._process is not None
        try:
            return str(await asyncio.wait_for(self._process.wait(), _LEAVE_S))
        except TimeoutError:
            return "closed its output"
