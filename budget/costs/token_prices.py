"""What tokens cost, as their providers publish it (the genai-prices tables that are installed; nothing is fetched).

Money is counted in nano-USD, so that sums stay exact. Where no price is known there is none: nothing is guessed. A
price of 0 is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_prices.types import ModelInfo, ModelPrice

    from budget.tokens import Tokens

#: USD per million tokens, in which prices are published, times this are nano-USD per million tokens.
_NANO = 10**9
#: Prices change with days, and some with the hour; they are looked up again at each quarter of one.
_QUARTER_S = 900
#: No model's name is longer. Agents name models as they like, and names are kept.
_LONGEST_NAME = 200
#: What a provider says of how it served a request, by which some prices are told apart.
_TERMS = ("service_tier", "speed")

#: In a usage object, how many searches of the web its reader has counted in the response.
SEARCHES = "web_search_calls"
#: What a thousand searches cost with models of which that is not published, in USD: both providers ask the same for all
#: of theirs (OpenAI's and Anthropic's price lists; OpenAI's older preview tool costs more with some models).
_SEARCHES_USD = {"openai": 10, "anthropic": 10}

_Context = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a token of each kind costs, in nano-USD per million tokens: 1 USD per million tokens is 1,000,000,000."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    cache_write_1h: int | None = None
    """Written for an hour instead of five minutes; None: the same."""
    web_search: int = 0
    """What a search costs, in nano-USD per million searches."""

    def price(self, tokens: Tokens, *, cache_write_1h: int = 0, web_searches: int = 0) -> int:
        """In nano-USD, rounded up.

        Args:
            tokens: what was used.
            cache_write_1h: how many of those that were written into a cache are kept there for an hour.
            web_searches: how often the provider searched the web.
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
    """Return what a request cost, in nano-USD; None: no price is known.

    Args:
        provider: whose model it is.
        model: as the provider names it, or as it was asked for.
        tokens: what it used.
        at: when it was made, in seconds since the epoch.
        raw: the provider's usage object. What it says of caches that are kept longer (``cache_creation``), of web
            searches (``server_tool_use``, or what was counted as `SEARCHES`) and of how the request was served
            (``service_tier``, ``speed``) is priced as published; nothing else of it is read.
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
    """Return what a model's tokens cost in one request; None: no price is known.

    Args:
        provider: whose model it is.
        model: as the provider names it, or as it was asked for.
        at: when, in seconds since the epoch.
        input_tokens: how many the request has altogether, from caches too: some models cost more, for every token,
            once these pass a threshold.
        context: how the request is served, such as ``service_tier``: ``priority``; what is not published is standard.
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
    """Return how many tokens a model reads at most in one request, or None if that is not published."""
    entry = _entry(provider, model) if len(model) <= _LONGEST_NAME else None
    return None if entry is None else entry.context_window


def load() -> None:
    """Load the tables, which otherwise the first price waits for (a third of a second)."""
    rates("anthropic", "any", 0)


@lru_cache(maxsize=1024)
def _tiers(provider: str, model: str, quarter: int, terms: _Context) -> tuple[tuple[int, Rates], ...]:
    """Return what a model costs at a time, by the least input above which it does, in order; none: no price is
    known."""
    entry = _entry(provider, model)
    if entry is None:
        return ()
    prices = entry.get_prices(datetime.fromtimestamp(quarter * _QUARTER_S, UTC), dict(terms))
    if prices.input_mtok is None or prices.output_mtok is None:
        # Not priced by its tokens (audio by the hour), or made to answer with none (embeddings).
        return ()
    starts = {tier.start for value in vars(prices).values() for tier in getattr(value, "tiers", ())}
    return tuple((start, _rates(provider, prices, start + 1)) for start in sorted({0} | starts))


@lru_cache(maxsize=1024)
def _entry(provider: str, model: str) -> ModelInfo | None:
    """Return what is published of a model.

    It is looked for among its provider's models alone: the library's own lookup remembers every name that it was ever
    asked for.
    """
    # The tables are 1.5 MB of code: whoever only decides over a budget need not load them.
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    publisher = next((each for each in snapshot.providers if each.id == provider), None)
    return publisher.find_model(model) if publisher is not None else None


def _rates(provider: str, prices: ModelPrice, input_tokens: int) -> Rates:
    # A kind without a price of its own costs what the kind does that it is part of, as genai-prices counts, too.
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
        # Published for a thousand.
        web_search=(searches if searches is not None else _SEARCHES_USD.get(provider, 0) * _NANO) * 1000,
    )


def _rate(published: Any, input_tokens: int) -> int | None:
    """Nano-USD per million tokens, of a price or of prices by tier."""
    if published is None:
        return None
    usd: Decimal = published if isinstance(published, Decimal) else published.base
    for tier in getattr(published, "tiers", ()):
        if input_tokens > tier.start:
            usd = tier.price
    # Rounded up, though none is finer.
    return math.ceil(usd * _NANO)
