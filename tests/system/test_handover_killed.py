"""A handover, while the orchestrator is killed and comes back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pexpect
import pytest

from tests import waiting
from tests.system.installation import LIMIT, Premises

pytestmark = pytest.mark.slow


async def agent(home: Premises) -> dict[str, Any]:
    """Return what `ps` says of it; nothing if it does not."""
    status, said = await home.shell("ps", "--json")
    found: list[dict[str, Any]] = json.loads(said) if status == 0 else []
    return found[0] if found else {}


async def test_it_goes_on_while_the_orchestrator_is_killed_and_is_told_afterwards(home: Premises) -> None:
    await home.start()
    status, said = await home.shell("launch", "coder0")
    assert status == 0, said

    async def state(wanted: str) -> bool:
        return (await agent(home)).get("state") == wanted

    await waiting.until(lambda: state("idle"), limit=LIMIT)
    status, said = await home.shell("send", "coder0", "Good morning.")
    assert status == 0, said

    async def begun() -> bool:
        found = await agent(home)
        return found.get("turns") == 1 and found.get("state") == "idle"

    await waiting.until(begun, limit=LIMIT)
    child: pexpect.spawn[str] = pexpect.spawn(
        sys.executable,
        ["-m", "bot", "handover", "coder0"],
        timeout=int(LIMIT),
        encoding="utf-8",
        env={**home.environment(), "TERM": "xterm"},
    )
    try:
        await asyncio.to_thread(child.expect, "/quit leaves")
        await home.kill()
        child.send("Remember pear.\r")
        await asyncio.to_thread(child.expect, "You said: Remember pear.")
        await home.start()

        async def known() -> bool:
            return "handed over to a terminal by" in str((await agent(home)).get("detail"))

        await waiting.until(known, limit=LIMIT)
        child.send("/quit\r")
        await asyncio.to_thread(child.expect, "coder0 goes on under Muster")
        await waiting.until(lambda: state("idle"), limit=LIMIT)
    finally:
        child.close(force=True)
    _, audit = await home.shell("audit")
    assert "handover begins" in audit
    assert "handover ends" in audit
