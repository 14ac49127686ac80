"""The forge that tests of this folder work with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.forge.forge_server.server import ForgeServer

SHOP = "acme/shop"


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a proxy that nobody listens at, as no client may use it unasked."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)


@pytest.fixture
async def forge() -> AsyncIterator[ForgeServer]:
    """A forge with the organization `acme`, of which `ana` and `muster` are members, its repository, and `eve`."""
    async with ForgeServer() as server:
        server.add_org("acme", members=("ana", "muster"))
        server.add_user("eve")
        server.add_repository(SHOP, files={"README.md": "A shop.\n", "shop.py": "def price():\n    return 1\n"})
        yield server
