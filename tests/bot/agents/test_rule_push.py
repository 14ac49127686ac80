"""Pushing an agent's rules to its host: only what it does not have, again after a fault, and not to an older host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bot.agents import rule_push
from bot.approvals import rule_delivery
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
        told = await home.ask('!approvals rule add allow "touch one.txt"')
        assert "coder0 did not take the rules: It cannot." in told
        assert {"unknown_method": "`!restart coder0`", "not_writable": "tries again"}[code] in told
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


async def test_who_changes_rules_hears_of_a_host_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_delivery, "WAIT_S", 0.1)
    answered = asyncio.Event()
    push = AgentLink.set_rules

    async def late(self: AgentLink, rules: Any) -> None:
        await answered.wait()
        await push(self, rules)

    async with house(tmp_path) as home, home.open():
        await home.launch("coder0")
        second = await home.launch("coder1")
        await home.ask("!stop coder1")
        await home.heard(second, "Stopped")
        monkeypatch.setattr(AgentLink, "set_rules", late)
        told = await home.ask('!approvals rule add allow "touch one.txt"')
        assert "coder0 did not take the rules: Its agent host does not answer. They get" in told
        assert "coder1 did not" not in told, "what does not run gets them at its start"
        answered.set()
        monkeypatch.setattr(rule_delivery, "WAIT_S", 30.0)
        told = await home.ask('!approvals rule add deny "touch two.txt"')
        assert "did not take" not in told
        number = told.split("`")[1]
        assert "did not take" not in await home.ask(f"!approvals rule remove {number}")


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
