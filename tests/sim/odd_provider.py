"""The simulated provider with odd deliveries, odd bills and, by chance, failures."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fleet.sim.provider.normalized_request import NormalizedRequest
from fleet.sim.provider.server import Provider
from tests.sim import chaos
from tests.sim.odd_delivery import OddDelivery, parse


class OddProvider(Provider):
    """Delivers each answer as directives order it.

    Args:
        seed: with one, every request is answered in some odd way, or fails (tests.sim.chaos).
    """

    def __init__(self, *, seed: str | None = None) -> None:
        super().__init__()
        self._seed = seed

    def order(self, number: int, request: NormalizedRequest) -> str | None:
        if self._seed is None:
            return super().order(number, request)
        dice = random.Random(f"{self._seed}:{number}")
        return chaos.orders(dice, request.api, stream=request.stream) + chaos.SAYING

    def delivery(self, text: str) -> OddDelivery:
        return OddDelivery(parse(text)[0])


@asynccontextmanager
async def running(*, seed: str | None = None) -> AsyncIterator[OddProvider]:
    """A provider that serves while the block runs."""
    provider = OddProvider(seed=seed)
    await provider.start()
    try:
        yield provider
    finally:
        await provider.stop()
