"""Answers to permission requests, and what stands afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.control import AgentLink
from fleet.errors import AgentRefused
from tests.bot.house import house

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_always_that_came_too_late_allows_nothing_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as home, home.open():
        thread = await home.launch("coder0")
        home.say("[[run: echo late > proof.txt]]", thread)
        question = await home.heard(thread, "asks for permission")
        approval = question.split("permission `")[1].split("`")[0]

        async def late(self: AgentLink, **_: object) -> str:
            raise AgentRefused("That request is over.", code="too_late")

        monkeypatch.setattr(AgentLink, "answer", late)
        await home.ask(f"!approve {approval} --always", conversation=thread)
        await home.heard(thread, "too late for request")
        assert "Nothing is allowed for always" in await home.ask("!grants")


async def test_always_stands_once_the_agent_took_it(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        async with home.open():
            thread = await home.launch("coder0")
            home.say("[[run: echo twice >> proof.txt]]", thread)
            question = await home.heard(thread, "asks for permission")
            approval = question.split("permission `")[1].split("`")[0]
            await home.ask(f"!approve {approval} --always", conversation=thread)
            proof = home.paths.workspace("coder0") / "proof.txt"
            await home.chat.until(proof.exists, limit=30)
        async with home.open():
            await home.heard(thread, "☑️ allowed for always by memory:@ana")
            assert "echo twice" in await home.ask("!grants")
            await home.ask("!restart coder0")
            event = home.say("[[run: echo twice >> proof.txt]]", thread)
            await home.marks(event, "✅")
            assert proof.read_text() == "twice\ntwice\n"
