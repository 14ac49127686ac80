"""Whether a request may leave."""

from __future__ import annotations

import pytest

from budget.admission import Admit, Refuse, Standing, cut_text, decide
from budget.history import Estimate
from budget.prices import Rates
from budget.scopes import NANO_USD, Limit
from budget.tokens import Tokens, Weights

NOW = 1_000_000.0
RATES = Rates(
    input=NANO_USD, output=5 * NANO_USD, cache_read=NANO_USD // 10, cache_write=NANO_USD, reasoning=5 * NANO_USD
)


def _standing(
    amount: int, used: int = 0, reserved: int = 0, *, scope: str = "host", usd: bool = False, ends_in: float = 9999
) -> Standing:
    limit = Limit(kind="pool", scope=scope, amount=amount, unit="usd" if usd else "tokens", window="day")
    return Standing(limit=limit, used=used, reserved=reserved, ends_at=NOW + ends_in)


def _decide(
    *standings: Standing,
    input: int = 100,
    output: int = 100,
    max_tokens: int | None = 4096,
    rates: Rates | None = RATES,
    model: str | None = None,
) -> Admit | Refuse:
    estimate = Estimate(expected=Tokens(input=input, output=output), input=Tokens(input=input))
    return decide(
        standings, estimate, max_tokens=max_tokens, weights=Weights(), rates=rates, now=NOW, agent="coder0", model=model
    )


def _admitted(decision: Admit | Refuse) -> Admit:
    assert isinstance(decision, Admit), decision
    return decision


def _refused(decision: Admit | Refuse) -> Refuse:
    assert isinstance(decision, Refuse), decision
    return decision


def test_a_request_that_fits_is_admitted_as_it_is() -> None:
    assert _decide(_standing(10_000)) == Admit(reserve=(200,), max_tokens=None)


def test_without_limits_all_is_admitted() -> None:
    assert _decide(max_tokens=None) == Admit(reserve=(), max_tokens=None)


def test_nothing_is_admitted_at_the_limit_or_after() -> None:
    for used in (1000, 1001, 5000):
        refusal = _refused(_decide(_standing(1000, used=used), input=0, output=0))
        assert (refusal.why, refusal.retry_after_s) == ("spent", None)


def test_output_is_clamped_to_what_is_left_after_the_input() -> None:
    assert _admitted(_decide(_standing(1000, used=300, reserved=100))).max_tokens == 500
    assert _admitted(_decide(_standing(1000), max_tokens=None)).max_tokens == 900


def test_no_bound_is_set_that_a_model_might_not_be_able_to_write() -> None:
    for model, most in (("gpt-4o", 16_384), (None, 16_384), ("gpt-5-chat-latest", 16_384), ("o1-mini", 16_384)):
        assert _admitted(_decide(_standing(most + 99), max_tokens=None, model=model)).max_tokens == most - 1
        assert _admitted(_decide(_standing(most + 100), max_tokens=None, model=model)).max_tokens is None
    for model in ("gpt-5.6-sol", "gpt-5-codex", "gpt-6-luna", "o3", "o4-mini-2025-04-16"):
        assert _admitted(_decide(_standing(50_100), max_tokens=None, model=model)).max_tokens == 50_000
        assert _admitted(_decide(_standing(10**6), max_tokens=None, model=model)).max_tokens is None
    assert _admitted(_decide(_standing(10**6), max_tokens=200_000)).max_tokens is None


def test_the_tightest_limit_clamps() -> None:
    # 0.002 USD less 100 tokens at 1 USD a million leave 0.0019 USD: 380 tokens at 5 USD a million.
    decision = _admitted(_decide(_standing(1000), _standing(2_000_000, usd=True), max_tokens=None))
    assert decision.max_tokens == 380
    assert decision.reserve == (200, 100 * 1000 + 100 * 5000)


def test_a_small_fresh_budget_can_be_used() -> None:
    assert _decide(_standing(150)) == Admit(reserve=(150,), max_tokens=50)


def test_a_request_whose_input_alone_does_not_fit_is_refused_for_good() -> None:
    refusal = _refused(_decide(_standing(1000, used=950)))
    assert (refusal.why, refusal.need, refusal.retry_after_s) == ("too_big", 116, None)
    assert refusal.text == (
        "The shared budget of host has too little left for this request, which needs about 116 tokens: 950 of 1,000 "
        "tokens per day used. It begins anew at 1970-01-12 16:33 UTC. Opened before that by `muster budget set host "
        "LIMIT --window day`."
    )


def test_waiting_helps_when_only_others_are_in_the_way() -> None:
    refusal = _refused(_decide(_standing(1000, reserved=900)))
    assert refusal.why == "busy"
    assert refusal.retry_after_s == 2
    assert "900 tokens held for requests under way. Try again in 2 s." in refusal.text


def test_waiting_helps_when_the_window_ends_soon() -> None:
    assert _refused(_decide(_standing(1000, used=1000, ends_in=59.5))).retry_after_s == 60
    assert _refused(_decide(_standing(1000, used=1000, ends_in=61))).retry_after_s is None
    assert _refused(_decide(_standing(1000, used=950, ends_in=0))).retry_after_s == 1
    assert _refused(_decide(_standing(110, ends_in=5))).retry_after_s is None


def test_a_final_refusal_is_told_before_one_that_passes() -> None:
    busy, spent = _standing(1000, reserved=950), _standing(1000, used=1000, scope="account:a")
    for standings in ((busy, spent), (spent, busy)):
        assert _refused(_decide(*standings)).standing == spent


def test_what_has_no_price_is_not_admitted_under_a_limit_in_usd() -> None:
    refusal = _refused(_decide(_standing(NANO_USD, usd=True, ends_in=5), rates=None, model="m`1\n"))
    assert refusal.why == "no_price"
    assert refusal.retry_after_s is None
    assert "model m?1?, so" in refusal.text
    assert _admitted(_decide(_standing(1000), rates=None)).reserve == (200,)


def test_whoever_is_cut_is_told_what_was_reached() -> None:
    standing = _standing(2 * NANO_USD, used=NANO_USD, usd=True, scope="account:team")
    assert cut_text(standing, NANO_USD, "coder0") == (
        "The shared budget of account:team was reached while this response was under way: 2.00 of 2.00 USD per day "
        "used. It begins anew at 1970-01-12 16:33 UTC. Opened before that by `muster budget set account:team LIMIT "
        "--window day`."
    )


@pytest.mark.parametrize(
    ("scope", "name", "command"),
    [
        ("agent:coder0", "The budget of coder0 is", "`muster budget set agent:coder0 LIMIT`."),
        ("host", "The budget of coder0 (by host) is", "`muster budget set agent:coder0 LIMIT`."),
        ("profile:rust", "The budget of coder0 (by profile:rust) is", "`muster budget set agent:coder0 LIMIT`."),
        ("launch:l1", "The budget of coder0 (by launch:l1) is", "`muster launch coder0 --budget TOKENS`, once"),
    ],
)
def test_the_way_out_of_an_allowance_is_the_agents_own(scope: str, name: str, command: str) -> None:
    limit = Limit(kind="allowance", scope=scope, amount=1000)
    text = _refused(_decide(Standing(limit=limit, used=1234))).text
    assert text.startswith(name)
    assert "1,234 of 1,000 tokens per launch used" in text
    assert f"Opened by {command}" in text


def test_small_sums_of_money_are_not_shown_as_nothing() -> None:
    assert "0.000100 of 2.00 USD per day used" in cut_text(_standing(2 * NANO_USD, usd=True), 100_000, "coder0")


def test_weights_and_prices_of_nothing_bound_nothing() -> None:
    free = Rates(input=0, output=0, cache_read=0, cache_write=0, reasoning=0)
    assert _decide(_standing(1, usd=True), rates=free, max_tokens=None) == Admit(reserve=(0,), max_tokens=None)


def test_reasoning_that_counts_more_than_text_clamps() -> None:
    estimate = Estimate(expected=Tokens(), input=Tokens())
    weights = Weights.of({"reasoning": 4, "output": 1})
    decision = decide(
        [_standing(1000)], estimate, max_tokens=900, weights=weights, rates=None, now=NOW, agent="coder0", model=None
    )
    assert _admitted(decision).max_tokens == 250


def test_parts_of_a_token_are_rounded_up() -> None:
    # 16 tokens of output at a tenth each count 2.
    estimate = Estimate(expected=Tokens(), input=Tokens())
    weights = Weights.of({"reasoning": 0, "output": 0.1})
    for amount, fits in ((1, False), (2, True)):
        decision = decide(
            [_standing(amount)], estimate, max_tokens=16, weights=weights, rates=None, now=NOW, agent="a", model=None
        )
        assert isinstance(decision, Admit) is fits
