"""What requests are expected to use."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from budget.costs.request_usage_from_history import ANSWER, ENOUGH, LONGEST_ANSWER, PAIRS, REMEMBERED, Estimate, History
from budget.tokens import Tokens

ROLE, MODEL = "coder", "claude-opus-5-5"
COUNTS = st.integers(0, 1_000_000)
USED = st.builds(Tokens, input=COUNTS, output=COUNTS, cache_read=COUNTS, cache_write=COUNTS, reasoning=COUNTS)


def _estimate(history: History, body_bytes: int = 400_000, max_tokens: int | None = None) -> Estimate:
    return history.estimate(ROLE, MODEL, body_bytes, max_tokens)


def _taught(*tokens: Tokens, body_bytes: int | None = None) -> History:
    history = History()
    for each in tokens:
        history.add(ROLE, MODEL, each, body_bytes)
    return history


def test_until_enough_was_seen_the_size_of_the_body_counts() -> None:
    used = Tokens(input=5, output=5)
    history = _taught(*[used] * (ENOUGH - 1))
    by_size = Estimate(expected=Tokens(input=101, output=ANSWER), input=Tokens(input=101))
    assert _estimate(history, 401) == by_size
    assert _estimate(history, 401, 50).expected == Tokens(input=101, output=50)
    history.add(ROLE, MODEL, used)
    assert _estimate(history, 401).expected == used


def test_nothing_is_expected_beyond_the_bounds_of_a_request() -> None:
    history = _taught(*[Tokens(input=900, output=900)] * ENOUGH, body_bytes=900)
    estimate = history.estimate(ROLE, MODEL, 900, 70, most_input=50)
    assert estimate == Estimate(expected=Tokens(input=50, output=70), input=Tokens(input=50))


def test_the_most_tokens_a_byte_that_an_agent_showed_are_remembered() -> None:
    history = History()
    assert history.ratio("coder0", MODEL) is None
    for tokens in (30, 50, 10):
        history.add_ratio("coder0", MODEL, tokens, 100)
    history.add_ratio("coder0", MODEL, 10, 0)
    assert history.ratio("coder0", MODEL) == 0.5
    assert history.ratio("coder1", MODEL) is None


def test_what_95_of_100_stay_within_is_expected() -> None:
    history = _taught(*[Tokens(input=10, output=n) for n in range(1, 101)])
    assert _estimate(history).expected == Tokens(input=10, output=95)


def test_one_context_is_not_expected_twice() -> None:
    """Half of the requests read their context from the cache, and half write it there. None does both."""
    read, wrote = Tokens(cache_read=100_000, output=10), Tokens(cache_write=100_000, output=10)
    assert _estimate(_taught(*[read, wrote] * 20)).expected == wrote


def test_roles_and_models_are_told_apart() -> None:
    history = _taught(*[Tokens(output=7)] * ENOUGH)
    assert history.estimate(ROLE, "other", 4, None).expected == Tokens(input=1, output=ANSWER)
    assert history.estimate("other", MODEL, 4, None).expected == Tokens(input=1, output=ANSWER)


def test_a_small_request_is_not_expected_to_be_a_large_one() -> None:
    history = _taught(*[Tokens(cache_read=90_000, input=10_000, output=30, reasoning=10)] * ENOUGH)
    expected = _estimate(history, 1000, 20).expected
    assert expected.cache_read + expected.input <= 1000
    assert expected.cache_read > 8 * expected.input > 0
    assert (expected.output, expected.reasoning) == (15, 5)


def test_the_likely_input_follows_the_size_and_the_use_of_the_cache() -> None:
    history = _taught(*[Tokens(cache_read=900, input=100, output=5)] * ENOUGH, body_bytes=3000)
    assert _estimate(history, 30_000).input == Tokens(cache_read=9000, input=1000)
    assert _estimate(_taught(*[Tokens(output=5)] * ENOUGH), 4000).input == Tokens(input=1000)


def test_absurd_reports_are_capped() -> None:
    history = _taught(*[Tokens(input=10**30, output=10**30)] * ENOUGH, body_bytes=10)
    assert _estimate(history, 10).expected == Tokens(input=10, output=LONGEST_ANSWER)


def test_agents_cannot_make_it_grow_without_end() -> None:
    history = History()
    for n in range(PAIRS * 3):
        history.add(ROLE, MODEL, Tokens(output=7))
        for _ in range(ENOUGH):
            history.add(ROLE, f"model-{n}", Tokens(output=7))
    assert _estimate(history, 4).expected == Tokens(output=7)
    known = [n for n in range(PAIRS * 3) if history.estimate(ROLE, f"model-{n}", 4, None).expected == Tokens(output=7)]
    assert known == list(range(PAIRS * 2 + 1, PAIRS * 3)), "the latest"


@settings(deadline=None)
@given(st.lists(USED, min_size=ENOUGH, max_size=60), st.integers(0, 2_000_000), st.none() | st.integers(0, 200_000))
def test_an_estimate_is_within_its_caps(seen: list[Tokens], body_bytes: int, max_tokens: int | None) -> None:
    expected = _estimate(_taught(*seen, body_bytes=body_bytes), body_bytes, max_tokens).expected
    assert expected.output + expected.reasoning <= (LONGEST_ANSWER if max_tokens is None else max_tokens)
    assert expected.input + expected.cache_read + expected.cache_write <= body_bytes
    outputs = sorted(each.output + each.reasoning for each in seen)
    if max_tokens is None and outputs[-1] <= LONGEST_ANSWER:
        assert sum(each <= expected.output + expected.reasoning for each in outputs) >= 0.95 * len(seen)


@settings(deadline=None)
@given(st.lists(USED, max_size=30), st.integers(0, 5000))
def test_what_is_long_ago_is_forgotten(before: list[Tokens], body_bytes: int) -> None:
    last = [Tokens(input=n % 11, output=n % 7, cache_read=n % 13) for n in range(REMEMBERED)]
    assert _estimate(_taught(*before, *last, body_bytes=3), body_bytes) == _estimate(
        _taught(*last, body_bytes=3), body_bytes
    )
