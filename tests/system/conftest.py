"""What the tests of the whole house share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.sim.provider import server as provider
from fleet.sim.provider.server import Provider
from tests import soak
from tests.synapse import Synapse
from tests.system.matrix_installation import Installation, installation


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The random choices of a test; MUSTER_SEED repeats them."""
    return random.Random(f"{soak.seed()} {request.node.name}")


@pytest.fixture
async def models() -> AsyncIterator[Provider]:
    """The model provider that all agents of a test ask; its ledger knows what reached a model."""
    async with provider.running() as running:
        yield running


@pytest.fixture
def make_home(
    tmp_path: Path, synapse: Synapse, models: Provider
) -> Callable[..., AbstractAsyncContextManager[Installation]]:
    """An installation as `tests.system.matrix_installation.installation` takes it, started and in its room."""

    @asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[Installation]:
        async with installation(tmp_path, synapse, models, **settings) as home:
            await home.start()
            await home.joined()
            yield home

    return make
