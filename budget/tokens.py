"""Tokens in disjoint kinds, and their weights in limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """The tokens that one or more requests used. The kinds do not overlap, so their sum is the processed total."""

    input: int = 0
    """Input tokens that were neither read from a cache nor written into one."""
    output: int = 0
    """Output tokens, without reasoning tokens if the provider reports them separately."""
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            input=self.input + other.input,
            output=self.output + other.output,
            cache_read=self.cache_read + other.cache_read,
            cache_write=self.cache_write + other.cache_write,
            reasoning=self.reasoning + other.reasoning,
        )

    @property
    def total(self) -> int:
        """The sum of all kinds."""
        return self.input + self.output + self.cache_read + self.cache_write + self.reasoning

    @property
    def all_input(self) -> int:
        """All input tokens, including cached ones."""
        return self.input + self.cache_read + self.cache_write

    def at_least(self, other: Tokens) -> Tokens:
        """Return the larger count of each kind."""
        return Tokens(
            input=max(self.input, other.input),
            output=max(self.output, other.output),
            cache_read=max(self.cache_read, other.cache_read),
            cache_write=max(self.cache_write, other.cache_write),
            reasoning=max(self.reasoning, other.reasoning),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """The weight of one token of each kind in a limit, in thousandths, so that sums stay exact."""

    input: int = 1000
    output: int = 1000
    cache_read: int = 100
    cache_write: int = 1000
    reasoning: int = 1000

    @classmethod
    def of(cls, written: Mapping[str, float]) -> Weights:
        """Build the weights from factors such as 0.1. An absent kind keeps its default; a fourth decimal is cut off.

        Raises:
            ValueError: a kind is unknown, or a factor is below 0 or above 1000.
        """
        given: dict[str, int] = {}
        for kind, factor in written.items():
            if kind not in KINDS:
                raise ValueError(f"no kind of tokens is called {kind!r}; there are {', '.join(KINDS)}.")
            if not 0 <= factor <= 1000:
                raise ValueError(f"the weight of {kind} is {factor}; from 0 to 1000 are allowed.")
            given[kind] = int(Fraction(str(factor)) * 1000)
        return cls(**given)

    def weigh(self, tokens: Tokens) -> int:
        """Return the weighted tokens as a whole number, rounded up."""
        thousandths = (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.reasoning * self.reasoning
        )
        return -(-thousandths // 1000)
