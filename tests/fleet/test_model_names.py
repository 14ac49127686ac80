"""Whose a model is, and whether two names mean the same one."""

from __future__ import annotations

import pytest

from fleet.model_names import is_same, provider_of

BOTH = ("anthropic", "openai")


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("openai/gpt-5.1", "openai"),
        ("anthropic/claude-sonnet-4-5", "anthropic"),
        ("google/gemini-3", "google"),
        ("gpt-5.1", "openai"),
        ("o4-mini", "openai"),
        ("codex-mini-latest", "openai"),
        ("claude-opus-4-1", "anthropic"),
        ("sonnet", "anthropic"),
        ("opus", "anthropic"),
        ("large", None),
        ("o-large", None),
        ("gptlike", None),
    ],
)
def test_a_models_name_says_whose_it_is(model: str, provider: str | None) -> None:
    assert provider_of(model, BOTH) == provider


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("openai/gpt-5.1", "gpt-5.1-2025-11-13", True),
        ("gpt-5.1", "openai/gpt-5.1", True),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", True),
        ("claude-3-5-sonnet-latest", "claude-3-5-sonnet-20241022", True),
        ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5-20250929", True),
        ("claude-sonnet-4@20250514", "claude-sonnet-4-20250514", True),
        ("claude-sonnet-4-5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", True),
        ("sonnet", "claude-sonnet-4-5-20250929", True),
        ("sonnet[1m]", "claude-sonnet-4-5", True),
        ("opusplan", "claude-sonnet-4-5", True),
        ("default", "anything", True),
        ("GPT-5.1", "gpt-5.1", True),
        ("openai/gpt-5.1", "claude-sonnet-4-5", False),
        ("gpt-5", "gpt-5-mini", False),
        ("gpt-5.1", "gpt-5", False),
        ("opus", "claude-sonnet-4-5", False),
        ("opusplan", "claude-haiku-4-5", False),
        ("claude-sonnet-4-5", "claude-sonnet-4-20250514", False),
    ],
)
def test_names_of_one_model_are_the_same_however_they_are_written(asked: str, answered: str, same: bool) -> None:
    assert is_same(asked, answered) is same
