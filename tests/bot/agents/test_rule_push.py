"""Pushing an agent's rules to its host: only what it does not have, again after a fault, and not to an older host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bot.agents import rule_push
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused
from tests.bot.orchestrator import house


@pytest.mark.parametrize("code", ["unknown_method", "not_writable"])
async def test_a_host_that_takes_no_rules_goes_on_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(rule_push, "PUSH_AGAIN", 0.01)
    tried = asyncio.Semaphore(0)
    push = AgentLink.set_rules

    async def refuse(self: AgentLink, rules: Any) -> None:
        tried.release()
        raise AgentRefused("It cannot.", refusal=code)

    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        monkeypatch.setattr(AgentLink, "set_rules", refuse)
        await home.ask('!approvals rule add allow "touch one.txt"')
        async with asyncio.timeout(30):
            await tried.acquire()
        event = home.say("[[run: touch one.txt]]", thread)
        await home.heard(thread, "asks for permission")
        if code == "not_writable":
            # What was a passing fault is tried again, and then the request that waits is answered.
            monkeypatch.setattr(AgentLink, "set_rules", push)
            await home.marks(event, "✅")
        else:
            assert tried.locked(), "an older agent host is asked once"


@pytest.mark.slow
async def test_a_new_connection_pushes_only_what_the_host_does_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[Any] = []
    push = AgentLink.set_rules

    async def counted(self: AgentLink, rules: Any) -> None:
        pushed.append(rules)
        await push(self, rules)

    monkeypatch.setattr(AgentLink, "set_rules", counted)
    async with house(tmp_path) as home:
        async with home.open():
            await home.ask('!approvals rule add allow "touch one.txt"')
            await home.launch("coder0")
            await home.heard_from("coder0")
        async with home.open():
            await home.heard_from("coder0")
            await home.ask('!approvals rule add allow "touch two.txt"')
            await home.chat.until(lambda: pushed, limit=30)
    # It had the first from its start.
    assert [[rule["command"] for rule in rules] for rules in pushed] == [["touch one.txt", "touch two.txt"]]
