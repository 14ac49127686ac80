"""Tokens, counted in disjoint kinds, and what they weigh against a limit."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = ("input", "output", "cache_read", "cache_write", "reasoning")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """What one request, or many, used. No token is counted in two kinds, so that their sum is what was processed."""

    input: int = 0
    """Read by the model, neither from a cache nor into one."""
    output: int = 0
    """Written by the model, without its reasoning where the provider tells the two apart."""
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
        """All of them."""
        return self.input + self.output + self.cache_read + self.cache_write + self.reasoning

    @property
    def all_input(self) -> int:
        """What the model read, from wherever."""
        return self.input + self.cache_read + self.cache_write

    def at_least(self, other: Tokens) -> Tokens:
        """Kind by kind the larger of both."""
        return Tokens(
            input=max(self.input, other.input),
            output=max(self.output, other.output),
            cache_read=max(self.cache_read, other.cache_read),
            cache_write=max(self.cache_write, other.cache_write),
            reasoning=max(self.reasoning, other.reasoning),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """How much one token of each kind counts against a limit, in thousandths, so that sums stay exact."""

    input: int = 1000
    output: int = 1000
    cache_read: int = 100
    cache_write: int = 1000
    reasoning: int = 1000

    @classmethod
    def of(cls, written: Mapping[str, float]) -> Weights:
        """From factors such as 0.1, kind by kind; what is not said keeps its default. More than three places are cut.

        Raises:
            ValueError: a kind that there is not, or a factor below 0 or above 1000.
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
        """Return what these count, in whole tokens, rounded up."""
        thousandths = (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.reasoning * self.reasoning
        )
        return -(-thousandths // 1000)
