"""Stages for kill tests: a room with an agent, whose books are balanced at the end whatever was killed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fleet.sim.provider.server import Provider
from tests.bot.projects.fleet_with_project import repository
from tests.operator_client import Operator
from tests.synapse import Synapse
from tests.system.matrix_installation import installation
from tests.system.operator_record import Books
from tests.system.scenarios import Stage


@asynccontextmanager
async def staged(folder: Path, synapse: Synapse, models: Provider, **settings: Any) -> AsyncIterator[Stage]:
    """A stage whose standing agent is ready, and whose orchestrator was killed. Its room is that of the project web."""
    async with (
        installation(folder, synapse, models, **settings) as home,
        Operator(await synapse.register(prefix="stan")) as stranger,
    ):
        repo = repository(folder / "repo")
        web = {"repo": str(repo), "room": f"matrix:{home.room}", "runtime": "sim", "sandbox": "none"}
        home.configure(**settings, projects={"web": {**web, "topics": 1, "idle": "1s"}})
        stage = Stage(home, Books(home), stranger=stranger, repository=repo)
        await home.ana.invite(home.room, stranger.user_id)
        await stranger.join(home.room)
        await home.start()
        await home.joined()
        await stage.set_up()
        # What lies still would be the first to be said after the next start.
        await stage.books.settled()
        await home.kill()
        yield stage
        if home.process is None:
            await home.start()
        await stage.books.settled()
        for name in home.agents():
            await stage.books.ask(f"!stop {name}")
        await home.nobody_left()
        await stage.books.balance()
