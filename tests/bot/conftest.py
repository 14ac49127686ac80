"""What tests of the orchestrator share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bot.orchestrator import House, house


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    """An installation as it is by default; nothing runs until it is opened."""
    async with house(tmp_path) as made:
        yield made
