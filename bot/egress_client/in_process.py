"""An egress within this process, for the demo and for tests, where it must not outlive the process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from bot.config.paths import Paths
from bot.egress_client.process import places
from core.errors import MusterError
from egress.daemon.control_client import EgressControlClient
from egress.daemon.egress_service import Egress


@dataclass(slots=True)
class InProcessEgress:
    """An egress in this process's event loop, started on demand (bot.egress_client.source.EgressSource)."""

    paths: Paths
    clock: Callable[[], float] = time.time
    """Seconds since the epoch."""
    egress: Egress | None = None
    _client: EgressControlClient | None = None
    _running: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def find(self) -> EgressControlClient | None:
        """Return the client of the running egress, or None if none runs."""
        return self._client

    async def start(self) -> EgressControlClient:
        """Return the client of the egress, and start the egress if necessary."""
        if self._client is None:
            from egress.daemon.startup import running

            self.egress = await self._running.enter_async_context(
                running(places(self.paths), grace_s=0.0, clock=self.clock)
            )
            self._client = await self._running.enter_async_context(EgressControlClient(places(self.paths).control))
        return self._client

    async def is_outdated(self) -> bool:
        """Return False, because it always runs the version of this process."""
        return False

    async def end(self) -> int:
        """Refuse to kill the egress, which is part of this process."""
        raise MusterError("it is of this process.")

    async def stop(self) -> None:
        """Stop the egress. It can be started again with the same ledger."""
        self._client = self.egress = None
        await self._running.aclose()


@contextlib.asynccontextmanager
async def inside(paths: Paths, clock: Callable[[], float] = time.time) -> AsyncIterator[InProcessEgress]:
    """Yield an egress that is stopped at the end of the block; `clock` returns seconds since the epoch."""
    made = InProcessEgress(paths, clock)
    try:
        yield made
    finally:
        await made.stop()
