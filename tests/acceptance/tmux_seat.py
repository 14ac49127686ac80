"""Beside a pane of tmux, on a server of its own: said and seen over the socket that the program in it uses, too."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bot.config.paths import Paths
from tests import waiting
from tests.acceptance.seat import LIMIT
from tests.acceptance.terminal_seat import TerminalSeat


class TmuxSeat(TerminalSeat):
    """What the pane shows."""

    kind = "tmux"
    connector = "tmux"

    @classmethod
    @asynccontextmanager
    async def opened(cls, paths: Paths) -> AsyncIterator[TerminalSeat]:
        # Short: a socket is in it.
        folder = Path(tempfile.mkdtemp(prefix="muster-tmux-", dir="/tmp"))
        try:
            async with super().opened(paths) as seat:
                assert isinstance(seat, TmuxSeat)
                seat.server = folder / "server"
                try:
                    yield seat
                finally:
                    await seat.leave()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    server: Path

    def block(self) -> Mapping[str, Any]:
        return {"socket": str(self.server)}

    async def leave(self) -> None:
        await asyncio.to_thread(_tmux, self.server, "kill-server")

    async def arrived(self) -> None:
        await super().arrived()
        await waiting.until(
            lambda: asyncio.to_thread(_tmux, self.server, "capture-pane", "-p", "-t", "=Muster:"),
            lambda found: "0 failed" in found,
            limit=LIMIT,
        )


def _tmux(server: Path, *words: str) -> str:
    command = ["tmux", "-u", "-S", str(server), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False).stdout
