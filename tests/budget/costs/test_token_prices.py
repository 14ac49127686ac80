"""What tokens cost."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.costs.token_prices import SEARCHES, Rates, price, rates
from budget.limits.scopes import NANO_USD
from budget.tokens import Tokens

AT = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
MODELS = [
    (each.id, model.id)
    for each in providers
    if each.id in {"anthropic", "openai"}
    for model in each.models
    if each.find_model(model.id) is not None
]
COUNTS = st.integers(0, 400_000)
USED = st.builds(Tokens, input=COUNTS, output=COUNTS, cache_read=COUNTS, cache_write=COUNTS, reasoning=COUNTS)


#: A cent, in nano-USD.
A_SEARCH = 10_000_000


def _published(
    provider: str, model: str, tokens: Tokens, at: float, context: dict[str, str] | None, kept: int, searches: int = 0
) -> int:
    usage = Usage(
        input_tokens=tokens.input + tokens.cache_read + tokens.cache_write,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        cache_write_1h_tokens=kept,
        output_tokens=tokens.output + tokens.reasoning,
        web_searches=searches,
        output_reasoning_tokens=tokens.reasoning,
    )
    when = datetime.fromtimestamp(at, UTC)
    found = calc_price(usage, model, provider_id=provider, genai_request_timestamp=when, price_context=context)
    return math.ceil(found.total_price * NANO_USD)


@settings(deadline=None)
@given(
    st.sampled_from(MODELS),
    USED,
    st.floats(datetime(2024, 1, 1, tzinfo=UTC).timestamp(), datetime(2027, 1, 1, tzinfo=UTC).timestamp()),
    st.sampled_from([None, "priority", "flex", "default", "unheard-of"]),
    st.sampled_from([None, "fast", "standard"]),
    st.integers(0, 400_000),
    st.integers(0, 10),
)
def test_a_price_is_what_the_published_tables_say(
    named: tuple[str, str], tokens: Tokens, at: float, tier: str | None, speed: str | None, kept: int, searches: int
) -> None:
    """Every model of both providers, at any time, however served, below and above its thresholds."""
    provider, model = named
    kept = min(kept, tokens.cache_write) if provider == "anthropic" else 0
    context = {key: said for key, said in (("service_tier", tier), ("speed", speed)) if said is not None}
    raw = {
        **context,
        "cache_creation": {"ephemeral_1h_input_tokens": kept},
        "server_tool_use": {"web_search_requests": searches},
    }
    found = price(provider, model, tokens, at, raw)
    if found is not None:
        published = _published(provider, model, tokens, at, context, kept, searches)
        if _published(provider, model, Tokens(), at, context, 0, 1) == 0:
            # Told on the providers' pages, and for few models in the tables.
            published += searches * A_SEARCH
        assert found == published
    else:
        assert not _tells_input_and_output(provider, model, at)


def _tells_input_and_output(provider: str, model: str, at: float) -> bool:
    alone = (Tokens(input=10**6), Tokens(output=10**6))
    return all(_published(provider, model, tokens, at, None, 0) > 0 for tokens in alone)


@pytest.mark.parametrize(
    ("provider", "model", "output", "cache_read", "cache_write"),
    [
        ("anthropic", "claude-opus-4-5", 5, Fraction(1, 10), Fraction(5, 4)),
        ("anthropic", "claude-haiku-4-5-20251001", 5, Fraction(1, 10), Fraction(5, 4)),
        ("openai", "gpt-5-2025-08-07", 8, Fraction(1, 10), 1),
        ("openai", "gpt-4.1", 4, Fraction(1, 4), 1),
        ("openai", "gpt-4", 2, 1, 1),
    ],
)
def test_models_keep_their_published_ratios(
    provider: str, model: str, output: int, cache_read: Fraction, cache_write: Fraction
) -> None:
    found = rates(provider, model, AT)
    assert found is not None
    assert found.reasoning == found.output == output * found.input
    assert found.cache_read == cache_read * found.input
    assert found.cache_write == cache_write * found.input


@settings(deadline=None)
@given(st.lists(USED, min_size=1, max_size=5))
def test_where_no_threshold_lies_between_prices_add_up(used: list[Tokens]) -> None:
    # 8 decimals of a dollar are published at most for a million tokens: below a token's worth nothing is rounded off.
    alone = [price("anthropic", "claude-opus-4-5", each, AT) or 0 for each in used]
    together = price("anthropic", "claude-opus-4-5", sum(used, Tokens()), AT)
    assert together == sum(alone)


def test_above_its_threshold_every_token_costs_more() -> None:
    below, above = (price("openai", "gpt-5.5", Tokens(input=count), AT) for count in (272_000, 272_001))
    assert below == 272_000 * 5_000
    assert above == 272_001 * 10_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("openai", "claude-opus-4-5"),
        ("nobody", "gpt-5"),
        ("openai", None),
        ("openai", ""),
        ("openai", "whisper-1"),
        ("anthropic", "claude-opus-4-5" + "x" * 500),
    ],
)
def test_what_is_not_published_has_no_price(provider: str, model: str | None) -> None:
    assert price(provider, model, Tokens(input=5), AT) is None


def test_what_a_provider_says_oddly_is_not_read() -> None:
    tokens = Tokens(input=5, cache_write=100)
    plain = price("anthropic", "claude-opus-4-5", tokens, AT)
    oddities: tuple[object, ...] = (7, None, [], {"ephemeral_1h_input_tokens": "9"}, {"ephemeral_1h_input_tokens": -9})
    for odd in oddities:
        assert price("anthropic", "claude-opus-4-5", tokens, AT, {"cache_creation": odd, "speed": 3}) == plain
    all_kept = price("anthropic", "claude-opus-4-5", tokens, AT, {"cache_creation": {"ephemeral_1h_input_tokens": 100}})
    more = price("anthropic", "claude-opus-4-5", tokens, AT, {"cache_creation": {"ephemeral_1h_input_tokens": 10**9}})
    assert plain is not None
    assert all_kept == more == plain + 100 * (10_000 - 6_250)


def test_nothing_is_a_price() -> None:
    free = Rates(input=0, output=0, cache_read=0, cache_write=0, reasoning=0)
    assert free.price(Tokens(input=5, output=5)) == 0
    assert price("openai", "gpt-5", Tokens(), AT) == 0


def test_the_tables_are_loaded_only_when_a_price_is_asked_for() -> None:
    for more, loaded in (("", 0), ("budget.costs.token_prices.load();", 1)):
        code = f"import sys, budget.limits.request_admission, budget.costs.token_prices; {more}"
        code += " sys.exit('genai_prices.data' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == loaded


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5.6-luna"])
def test_searches_that_were_counted_in_the_response_cost_a_cent_each(model: str) -> None:
    at = datetime(2026, 9, 1, tzinfo=UTC).timestamp()
    tokens = Tokens(input=1_000, output=100)
    without = price("openai", model, tokens, at)
    assert without is not None
    assert price("openai", model, tokens, at, {SEARCHES: 3}) == without + 3 * A_SEARCH
    assert price("openai", model, tokens, at, {SEARCHES: "3"}) == without
