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


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(None, "?"), (0, "$0.00"), (12.345, "$12.35"), (0.25, "$0.2500"), (0.0001, "$0.0001"), (0.00003, "$0.000030"),
     (0.0000025, "$0.0000025"), (0.0000000001, "<$0.000000001")],
)  # fmt: skip
def test_money_that_was_spent_is_never_shown_as_none(usd: float | None, shown: str) -> None:
    assert amounts.money(usd) == shown
