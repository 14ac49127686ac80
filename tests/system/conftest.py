"""What the tests of the whole house share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.config.paths import Paths
from fleet.sim.provider import server as provider
from fleet.sim.provider.server import Provider
from tests import soak
from tests.synapse import Synapse
from tests.system.installation import Premises
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


@pytest.fixture
async def home(tmp_path: Path, models: Provider) -> AsyncIterator[Premises]:
    """An installation with a terminal alone, not started."""
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    settings = {
        "connectors": {"terminal": {}},
        "accounts": {"sim": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"}},
        "agents": {"runtime": "sim", "sandbox": "none", "heartbeat": "1s"},
    }
    paths.muster_yaml.write_text(yaml.safe_dump(settings))
    premises = Premises(folder=tmp_path, models=models, paths=paths, kind="terminal")
    try:
        yield premises
    finally:
        await premises.close()
