"""The model that answers is the model that was asked for, or that is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.egress_client.answering_model import CompletedRequest, other_model
from tests import waiting
from tests.bot.orchestrator import house

GPT, CLAUDE, HAIKU, MINI = "gpt-5.1-2025-11-13", "claude-sonnet-4-5-20250929", "claude-haiku-4-5", "gpt-5-mini"


def answer(model: str, asked: str | None = None, tokens: int = 100) -> CompletedRequest:
    return CompletedRequest(asked=model if asked is None else asked, model=model, tokens=tokens)


@pytest.mark.parametrize(
    ("wanted", "answers", "whole", "other"),
    [
        ("openai/gpt-5.1", [answer(GPT), answer(MINI, tokens=9)], True, None),
        ("sonnet", [answer(HAIKU, tokens=90_000), answer(CLAUDE)], True, None),
        ("openai/gpt-5.1", [answer(HAIKU, tokens=9), answer(CLAUDE)], True, CLAUDE),
        ("openai/gpt-5.1", [answer(CLAUDE, asked="gpt-5.1")], False, CLAUDE),
        # Of a turn that broke off only the small model's title may have come.
        ("openai/gpt-5.1", [answer(MINI)], False, None),
        ("openai/gpt-5.1", [], True, None),
    ],
)
def test_a_turn_is_judged_by_its_main_model_and_not_by_side_work(
    wanted: str, answers: list[CompletedRequest], whole: bool, other: str | None
) -> None:
    assert other_model(wanted, answers, whole=whole) == other


async def test_another_model_than_was_asked_for_is_told_once_and_shown(tmp_path: Path) -> None:
    async with house(tmp_path) as home, home.open() as orchestrator:
        thread = await home.launch("coder0", "--model", "claude-opus-4-5")
        first = home.say("[[say: as asked]]", thread)
        await home.marks(first, "✅")
        home.models.answers_as = "claude-haiku-4-5"
        for number in range(2):
            event = home.say(f"[[say: turn {number}]]", thread)
            await home.marks(event, "✅")
            told = await home.heard(thread, "Another model answers coder0")
        assert "`claude-haiku-4-5` instead of `claude-opus-4-5`" in told
        assert "claude-haiku-4-5 for claude-opus-4-5" in await home.ask("!ps")
        assert (await home.row()).model_answering == "claude-haiku-4-5"
        home.models.answers_as = None
        await home.marks(home.say("[[say: mended]]", thread), "✅")
        await waiting.until(home.row, lambda found: found.model_answering is None)
        await orchestrator.delivery.idle()
        assert len([text for text in home.chat.texts(thread) if "Another model answers" in text]) == 1
