"""A gateway and a tmux connector in a test, and the person in front of a pane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.app import pane_commands
from bot.auth.permissions import Operators
from bot.commands.executor import Executor
from bot.commands.registry import CommandTable
from bot.config.paths import Paths
from bot.interfaces.api.server import Gateway
from bot.messaging.event_hub import EventHub
from bot.reports.services import ReportServices
from connectors.contract.agent_count_feed import Headcount
from connectors.contract.messages import Batch, Outbound, OutboundContent, Text
from connectors.tmux.connector import TmuxConnector
from connectors.tmux.pane_model import PanePlace, WantedPane
from connectors.tmux.process_client import ask
from connectors.tmux.settings import TmuxSettings
from database.engine.store import Store
from tests import waiting
from tests.connectors.tmux.server import Server

LIMIT = 60.0


async def no_pane(wanted: WantedPane, *, make: bool, anew: bool = False) -> PanePlace | None:
    """A tmux in which there is none, for programs that run elsewhere."""
    return None


class Muster:
    """A gateway with a tmux connector behind it. It hears, and says what it is told to."""

    def __init__(self, folder: Path, tmux: Server | None) -> None:
        self.paths = Paths(config=folder, state=folder, sockets=folder)
        self.paths.connectors.mkdir(mode=0o700)
        self._tmux = tmux
        self.heard: list[tuple[str, str]] = []
        self.unanswered = False
        self.headcount = Headcount()
        self.connector: TmuxConnector

    @asynccontextmanager
    async def up(self, *, configured: bool = True) -> AsyncIterator[Muster]:
        folder = self.paths.connector_folder("tmux")
        folder.mkdir(mode=0o700, exist_ok=True)
        self.connector = TmuxConnector(
            "tmux",
            TmuxSettings(),
            folder,
            pane_program=pane_commands.room(self.paths, "tmux"),
            headcount=self.headcount,
            grace=0.5,
            asking=ask if self._tmux is not None else no_pane,
        )
        self.connector.subscribe(self._accept)
        store = await Store.open(f"sqlite:///{self.paths.state}/register.db")
        services = ReportServices(
            clock=lambda: 0.0,
            store=store,
            table=CommandTable(),
            operators=Operators(store, {}),
            events=EventHub(),
            terminals={"tmux": self.connector} if configured else {},
        )
        executor = Executor(services)
        gateway = Gateway(services, executor, self.paths.gateway_socket)
        await gateway.start()
        life = asyncio.ensure_future(self.connector.start(None))
        try:
            yield self
        finally:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
            await gateway.stop()
            await executor.stop()
            await store.close()

    async def _accept(self, batch: Batch) -> None:
        for event in batch.events:
            assert isinstance(event.body, Text)
            if event.event_id not in {known for known, _ in self.heard}:
                self.heard.append((event.event_id, event.body.text))
        if self.unanswered:
            # Durable, and killed before the answer is out.
            await asyncio.Event().wait()

    @property
    def tmux(self) -> Server:
        assert self._tmux is not None
        return self._tmux

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.heard]

    async def say(self, key: str, content: OutboundContent, conversation: str = "fleet") -> None:
        outbound = Outbound(key=key, connector="tmux", conversation=conversation, content=content)
        await self.connector.send(outbound, conversation=conversation, target=None)

    # --- what the person sees and does -------------------------------------------------------------------------

    @property
    def pane(self) -> str:
        """The one that shows the room; empty while there is none."""
        lines = self.tmux.panes("#{pane_id} #{@muster_room}")
        return next((line.split()[0] for line in lines if " " in line.strip()), "")

    async def type(self, text: str) -> None:
        await asyncio.to_thread(self.tmux, "send-keys", "-l", "-t", self.pane, text)
        await asyncio.to_thread(self.tmux, "send-keys", "-t", self.pane, "Enter")

    async def sees(self, words: str) -> str:
        """What stands in the pane, once these words do."""
        seen = ""

        def there() -> bool:
            nonlocal seen
            # Lines are broken at the width of the pane.
            seen = self.tmux.shown(self.pane)
            return words in seen.replace("\n", "")

        await until(there, lambda: seen)
        return seen

    async def at_the_prompt(self) -> None:
        await until(lambda: self.pane)
        await self.sees("fleet>")
        await self.reachable(True)

    async def reachable(self, is_it: bool) -> None:
        """Wait until what shows the room has come, or is gone."""
        try:
            await waiting.until(self.connector.health, lambda found: (found.reachable is True) == is_it, limit=LIMIT)
        except TimeoutError:
            pytest.fail(f"it did not come to that: {await asyncio.to_thread(self.tmux.shown, self.pane)}")


async def until(true: Callable[[], object], what: Callable[[], object] = str) -> None:
    try:
        await waiting.until(lambda: asyncio.to_thread(true), limit=LIMIT)
    except TimeoutError:
        pytest.fail(f"it did not come to that: {what()}")
