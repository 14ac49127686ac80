"""The real opencode with accounts of two providers: the model that was asked for answers, or it is told."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.agents.test_real_agents import PATH, PROGRAMS
from tests.bot.orchestrator import house

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="opencode is installed for x86-64 alone"),
]

TWO = (
    "claudes: {provider: anthropic, base_url: URL, credential: 'env:KEY'}\n"
    "  gpts: {provider: openai, base_url: URL, credential: 'env:KEY'}"
)


async def test_opencode_answers_with_the_model_that_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", PATH)
    async with house(tmp_path, account=TWO) as home, home.open():
        refused = await home.ask("!launch far --runtime opencode --sandbox none --model google/gemini-3")
        assert "is of the provider google" in refused
        await home.ask("!launch coder0 --runtime opencode --sandbox none --model openai/gpt-5.1")
        thread = await home.thread("coder0")
        await home.heard(thread, "Ready", limit=120)
        await home.marks(home.say("[[say: hello there]]", thread), "✅")
        asked = {entry.model for entry in home.models.ledger.entries}
        # A smaller model of the same provider makes the title; it is no other model.
        assert "gpt-5.1" in asked
        assert not [model for model in asked if not model.startswith("gpt-")]
        home.models.answers_as = "claude-opus-4-5"
        await home.marks(home.say("[[say: and now]]", thread), "✅")
        told = await home.heard(thread, "Another model answers coder0", limit=60)
        assert "`claude-opus-4-5` instead of `openai/gpt-5.1`" in told
        assert len([text for text in home.chat.texts(thread) if "Another model" in text]) == 1
