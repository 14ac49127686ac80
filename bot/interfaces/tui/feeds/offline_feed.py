"""The fleet while the orchestrator is down: what agent hosts and journals say, looked at every two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from bot.read_models.agent import AgentModel
from bot.read_models.documents import AGENTS, Document, ReadModel, type_of
from bot.read_models.fleet import FleetModel
from bot.read_models.limits import LimitsModel
from bot.text.errors import NotRunning
from core.errors import MusterError

#: The epoch of what is read from files.
OFFLINE_EPOCH: Final = "offline"
#: What can be known, besides each agent.
_KNOWN: Final = ("fleet", "limits")
#: Seconds between two looks.
POLL_S: Final = 2.0


@dataclass(slots=True, kw_only=True)
class OfflineFeed:
    """A `DocumentFeed` without the orchestrator: the fleet, each agent of it without its conversation, and limits."""

    load: Callable[[], FleetModel]
    """Reads the fleet; it may block."""
    limits: Callable[[], LimitsModel | None] = lambda: None
    """Reads the limits; None: no egress ever ran here."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.time
    _revision: int = 0
    _known: dict[str, Document] = field(default_factory=dict)

    async def get(self, name: str) -> Document:
        """Return a document as it is now.

        Raises:
            NotRunning: only a running orchestrator knows it.
            MusterError: the agents' folders cannot be read.
        """
        if type_of(name) is None or (name not in _KNOWN and not name.startswith(AGENTS)):
            raise NotRunning
        try:
            if name == "limits":
                limits = await asyncio.to_thread(self.limits)
                if limits is None:
                    raise NotRunning
                return self._made(name, limits)
            fleet = await asyncio.to_thread(self.load)
        except OSError as error:
            raise MusterError(
                f"The files of this installation cannot be read: {error.strerror}.", code="disk.unreadable"
            ) from None
        return self._made(name, _value(name, fleet))

    async def page(self, name: str, before: str) -> ReadModel | None:
        """Refuse: only a running orchestrator reads older pages.

        Raises:
            NotRunning: always.
        """
        raise NotRunning

    @contextlib.asynccontextmanager
    async def follow(
        self, names: Collection[str], *, after: tuple[str, int] | None = None
    ) -> AsyncIterator[AsyncIterator[Document]]:
        """Follow the documents among these that can be known; the others do not come."""
        documents = self._documents(names)
        try:
            yield documents
        finally:
            await documents.aclose()

    async def _documents(self, names: Collection[str]) -> AsyncGenerator[Document, None]:
        sent: dict[str, int] = {}
        while True:
            for name in names:
                with contextlib.suppress(MusterError):
                    document = await self.get(name)
                    if sent.get(name) != document.revision:
                        sent[name] = document.revision
                        yield document
            await self.sleep(POLL_S)

    def _made(self, name: str, value: ReadModel | None) -> Document:
        before = self._known.get(name)
        if before is None or before.value != value:
            self._revision += 1
            number = self._revision
        else:
            number = before.revision
        made = Document(name=name, revision=number, epoch=OFFLINE_EPOCH, made_at=self.clock(), value=value)
        self._known[name] = made
        return made


def _value(name: str, fleet: FleetModel) -> ReadModel | None:
    if name == "fleet":
        return fleet
    wanted = name.removeprefix(AGENTS)
    agent = next((each for each in fleet.agents if each.name == wanted), None)
    return None if agent is None else AgentModel(agent=agent)
