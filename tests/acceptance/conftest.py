"""A whole orchestrator for each seat, in this process; the tests of a module share it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio
import yaml

from bot.app.orchestrator import Orchestrator, running
from bot.config.loader import load
from bot.config.paths import Paths
from bot.egress_client.in_process import inside
from fleet.sim.provider import server as provider
from fleet.sim.provider.server import Provider
from fleet.supervision import host_lifecycle
from tests.acceptance import seats
from tests.acceptance.operator import Operator
from tests.acceptance.seat import LIMIT, Seat

#: The agent that is there from the beginning.
STANDING = "coder0"


@dataclass(slots=True)
class Day:
    """An operator at a seat, and the Muster that speaks there."""

    ana: Operator
    seat: Seat
    paths: Paths
    models: Provider
    orchestrator: Orchestrator
    thread: str = ""
    """Where the standing agent speaks."""
    _words: int = 0

    def token(self) -> str:
        """A word that stands nowhere else."""
        self._words += 1
        return f"tok{self._words}x"

    def by(self, agent: str, words: str) -> str:
        """An agent's words as they read here: behind its name where no thread shows whose they are."""
        return words if self.ana.can().threads else f"**{agent}**:\n\n{words}"


def configuration(seat: Seat, models: Provider, **more: Any) -> Mapping[str, Any]:
    """The muster.yaml of an installation that speaks at one seat."""
    return {
        "connectors": {seat.kind: dict(seat.block()) or None},
        "operators": {f"{seat.kind}:{seat.who}": "admin"},
        "accounts": {"sim": {"provider": "anthropic", "base_url": models.url, "credential": "env:SIM_KEY"}},
        "agents": {"runtime": "sim", "sandbox": "none"},
        "budgets": {"host": {"tokens": "90M", "window": "day"}},
        **more,
    }


@asynccontextmanager
async def day_at(name: str, folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Day]:
    """A day at a seat, with an agent that is ready; nobody is left of it at its end."""
    paths = Paths.of({"MUSTER_HOME": str(folder), "HOME": str(folder)})
    paths.prepare()
    async with (
        provider.running() as models,
        inside(paths) as egress,
        seats.opened(name, paths, request) as seat,
    ):
        paths.muster_yaml.write_text(yaml.safe_dump(configuration(seat, models)))
        given = {"SIM_KEY": "sk-test-not-a-real-key", **seat.environment()}
        try:
            # Connectors look up their secrets in the process's own environment.
            with mock.patch.dict(os.environ, given):
                async with running(paths, load(paths), given, egress=egress) as orchestrator:
                    connector = orchestrator.connectors[seat.kind]
                    async with asyncio.timeout(LIMIT):
                        await connector.connected()
                        await seat.arrived()
                    day = Day(Operator(seat, lambda: connector.capabilities), seat, paths, models, orchestrator)
                    day.thread = await day.ana.launch(STANDING)
                    yield day
        finally:
            for agent in paths.agents.iterdir():
                await host_lifecycle.kill(agent)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=seats.EVERY)
async def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Day]:
    """One for each seat."""
    folder = tmp_path_factory.mktemp("muster")
    async with day_at(request.param, folder, request) as made:
        yield made
