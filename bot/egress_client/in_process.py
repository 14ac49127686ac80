"""An egress within this process: for the demo and for tests, where nothing is to outlive them."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bot.egress_client.process import places
from core.errors import MusterError
from egress.daemon.control_client import EgressControlClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bot.config.paths import Paths
    from egress.daemon.egress_service import Egress


@dataclass(slots=True)
class InsideEgress:
    """Starts one in this process's event loop when it is needed (bot.egress_client.source.EgressSource)."""

    paths: Paths
    clock: Callable[[], float] = time.time
    """Seconds since the epoch."""
    egress: Egress | None = None
    _client: EgressControlClient | None = None
    _running: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def find(self) -> EgressControlClient | None:
        """Return the one that runs; None: none does."""
        return self._client

    async def start(self) -> EgressControlClient:
        """Return the one that runs, started if need be."""
        if self._client is None:
            from egress.daemon.egress_service import running

            self.egress = await self._running.enter_async_context(
                running(places(self.paths), grace_s=0.0, clock=self.clock)
            )
            self._client = await self._running.enter_async_context(EgressControlClient(places(self.paths).control))
        return self._client

    async def is_outdated(self) -> bool:
        """It is of this process, so never."""
        return False

    async def end(self) -> int:
        """It hangs with this process or not at all."""
        raise MusterError("it is of this process.")

    async def stop(self) -> None:
        """End it. It can be started again, and goes on with its ledger."""
        self._client = self.egress = None
        await self._running.aclose()


@contextlib.asynccontextmanager
async def inside(paths: Paths, clock: Callable[[], float] = time.time) -> AsyncIterator[InsideEgress]:
    """One that ends with the block; `clock` gives seconds since the epoch."""
    made = InsideEgress(paths, clock)
    try:
        yield made
    finally:
        await made.stop()
