"""Amounts as people read them: short, and never more than there is."""

from __future__ import annotations

import pytest

from bot.text import amount_input
from budget import amounts


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


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0%"),
        (1e-7, "<0.01%"),
        (0.0003, "0.03%"),
        (0.025, "2.5%"),
        (0.2, "20%"),
        (0.99999, "99.9%"),
        (1, "100%"),
        (1.5, "150%"),
    ],
)
def test_a_share_is_never_shown_as_more_than_it_is(share: float, shown: str) -> None:
    assert amounts.amount(share, "share") == shown


@pytest.mark.parametrize(
    ("text", "nothing"), [("0", True), ("0%", True), ("$0", True), ("0k", True), ("0.5%", False), ("no", False)]
)
def test_nothing_is_nothing_in_every_unit(text: str, nothing: bool) -> None:
    assert amount_input.is_nothing(text) is nothing
