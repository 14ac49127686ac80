"""How long an input can be, before it is sent."""

from __future__ import annotations

import pytest

from budget.limits.input_bound import (
    ADDED,
    LARGEST_CONTEXT,
    PER_PICTURE,
    PER_PICTURE_MINI,
    PER_TOOL,
    Bound,
    Contents,
    by_bytes,
    by_count,
    by_ratio,
    window,
)

SONNET = "claude-sonnet-5"


def _bytes(
    contents: Contents, *, model: str = SONNET, provider: str = "anthropic", previous: int | None = None
) -> Bound:
    return by_bytes(1_000, contents, provider=provider, model=model, previous_tokens=previous)


def test_text_has_no_more_tokens_than_bytes_and_what_is_added_counts_beside_them() -> None:
    assert _bytes(Contents()) == Bound(tokens=1_000, by="bytes")
    contents = Contents(pictures=2, own_tools=3, added=True)
    assert _bytes(contents).tokens == 1_000 + 2 * PER_PICTURE["anthropic"] + 3 * PER_TOOL + ADDED
    picture = Contents(pictures=1)
    assert _bytes(picture, provider="openai", model="gpt-5").tokens == 1_000 + PER_PICTURE["openai"]
    assert _bytes(picture, provider="openai", model="gpt-4o-mini-2024").tokens == 1_000 + PER_PICTURE_MINI


@pytest.mark.parametrize("contents", [Contents(hidden=True), Contents(rereads=True), Contents(previous="resp_1")])
def test_what_is_not_in_the_body_counts_as_all_that_the_model_can_read(contents: Contents) -> None:
    assert _bytes(contents) == Bound(tokens=1_000_000, by="window")


def test_what_a_known_response_read_and_wrote_is_read_again() -> None:
    assert _bytes(Contents(previous="resp_1"), previous=7_000) == Bound(tokens=8_000, by="bytes")
    assert _bytes(Contents(previous="resp_1", hidden=True), previous=7_000).by == "window"


def test_windows_are_those_that_are_published_or_the_largest() -> None:
    assert window("openai", "gpt-5") == 400_000
    for model in ("home-grown", None, "x" * 500):
        assert window("openai", model) == LARGEST_CONTEXT
    # A longer one can be asked for.
    assert window("anthropic", "claude-sonnet-4-5") == LARGEST_CONTEXT


def test_a_count_has_a_margin_and_does_not_bound_what_is_read_again() -> None:
    assert by_count(100, Contents()) == Bound(tokens=164, by="count")
    assert by_count(100_000, Contents(hidden=True)) == Bound(tokens=105_000, by="count")
    assert not by_count(100_000, Contents(rereads=True)).is_sure


def test_what_was_seen_bounds_text_alone_and_never_above_its_bytes() -> None:
    least = Bound(tokens=1_000, by="bytes")
    assert by_ratio(1_000, Contents(), ratio=0.4, density=100, least=least) == Bound(tokens=500, by="ratio")
    assert by_ratio(1_000, Contents(), ratio=None, density=300, least=least) == Bound(tokens=600, by="ratio")
    assert by_ratio(1_000, Contents(), ratio=0.9, density=100, least=least) is None
    with_picture = Bound(tokens=6_000, by="bytes")
    found = by_ratio(1_000, Contents(pictures=1), ratio=0.4, density=0, least=with_picture)
    assert found == Bound(tokens=5_500, by="ratio")
    assert by_ratio(1_000, Contents(hidden=True), ratio=0.1, density=1, least=least) is None
