"""How many tokens the input of a request has at most, before it is sent. Pure.

No text has more tokens than bytes: every token of every provider's tokenizer stands for one byte at least. So the bytes
of a body bound what its text comes to, about four times too high. What is not text, and what a provider adds, is
counted beside them. What a body only refers to, or what the provider reads again, no bytes bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from budget.costs.token_prices import context_window

By: TypeAlias = Literal["bytes", "window", "count", "ratio"]

#: What a provider writes around tools, an output format or thinking: Anthropic's tool prompt has at most 700 tokens
#: (Anthropic documentation, "Tool use", "Pricing"); OpenAI does not tell.
ADDED: Final = 1_024
#: Of each tool that the provider itself describes, such as ``bash_20250124`` (Anthropic documentation: 245 tokens for
#: bash, 700 for the text editor, 735 and a prompt of 499 for the computer).
PER_TOOL: Final = 2_048
#: Of each picture, whatever its size (Anthropic documentation, "Vision": at most 4,784 tokens).
PER_PICTURE: Final = {"anthropic": 5_000, "openai": 12_000}
#: OpenAI documentation, "Images and vision": 2,833 tokens and 5,667 for each of at most eight tiles with these models;
#: with all others at most 10,000 patches.
PER_PICTURE_MINI: Final = 48_200
_MINI: Final = "gpt-4o-mini"
#: Of models whose context is not known: the largest that there is.
LARGEST_CONTEXT: Final = 1_050_000
#: Anthropic offers these a longer context on request (Anthropic documentation, "Context windows").
_EXTENSIBLE: Final = ("claude-sonnet-4", "claude-opus-4")

#: A provider's own count may differ from its bill by a small amount (Anthropic documentation, "Token counting").
COUNT_MARGIN_PERCENT: Final = 5
COUNT_MARGIN: Final = 64
#: So much more tokens a byte than ever before may be in the next request.
RATIO_MARGIN_PERCENT: Final = 25
#: What a text seems to have, by its kinds of characters, may be half of what it has.
DENSITY_FACTOR: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What the bytes of a body do not bound."""

    pictures: int = 0
    own_tools: int = 0
    """Tools that the provider describes."""
    added: bool = False
    """It has tools, an output format, or the like: the provider writes something around it."""
    hidden: bool = False
    """It refers to what only the provider has, or holds documents that are read as pictures."""
    previous: str | None = None
    """The response that it goes on from, by its id: what that read and wrote is read again."""
    rereads: bool = False
    """The provider runs tools, and reads the whole input again with what they find."""
    caches: bool = True
    """Some of it may be read from a cache, or written into one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """An upper bound on the tokens of an input."""

    tokens: int
    by: By
    """bytes: of the body, and what is known of the rest. window: the model reads no more at once. count: the provider's
    own count. ratio: what such requests had at most, which is no proof: such a request goes alone."""

    @property
    def is_sure(self) -> bool:
        return self.by != "ratio"


def by_bytes(
    body_bytes: int, contents: Contents, *, provider: str, model: str | None, previous_tokens: int | None = None
) -> Bound:
    """Return the bound that needs no one's answer.

    Args:
        body_bytes: of the body as it leaves.
        contents: what those do not bound.
        provider: whose model it is.
        model: as it is asked for.
        previous_tokens: what the response read and wrote that it goes on from; None if that is not known.
    """
    picture = PER_PICTURE.get(provider, max(PER_PICTURE.values()))
    if model is not None and model.startswith(_MINI):
        picture = PER_PICTURE_MINI
    tokens = body_bytes + contents.pictures * picture + contents.own_tools * PER_TOOL + (ADDED if contents.added else 0)
    if contents.previous is not None:
        tokens += previous_tokens or 0
    if contents.hidden or contents.rereads or (contents.previous is not None and previous_tokens is None):
        return Bound(tokens=window(provider, model), by="window")
    return Bound(tokens=tokens, by="bytes")


def by_count(counted: int, contents: Contents) -> Bound:
    """Return the bound by the provider's own count. Of tools that it runs it counts only what is read first."""
    tokens = counted + max(COUNT_MARGIN, -(-counted * COUNT_MARGIN_PERCENT // 100))
    return Bound(tokens=tokens, by="ratio" if contents.rereads else "count")


def by_ratio(body_bytes: int, contents: Contents, *, ratio: float | None, density: int, least: Bound) -> Bound | None:
    """Return the bound by what was seen, or None if it is no lower, or nothing like it was seen.

    Args:
        body_bytes: of the body.
        contents: what those do not bound.
        ratio: the most tokens a byte that this agent was ever billed with this model; None if it was never.
        density: the tokens of the text, as its characters make them likely.
        least: the bound that needs no one's answer.
    """
    if contents.hidden or contents.previous is not None or contents.rereads:
        # What is not in the body, its text says nothing of.
        return None
    beside = least.tokens - body_bytes
    seen = 0 if ratio is None else -(-int(body_bytes * ratio * (100 + RATIO_MARGIN_PERCENT)) // 100)
    tokens = min(body_bytes, max(seen, density * DENSITY_FACTOR)) + beside
    return Bound(tokens=tokens, by="ratio") if tokens < least.tokens else None


def window(provider: str, model: str | None) -> int:
    """Return how many tokens a model reads at most in one request."""
    known = context_window(provider, model) if model else None
    if known is None or (model is not None and model.startswith(_EXTENSIBLE)):
        return max(known or 0, LARGEST_CONTEXT)
    return known
