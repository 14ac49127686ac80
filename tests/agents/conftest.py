"""Each real agent, in a sandbox and without one."""

from __future__ import annotations

import platform
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agents.test_real_agents import Real, agent_of


@pytest.fixture(params=["claude", "codex", "opencode", "pi"])
def name(request: pytest.FixtureRequest) -> str:
    if request.param in {"opencode", "pi"} and platform.machine() != "x86_64":
        pytest.skip(f"tried by hand: {request.param} is installed for x86-64 alone")
    return str(request.param)


@pytest.fixture(params=["bubblewrap", "none"])
async def real(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> AsyncIterator[Real]:
    if request.param == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    async with agent_of(name, request.param, tmp_path) as real:
        yield real
        await real.audited()
