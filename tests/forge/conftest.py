"""The forge that tests of this folder work with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.forge.forge_server.server import ForgeServer

SHOP = "acme/shop"


@pytest.fixture
async def forge() -> AsyncIterator[ForgeServer]:
    """A forge with the organization `acme`, of which `ana` and `muster` are members, its repository, and `eve`."""
    async with ForgeServer() as server:
        server.add_org("acme", members=("ana", "muster"))
        server.add_user("eve")
        server.add_repository(SHOP, files={"README.md": "A shop.\n", "shop.py": "def price():\n    return 1\n"})
        yield server
