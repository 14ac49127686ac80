"""A person's terminal at an agent host (docs/reference/control-protocol.md, `hand_over`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from fleet.control import terminal_frames
from fleet.control.agent_host_client import AgentLink
from fleet.control.terminal_frames import TerminalFrame, TerminalSize, frame_of, line_of
from fleet.errors import AgentUnreachable


class TerminalLink:
    """A connection on which an agent's terminal program runs. It ends when the connection does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls, path: str | Path, *, by: str, now: bool, size: TerminalSize, environ: Mapping[str, str]
    ) -> TerminalLink:
        """Have the agent handed over, and return once its terminal program runs.

        Args:
            path: the control socket of its agent host.
            by: who takes it.
            now: whether a turn that runs is cancelled.
            size: of the terminal.
            environ: of the shell; what a terminal program needs is taken from it, and nothing else.

        Raises:
            AgentUnreachable: the agent host does not answer, or went away.
            AgentRefused: it says no; see `fleet.host.handover.handovers.Handovers.ask`. ``unknown_method``: it is
                older than this.
        """
        params = {
            "by": by,
            "now": now,
            "rows": size.rows,
            "columns": size.columns,
            "environment": terminal_frames.variables(environ),
        }
        return cls(*await AgentLink.hand_over(path, params))

    async def receive(self) -> TerminalFrame:
        """Return what the program's side says next.

        Raises:
            AgentUnreachable: the agent host went away.
        """
        try:
            line = await self._reader.readline()
            if line.endswith(b"\n"):
                return frame_of(line)
        except (OSError, ValueError):
            pass
        raise AgentUnreachable("The agent host went away, and the terminal program with it.")

    async def send(self, frame: TerminalFrame) -> None:
        """Say something to the program's side. If that is gone, `receive` says so."""
        with contextlib.suppress(OSError):
            self._writer.write(line_of(frame))
            await self._writer.drain()

    async def __aenter__(self) -> TerminalLink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
