"""Amounts as people read them: short, and never more than there is."""

from __future__ import annotations

import pytest

from bot import amounts


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (999, "999"), (1000, "1k"), (1001, "1k"), (12_345, "12.3k"), (999_739, "999k"), (999_999, "999k"),
     (1_000_000, "1M"), (4_350_000, "4.35M"), (1_999_999, "1.99M"), (123_456 * 10**9, "123,456G")],
)  # fmt: skip
def test_tokens_are_shown_short_and_never_rounded_up(count: int, shown: str) -> None:
    assert amounts.tokens(count) == shown
