"""What tests of issue runs share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bot.issue_runs.forge_house import ForgeHouse, forge_house


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ForgeHouse]:
    """A forge with one repository, and an installation that is set up for it; nothing runs until it is opened."""
    async with forge_house(tmp_path) as made:
        yield made
