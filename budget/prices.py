"""What tokens cost, as their providers publish it (the genai-prices tables that are installed; nothing is fetched).

Money is counted in nano-USD, so that sums stay exact. Where no price is known there is none: nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budget.tokens import Tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a token of each kind costs, in nano-USD per million tokens: 1 USD per million tokens is 1,000,000,000."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int

    def price(self, tokens: Tokens) -> int:
        """In nano-USD, rounded up."""
        millionths = (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.reasoning * self.reasoning
        )
        return -(-millionths // 1_000_000)
