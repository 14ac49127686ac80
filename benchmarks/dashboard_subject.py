"""A dashboard that tells when each move of its cursor is on the screen: ``python -m benchmarks.dashboard_subject``."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import replace

from textual import on

from benchmarks.dashboard import AGENTS, UPDATES, agents_at
from bot.commands import sections
from bot.config.paths import Paths
from bot.interfaces.tui.app import Dashboard
from bot.interfaces.tui.feeds.switching_source import SourceState
from bot.interfaces.tui.start import answer_keys_first, made
from bot.interfaces.tui.widgets.row_table import RowTable
from bot.read_models.documents import Document, ReadModel
from bot.read_models.fleet import FleetModel
from tests.bot.interfaces.tui.scene import FakeOrders


class Busy:
    """Documents that change many times a second, each time another agent."""

    state = SourceState(mode="live", since=0.0)

    def watch(self, tell: Callable[[SourceState], None]) -> None:
        """Never changes."""

    async def documents(self, names: Collection[str]) -> AsyncGenerator[Document, None]:
        agents = list(agents_at(0))
        revision = 0
        while True:
            place = revision % AGENTS
            agents[place] = replace(agents[place], queued=revision, activity=f"step {revision}")
            value = FleetModel(agents=tuple(agents))
            yield Document(name="fleet", revision=revision, epoch="e", made_at=time.time(), value=value)
            revision += 1
            await asyncio.sleep(1 / UPDATES)

    async def older(self, name: str, before: str) -> ReadModel | None:
        return None


def told(kind: type[Dashboard], pipe: int) -> type[Dashboard]:
    """Return an app that writes the time into a pipe when a move of the cursor was painted."""

    class Told(kind):  # type: ignore[misc, valid-type]
        @on(RowTable.Moved)
        def _moved(self, event: RowTable.Moved) -> None:
            self.call_after_refresh(lambda: os.write(pipe, f"{time.monotonic()}\n".encode()))

    return Told


def main() -> None:
    """Run over changing documents, or over the gateway of an installation."""
    pipe, home = int(sys.argv[1]), sys.argv[2]
    answer_keys_first()
    if home == "-":
        told(Dashboard, pipe)(Busy(), FakeOrders(), sections.load()).run()
        return
    app = made(Paths.of({"MUSTER_HOME": home, "HOME": home}))
    app.__class__ = told(Dashboard, pipe)
    app.run()


if __name__ == "__main__":
    main()
