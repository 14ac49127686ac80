"""What tests of the dashboard in browsers share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bot.interfaces.web.browser import Browser, browser, dashboard
from tests.bot.orchestrator import House


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """An orchestrator that runs and serves the dashboard."""
    async with dashboard(tmp_path) as made:
        yield made


@pytest.fixture
async def it(home: House) -> AsyncIterator[Browser]:
    """A browser that is not logged in."""
    async with browser(home) as made:
        yield made
