"""Whether a request may leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from budget.costs.request_usage_from_history import LONGEST_ANSWER
from budget.costs.token_prices import Rates
from budget.limits.input_bound import Bound
from budget.limits.request_admission import Admit, LimitState, Need, RefuseRequest, RequestWait, Share, cut_text, decide
from budget.limits.scopes import NANO_USD, Limit
from budget.tokens import Weights
from budget.windows.overrun_allowance import PaceAllowance

NOW = 1_000_000.0
RATES = Rates(
    input=NANO_USD, output=5 * NANO_USD, cache_read=NANO_USD // 10, cache_write=NANO_USD, reasoning=5 * NANO_USD
)


def _standing(
    amount: int,
    used: int = 0,
    reserved: int = 0,
    *,
    scope: str = "host",
    usd: bool = False,
    ends_in: float = 9999,
    open: int | None = None,
) -> LimitState:
    limit = Limit(kind="pool", scope=scope, amount=amount, unit="usd" if usd else "tokens", window="day")
    busy = int(reserved > 0) if open is None else open
    return LimitState(limit=limit, used=used, reserved=reserved, open=busy, likely=reserved, ends_at=NOW + ends_in)


def _decide(
    *standings: LimitState,
    input: int = 100,
    max_tokens: int | None = 100,
    rates: Rates | None = RATES,
    model: str | None = None,
    weights: Weights | None = None,
    **more: Any,
) -> Admit | RequestWait | RefuseRequest:
    given: dict[str, Any] = {"bounds": (Bound(tokens=input, by="bytes"),), "max_tokens": max_tokens}
    return decide(
        standings,
        Need(**given | more),
        weights=weights or Weights(),
        rates=lambda _: rates,
        now=NOW,
        agent="coder0",
        model=model,
    )


def _admitted(decision: Admit | RequestWait | RefuseRequest) -> Admit:
    assert isinstance(decision, Admit), decision
    return decision


def _refused(decision: Admit | RequestWait | RefuseRequest) -> RefuseRequest:
    assert isinstance(decision, RefuseRequest), decision
    return decision


def _waits(decision: Admit | RequestWait | RefuseRequest) -> RequestWait:
    assert isinstance(decision, RequestWait), decision
    return decision


def _bounds(*, bytes: int, **more: int) -> tuple[Bound, ...]:
    found = [Bound(tokens=bytes, by="bytes")]
    return (*found, *(Bound(tokens=tokens, by=by) for by, tokens in more.items()))  # type: ignore[arg-type]


def test_a_request_whose_worst_case_fits_is_admitted_as_it_is() -> None:
    assert _decide(_standing(10_000)) == Admit(shares=(Share(held=200, reading=100),), max_tokens=None, output=100)
    assert _decide(_standing(1_000, used=300, reserved=500)) == _decide(_standing(10_000))


def test_without_limits_all_is_admitted() -> None:
    assert _decide(max_tokens=None) == Admit(shares=(), max_tokens=None, output=LONGEST_ANSWER)


def test_nothing_is_admitted_at_the_limit_or_after() -> None:
    for used in (1000, 1001, 5000):
        refusal = _refused(_decide(_standing(1000, used=used), input=0, max_tokens=0))
        assert (refusal.why, refusal.retry_after_s) == ("spent", None)


def test_output_is_clamped_to_what_is_left_only_where_nothing_else_is_open() -> None:
    assert _admitted(_decide(_standing(1000, used=300), max_tokens=4096)).max_tokens == 600
    assert _waits(_decide(_standing(1000, used=300, reserved=100), max_tokens=4096)).on == (0,)
    decision = _admitted(_decide(_standing(1000, used=300, reserved=100), max_tokens=500))
    assert (decision.max_tokens, decision.output) == (None, 500)


def test_a_clamp_by_one_limit_makes_it_fit_beside_others_under_another() -> None:
    decision = _admitted(_decide(_standing(300), _standing(1000, reserved=600), max_tokens=4096))
    assert (decision.max_tokens, [share.held for share in decision.shares]) == (200, [300, 300])
    assert _waits(_decide(_standing(300), _standing(1000, reserved=800), max_tokens=4096)).on == (1,)


def test_no_bound_is_set_that_a_model_might_not_be_able_to_write() -> None:
    for model, most in (("gpt-4o", 16_384), (None, 16_384), ("gpt-5-chat-latest", 16_384), ("o1-mini", 16_384)):
        assert _admitted(_decide(_standing(most + 99), max_tokens=None, model=model)).max_tokens == most - 1
        assert _admitted(_decide(_standing(most + 100), max_tokens=None, model=model)).max_tokens == most
        assert _admitted(_decide(_standing(most + 5_000), max_tokens=None, model=model)).max_tokens == most
    for model in ("gpt-5.6-sol", "gpt-5-codex", "gpt-6-luna", "o3", "o4-mini-2025-04-16"):
        assert _admitted(_decide(_standing(50_100), max_tokens=None, model=model)).max_tokens == 50_000
        assert _admitted(_decide(_standing(120_000), max_tokens=None, model=model)).max_tokens == 100_000
    assert _admitted(_decide(_standing(LONGEST_ANSWER + 99), max_tokens=None)).max_tokens == 16_384
    free = _admitted(_decide(_standing(LONGEST_ANSWER + 100), max_tokens=None))
    assert (free.max_tokens, free.shares[0].held) == (None, LONGEST_ANSWER + 100)
    assert _admitted(_decide(_standing(10**6), max_tokens=200_000)).max_tokens is None


def test_the_tightest_limit_clamps() -> None:
    # 0.002 USD less 100 tokens at 1 USD a million leave 0.0019 USD: 380 tokens at 5 USD a million.
    decision = _admitted(_decide(_standing(1000), _standing(2_000_000, usd=True), max_tokens=4096))
    assert decision.max_tokens == 380
    assert [share.held for share in decision.shares] == [480, 100 * 1000 + 380 * 5000]


def test_a_small_fresh_budget_can_be_used() -> None:
    assert _decide(_standing(150)) == Admit(shares=(Share(held=150, reading=100),), max_tokens=50, output=50)


def test_input_counts_in_the_dearest_kind_that_applies() -> None:
    weights = Weights.of({"cache_write": 1.25})
    assert _admitted(_decide(_standing(10_000), weights=weights)).shares[0].reading == 125
    assert _admitted(_decide(_standing(10_000), weights=weights, caches=False)).shares[0].reading == 100
    rates = replace(RATES, cache_write_1h=2 * NANO_USD)
    usd = _standing(NANO_USD, usd=True)
    assert _admitted(_decide(usd, rates=rates)).shares[0].reading == 200 * 1000
    assert _admitted(_decide(usd, rates=rates, caches=False)).shares[0].reading == 100 * 1000


def test_while_its_input_is_being_counted_a_request_waits_only_if_that_may_help() -> None:
    fits = _standing(1000)
    assert _admitted(_decide(fits, counting=True)) == _admitted(_decide(fits))
    for tight in (_standing(150), _standing(90), _standing(1000, reserved=900)):
        assert _waits(_decide(tight, counting=True)).on == (0,)
    assert _refused(_decide(_standing(1000, used=1000), counting=True)).why == "spent"


def test_the_providers_count_admits_beside_others() -> None:
    bounds = _bounds(bytes=4000, count=1000)
    decision = _admitted(_decide(_standing(5000, reserved=3000), bounds=bounds, max_tokens=1000))
    assert decision.shares == (Share(held=2000, reading=1000),)


def test_a_bound_that_is_not_sure_admits_alone_and_holds_all_that_is_left() -> None:
    bounds = _bounds(bytes=8000, ratio=1000)
    alone = _admitted(_decide(_standing(6000, used=500), bounds=bounds, max_tokens=4096))
    assert alone == Admit(shares=(Share(held=5500, reading=1000, how="alone"),), max_tokens=None, output=4096)
    assert _waits(_decide(_standing(6000, reserved=1), bounds=bounds, max_tokens=4096)).on == (0,)
    # Where the sure one fits, it goes by that.
    assert _admitted(_decide(_standing(20_000), bounds=bounds)).shares[0].how == "sure"


def test_where_only_caching_is_uncertain_one_goes_alone() -> None:
    bounds = _bounds(bytes=400_000, count=52_500)
    near = _standing(100_000, used=85_000)
    decision = _admitted(_decide(near, bounds=bounds, counted=50_000, max_tokens=32_000))
    # 50,000 at a tenth leave 10,000 of 15,000 for the answer.
    assert decision.max_tokens == 10_000
    assert decision.shares == (Share(held=15_000, reading=5_000, how="cached", excess=47_500),)
    # Not beside others, not without a count, not where nothing is cached, and not for less than an answer.
    beside = _standing(100_000, used=85_000, reserved=10)
    assert _waits(_decide(beside, bounds=bounds, counted=50_000, max_tokens=32_000)).on == (0,)
    without: list[dict[str, Any]] = [{}, {"counted": 50_000, "caches": False}]
    for more in without:
        assert _refused(_decide(near, bounds=bounds, max_tokens=32_000, **more)).why == "too_big"
    less = _standing(100_000, used=91_500)
    assert _refused(_decide(less, bounds=bounds, counted=50_000, max_tokens=32_000)).why == "too_big"


def test_who_can_never_fit_is_refused_with_the_bound_that_was_used() -> None:
    for bounds, said in (
        (_bounds(bytes=9000), "at most 9,000 tokens, by the bytes of its body"),
        (_bounds(bytes=9000, count=5000), "at most 5,000 tokens, by the provider's own count"),
        ((Bound(tokens=200_000, by="window"),), "at most 200,000 tokens, as its model can read that much"),
    ):
        for standing in (_standing(1000), _standing(1000, reserved=500)):
            refusal = _refused(_decide(standing, bounds=bounds))
            assert (refusal.why, refusal.retry_after_s) == ("too_big", None)
            assert said in refusal.text


def test_the_pace_goes_by_what_is_likely_and_not_by_the_worst_case() -> None:
    pace = PaceAllowance(from_at=NOW, from_amount=1000, until_at=NOW + 1000, until_amount=100_000)
    standing = replace(_standing(100_000, used=500, reserved=80_000), pace=pace, likely=400)
    _admitted(_decide(standing))
    assert _refused(_decide(replace(standing, likely=500))).why == "pace"


def test_a_request_whose_input_alone_does_not_fit_is_refused_for_good() -> None:
    refusal = _refused(_decide(_standing(1000, used=950)))
    assert (refusal.why, refusal.need, refusal.retry_after_s) == ("too_big", 116, None)
    assert refusal.text == (
        "The shared budget of host has too little left for this request, which may need 116 tokens (input of at most "
        "100 tokens, by the bytes of its body): 950 of 1,000 tokens per day used. It begins anew at 1970-01-12 16:33 "
        "UTC. Opened before that by `muster budget set host LIMIT --window day`."
    )


def test_waiting_helps_when_only_others_are_in_the_way() -> None:
    refusal = _waits(_decide(_standing(1000, reserved=900))).refusal
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
    assert _admitted(_decide(_standing(1000), rates=None)).shares[0].held == 200


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
    text = _refused(_decide(LimitState(limit=limit, used=1234))).text
    assert text.startswith(name)
    assert "1,234 of 1,000 tokens per launch used" in text
    assert f"Opened by {command}" in text


def test_small_sums_of_money_are_not_shown_as_nothing() -> None:
    assert "0.000100 of 2.00 USD per day used" in cut_text(_standing(2 * NANO_USD, usd=True), 100_000, "coder0")


def test_weights_and_prices_of_nothing_bound_nothing() -> None:
    free = Rates(input=0, output=0, cache_read=0, cache_write=0, reasoning=0)
    decision = _admitted(_decide(_standing(1, usd=True), rates=free, max_tokens=None))
    assert (decision.shares, decision.max_tokens) == ((Share(held=0, reading=0),), None)


def test_reasoning_that_counts_more_than_text_clamps() -> None:
    weights = Weights.of({"reasoning": 4, "output": 1})
    assert _admitted(_decide(_standing(1000), input=0, max_tokens=900, weights=weights)).max_tokens == 250


def test_parts_of_a_token_are_rounded_up() -> None:
    # 16 tokens of output at a tenth each count 2.
    weights = Weights.of({"reasoning": 0, "output": 0.1})
    for amount, fits in ((1, False), (2, True)):
        decision = _decide(_standing(amount), input=0, max_tokens=16, weights=weights)
        assert isinstance(decision, Admit) is fits
