"""A forge, and the tools of agents that work on its issues."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from database.engine.store import Store
from tests.bot.issue_runs.agent_tools.desk import SHOP, Desk, desk_at, link_to
from tests.forge.forge_server.server import ForgeServer


@pytest.fixture
async def forge() -> AsyncIterator[ForgeServer]:
    """A forge with the organization `acme`, its repository, and the issue #1 of a member."""
    async with ForgeServer() as server:
        server.add_org("acme", members=("ana", "muster"))
        server.add_user("eve")
        server.add_repository(SHOP, files={"README.md": "A shop.\n", "shop.py": "def price():\n    return 1\n"})
        server.add_issue(SHOP, "It fails", author="ana", body="The price is wrong.")
        yield server


@pytest.fixture
async def desk(store: Store, forge: ForgeServer, tmp_path: Path) -> AsyncIterator[Desk]:
    """The tools at a forge of the kind gitea."""
    async with desk_at(store, link_to(forge.url, forge.add_token("muster"), "gitea", tmp_path)) as made:
        yield made
