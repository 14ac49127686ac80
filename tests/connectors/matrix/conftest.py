"""A bot without an orchestrator: the connector, and a sink that keeps what a register would."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectors.contract.messages import Batch, Health, Inbound, Message, Outbound, OutboundContent, Sent, Text
from connectors.matrix.connector import MatrixConnector
from connectors.matrix.settings import MatrixSettings
from tests import waiting
from tests.synapse import Account, Synapse

LIMIT = 60.0


class AgentSupervisor:
    """Takes batches as a register does: each event once, and the cursor with them."""

    def __init__(self) -> None:
        self.events: list[Inbound] = []
        self.cursor: str | None = None
        self.batches = 0
        self.largest = 0
        self._known: set[str] = set()
        self._news = asyncio.Condition()

    async def __call__(self, batch: Batch) -> None:
        self.batches += 1
        self.largest = max(self.largest, len(batch.events))
        for event in batch.events:
            if event.event_id not in self._known:
                self._known.add(event.event_id)
                self.events.append(event)
        if batch.cursor is not None:
            self.cursor = batch.cursor
        async with self._news:
            self._news.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so, looking after each batch."""
        async with asyncio.timeout(LIMIT), self._news:
            await self._news.wait_for(true)

    async def got(self, event_id: str) -> Inbound:
        """Wait for one event."""
        await self.until(lambda: event_id in self._known)
        return next(event for event in self.events if event.event_id == event_id)

    def forget(self) -> None:
        """What came before comes as if it were new."""
        self.events.clear()
        self._known.clear()

    @property
    def texts(self) -> list[str]:
        return [event.body.text for event in self.events if isinstance(event.body, Text)]


class Bot:
    """One bot user; `running` is one life of it."""

    def __init__(
        self,
        account: Account,
        folder: Path,
        *,
        inviters: set[str] | None = None,
        readers: set[str] | None = None,
        fleet_rooms: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        self.account = account
        self.user_id = account.user_id
        self.supervisor = AgentSupervisor()
        self.inviters = inviters
        self.readers = readers
        """Who has a permission; None: everybody."""
        self.fleet_rooms = fleet_rooms
        self.later = 0.0
        """Seconds by which its clock is ahead."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        token = folder / "token"
        token.write_text(account.access_token)
        given = {"homeserver": account.homeserver, "user": account.user_id, "access_token": f"file:{token}"}
        self.settings = MatrixSettings.model_validate(given | settings)
        self.connector = self._connector()

    def _connector(self) -> MatrixConnector:
        return MatrixConnector(
            "matrix",
            self.settings,
            self.folder / "state",
            may_invite=self._may_invite,
            may_read=self._may_read,
            fleet_rooms=self.fleet_rooms,
            clock=lambda: time.time() + self.later,
        )

    async def _may_invite(self, sender: str) -> bool:
        return self.inviters is None or sender in self.inviters

    async def _may_read(self, person: str, groups: Sequence[str] = ()) -> bool:
        return self.readers is None or person in self.readers

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[MatrixConnector]:
        """From one start of the process to its end; what was kept is the cursor."""
        self.connector = connector = self._connector()
        connector.subscribe(self.supervisor)
        life = asyncio.create_task(connector.start(self.supervisor.cursor))
        try:
            await until(lambda: self._in_touch(life))
            if life.done():
                life.result()
            yield connector
        finally:
            life.cancel()
            await asyncio.wait([life])
            await connector.stop()

    async def _in_touch(self, life: asyncio.Task[None]) -> bool:
        health = await self.connector.health()
        up = health.reachable is True and health.authenticated is True and self.supervisor.cursor is not None
        return up or life.done()

    async def say(
        self, conversation: str, content: OutboundContent | str, *, key: str, target: str | None = None
    ) -> Sent:
        """Send one thing."""
        if isinstance(content, str):
            content = Message(text=content)
        outbound = Outbound(key=key, connector="matrix", conversation=conversation, content=content)
        return await self.connector.send(outbound, conversation=conversation, target=target)

    async def find(
        self, conversation: str, content: OutboundContent | str, *, key: str, target: str | None = None
    ) -> Sent | None:
        """Look for one thing."""
        if isinstance(content, str):
            content = Message(text=content)
        outbound = Outbound(key=key, connector="matrix", conversation=conversation, content=content)
        return await self.connector.find(outbound, conversation=conversation, target=target)


async def until(true: Callable[[], Any]) -> None:
    """Wait until something outside our reach is so, asking again and again."""
    await waiting.until(true, limit=LIMIT)


async def healthy(connector: MatrixConnector, wanted: Callable[[Health], bool]) -> None:
    """Wait until the health says so."""

    async def so() -> bool:
        return wanted(await connector.health())

    await until(so)


@pytest.fixture
async def bot(synapse: Synapse, tmp_path: Path) -> Bot:
    """A bot on the shared server, not running."""
    return Bot(await synapse.register(prefix="bot"), tmp_path / "bot")
