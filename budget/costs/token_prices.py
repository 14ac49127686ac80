"""Published prices of tokens, from the installed genai-prices tables; nothing is fetched.

Money is counted in nano-USD, so that sums stay exact. An unknown price is never guessed. A price of 0 is a known price.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from budget.tokens import Tokens

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

#: The factor from published prices (USD per million tokens) to nano-USD per million tokens.
_NANO = 10**9
#: The lifetime of a price in seconds: prices change by the day, and some by the hour.
_QUARTER_S = 900
#: The maximum length of a model's name. Agents may name any model, and the cache keeps the names.
_LONGEST_NAME = 200
#: The keys with which a provider reports how it served a request. Some prices depend on them.
_TERMS = ("service_tier", "speed")

#: The key in a usage object for the number of web searches that were counted in the response.
SEARCHES = "web_search_calls"
#: The price of a thousand searches in USD with models whose own is not published. Both providers charge the same for
#: all models (OpenAI's and Anthropic's price lists; OpenAI's older preview tool costs more with some models).
_SEARCHES_USD = {"openai": 10, "anthropic": 10}

_Context = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """The price of each kind of token, in nano-USD per million tokens: 1 USD per million tokens is 1,000,000,000."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    cache_write_1h: int | None = None
    """The price of cache writes for an hour instead of five minutes; None if it is the same."""
    web_search: int = 0
    """The price of searches, in nano-USD per million searches."""

    def price(self, tokens: Tokens, *, cache_write_1h: int = 0, web_searches: int = 0) -> int:
        """Return the price in nano-USD, rounded up.

        Args:
            tokens: the usage.
            cache_write_1h: the number of cache writes that are kept for an hour.
            web_searches: the number of web searches by the provider.
        """
        millionths = (
            tokens.input * self.input
            + tokens.output * self.output
            + tokens.cache_read * self.cache_read
            + tokens.cache_write * self.cache_write
            + tokens.reasoning * self.reasoning
            + web_searches * self.web_search
        )
        if cache_write_1h and self.cache_write_1h is not None:
            millionths += min(cache_write_1h, tokens.cache_write) * (self.cache_write_1h - self.cache_write)
        return -(-millionths // 1_000_000)


def price(
    provider: str, model: str | None, tokens: Tokens, at: float, raw: Mapping[str, Any] | None = None
) -> int | None:
    """Return the price of a request in nano-USD, or None if it is unknown.

    Args:
        provider: the provider of the model.
        model: the model as the provider or the request names it.
        tokens: the usage.
        at: the time of the request, in seconds since the epoch.
        raw: the provider's usage object. Longer caches (``cache_creation``), web searches (``server_tool_use``, or the
            count under `SEARCHES`) and the kind of service (``service_tier``, ``speed``) are priced as published. All
            other keys are ignored.
    """
    raw = raw or {}
    context = {term: said for term in _TERMS if isinstance(said := raw.get(term), str)}
    found = rates(provider, model, at, input_tokens=tokens.all_input, context=context)
    if found is None:
        return None
    return found.price(
        tokens,
        cache_write_1h=_count(raw, "cache_creation", "ephemeral_1h_input_tokens"),
        web_searches=max(_count(raw, "server_tool_use", "web_search_requests"), _number(raw.get(SEARCHES))),
    )


def _count(raw: Mapping[str, Any], part: str, key: str) -> int:
    found = raw.get(part)
    return _number(found.get(key)) if isinstance(found, dict) else 0


def _number(count: object) -> int:
    return count if isinstance(count, int) and count > 0 else 0


def rates(
    provider: str,
    model: str | None,
    at: float,
    *,
    input_tokens: int = 0,
    context: Mapping[str, str] | None = None,
) -> Rates | None:
    """Return the prices of a model's tokens in one request, or None if they are unknown.

    Args:
        provider: the provider of the model.
        model: the model as the provider or the request names it.
        at: the time of the request, in seconds since the epoch.
        input_tokens: all input tokens of the request, including cached ones. Above a threshold, some models charge more
            for every token.
        context: the kind of service, such as ``service_tier``: ``priority``; an unpublished one has the standard price.
    """
    if not model or len(model) > _LONGEST_NAME:
        return None
    terms: _Context = tuple(sorted((key, said[:_LONGEST_NAME]) for key, said in context.items())) if context else ()
    found = None
    for above, tier in _tiers(provider, model, int(at // _QUARTER_S), terms):
        if input_tokens > above or found is None:
            found = tier
    return found


def context_window(provider: str, model: str) -> int | None:
    """Return the maximum number of tokens that a model reads in one request, or None if it is not published."""
    entry = _entry(provider, model) if len(model) <= _LONGEST_NAME else None
    return None if entry is None else entry.context_window


def load() -> None:
    """Load the tables now, so that the first price does not wait for them (a third of a second)."""
    rates("anthropic", "any", 0)


@lru_cache(maxsize=1024)
def _tiers(provider: str, model: str, quarter: int, terms: _Context) -> tuple[tuple[int, Rates], ...]:
    """Return a model's prices by ascending threshold of input tokens; empty if they are unknown."""
    entry = _entry(provider, model)
    if entry is None:
        return ()
    prices = entry.get_prices(datetime.fromtimestamp(quarter * _QUARTER_S, UTC), dict(terms))
    if prices.input_mtok is None or prices.output_mtok is None:
        # The model is not priced by tokens (audio by the hour), or has no output (embeddings).
        return ()
    starts = {tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ())}
    return tuple((start, _rates(provider, prices, start + 1)) for start in sorted({0} | starts))


@lru_cache(maxsize=1024)
def _entry(provider: str, model: str) -> ModelInfo | None:
    """Return the published entry of a model, or None.

    This searches the provider's models directly, because the library's own lookup caches every requested name forever.
    """
    # The tables are 1.5 MB of code, and the library loads an HTTP client. Budget decisions alone need neither.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    publisher = next((each for each in snapshot.providers if each.id == provider), None)
    return publisher.find_model(model) if publisher is not None else None


def _rates(provider: str, prices: ModelPrice, input_tokens: int) -> Rates:
    # A kind without a price of its own has the price of input or output, as in genai-prices.
    read = _rate(prices.input_mtok, input_tokens)
    wrote = _rate(prices.output_mtok, input_tokens)
    assert read is not None
    assert wrote is not None
    cache_read = _rate(prices.cache_read_mtok, input_tokens)
    cache_write = _rate(prices.cache_write_mtok, input_tokens)
    reasoning = _rate(prices.output_reasoning_mtok, input_tokens)
    searches = _rate(prices.web_searches_kcount, input_tokens)
    return Rates(
        input=read,
        output=wrote,
        cache_read=read if cache_read is None else cache_read,
        cache_write=read if cache_write is None else cache_write,
        cache_write_1h=_rate(prices.cache_write_1h_mtok, input_tokens),
        reasoning=wrote if reasoning is None else reasoning,
        # The published price is for a thousand searches.
        web_search=(searches if searches is not None else _SEARCHES_USD.get(provider, 0) * _NANO) * 1000,
    )


def _rate(published: Any, input_tokens: int) -> int | None:
    """Return the nano-USD per million tokens from a price or from prices by tier."""
    if published is None:
        return None
    usd: Decimal = published if isinstance(published, Decimal) else published.base
    for tier in getattr(published, "tiers", ()):
        if input_tokens > tier.start:
            usd = tier.price
    # No known price needs the rounding.
    return math.ceil(usd * _NANO)
