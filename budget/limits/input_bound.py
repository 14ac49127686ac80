"""Upper bounds on the input tokens of a request before it is sent. Pure.

No text has more tokens than bytes: every token of every provider's tokenizer covers at least one byte. So the bytes of
a body bound its text, about four times too high. Content other than text, and what a provider adds, is counted
separately. The bytes do not bound content that the body only refers to, or that the provider reads again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from budget.costs.token_prices import context_window

By: TypeAlias = Literal["bytes", "window", "count", "ratio"]

#: Tokens that a provider adds for tools, an output format or thinking. Anthropic's tool prompt has at most 700 tokens
#: (Anthropic documentation, "Tool use", "Pricing"); OpenAI does not document its own.
ADDED: Final = 1_024
#: Tokens of each tool that the provider itself describes, such as ``bash_20250124`` (Anthropic documentation: 245
#: tokens for bash, 700 for the text editor, 735 and a prompt of 499 for the computer).
PER_TOOL: Final = 2_048
#: Tokens of each picture, whatever its size (Anthropic documentation, "Vision": at most 4,784 tokens).
PER_PICTURE: Final = {"anthropic": 5_000, "openai": 12_000}
#: Tokens of each picture with these models (OpenAI documentation, "Images and vision": 2,833 tokens, and 5,667 for each
#: of at most eight tiles; at most 10,000 patches with all other models).
PER_PICTURE_MINI: Final = 48_200
_MINI: Final = "gpt-4o-mini"
#: The context window of models whose own is unknown: the largest existing one.
LARGEST_CONTEXT: Final = 1_050_000
#: Models with a longer context on request (Anthropic documentation, "Context windows").
_EXTENSIBLE: Final = ("claude-sonnet-4", "claude-opus-4")

#: A provider's own count may differ from its bill by a small amount (Anthropic documentation, "Token counting").
COUNT_MARGIN_PERCENT: Final = 5
COUNT_MARGIN: Final = 64
#: The margin on the highest number of tokens per byte that was ever observed.
RATIO_MARGIN_PERCENT: Final = 25
#: The factor by which a text may have more tokens than its kinds of characters suggest.
DENSITY_FACTOR: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """The contents of a request that the bytes of its body do not bound."""

    pictures: int = 0
    own_tools: int = 0
    """The number of tools that the provider describes."""
    added: bool = False
    """Whether the provider adds text, for tools, an output format, or the like."""
    hidden: bool = False
    """Whether it refers to content that only the provider has, or has documents that are read as pictures."""
    previous: str | None = None
    """The ID of the response that it continues; the provider reads that response and its input again."""
    rereads: bool = False
    """Whether the provider runs tools and reads the whole input again with their results."""
    caches: bool = True
    """Whether some of it may be read from a cache or written into one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """An upper bound on the tokens of an input."""

    tokens: int
    by: By
    """bytes: the size of the body, and the known additions. window: the context window of the model. count: the
    provider's own count. ratio: the most that such requests had. That is no proof, so such a request runs alone."""

    @property
    def is_sure(self) -> bool:
        return self.by != "ratio"


def by_bytes(
    body_bytes: int, contents: Contents, *, provider: str, model: str | None, previous_tokens: int | None = None
) -> Bound:
    """Return the bound that needs no request to the provider.

    Args:
        body_bytes: the size of the body that is sent.
        contents: what the size does not bound.
        provider: the provider of the model.
        model: the model that the request names.
        previous_tokens: the input and output tokens of the response that it continues; None if unknown.
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
    """Return the bound by the provider's own count, which excludes what the provider reads again after its tools."""
    tokens = counted + max(COUNT_MARGIN, -(-counted * COUNT_MARGIN_PERCENT // 100))
    return Bound(tokens=tokens, by="ratio" if contents.rereads else "count")


def by_ratio(body_bytes: int, contents: Contents, *, ratio: float | None, density: int, least: Bound) -> Bound | None:
    """Return the bound by earlier observations, or None if it is not lower or the body lacks part of the input.

    Args:
        body_bytes: the size of the body.
        contents: what the size does not bound.
        ratio: the most tokens per byte that this agent was ever billed with this model; None if it never was.
        density: the likely tokens of the text, judged by its characters.
        least: the bound of `by_bytes`.
    """
    if contents.hidden or contents.previous is not None or contents.rereads:
        # The text of the body says nothing about content outside of it.
        return None
    beside = least.tokens - body_bytes
    seen = 0 if ratio is None else -(-int(body_bytes * ratio * (100 + RATIO_MARGIN_PERCENT)) // 100)
    tokens = min(body_bytes, max(seen, density * DENSITY_FACTOR)) + beside
    return Bound(tokens=tokens, by="ratio") if tokens < least.tokens else None


def window(provider: str, model: str | None) -> int:
    """Return the maximum number of tokens that a model reads in one request."""
    known = context_window(provider, model) if model else None
    if known is None or (model is not None and model.startswith(_EXTENSIBLE)):
        return max(known or 0, LARGEST_CONTEXT)
    return known
