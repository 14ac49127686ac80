"""What a request costs, by how it ended."""

from __future__ import annotations

from typing import Any

import pytest

from budget.costs.request_usage_from_history import Estimate
from budget.tokens import Tokens
from egress.limits.admission_interface import Ending
from egress.limits.request_charge import PLACEHOLDER, at_an_end, charge, next_step

ESTIMATE = Estimate(expected=Tokens(input=10, cache_read=90, output=400, reasoning=100), input=Tokens(input=80))

BOUND = Tokens(input=300, output=4_000)


def charged(so_far: Tokens | None = None, elapsed_s: float = 3600.0, **ending: Any) -> Tokens:
    return charge(Ending(**ending), so_far=so_far or Tokens(), estimate=ESTIMATE, bound=BOUND, elapsed_s=elapsed_s)


def test_what_the_provider_reported_is_what_it_costs() -> None:
    told = Tokens(input=1, output=2, reasoning=3)
    for ended in ("completed", "client_gone", "upstream_gone", "cut", "error"):
        assert charged(Tokens(output=99), ended=ended, status=200, tokens=told, reported=True) == told
    assert charged(ended="error", status=500, tokens=told, reported=True) == told


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_a_refusal_by_the_provider_costs_nothing(status: int) -> None:
    assert charged(ended="error", status=status) == Tokens()
    assert charged(ended="client_gone", status=status) == Tokens()


def test_what_never_reached_the_provider_costs_nothing() -> None:
    for ended in ("client_gone", "upstream_gone", "cut", "error"):
        assert charged(ended=ended, sent=False) == Tokens()
    assert charged(ended="upstream_gone") == Tokens()
    assert charged(ended="error") == Tokens()


@pytest.mark.parametrize("ended", ["client_gone", "cut"])
def test_hanging_up_before_an_answer_is_not_free(ended: Any) -> None:
    assert charged(ended=ended, elapsed_s=0.0) == Tokens(input=80)
    assert charged(ended=ended, elapsed_s=2.0) == Tokens(input=80, output=100)
    # Not more than such requests write.
    assert charged(ended=ended, elapsed_s=3600.0) == Tokens(input=80, output=500)


@pytest.mark.parametrize("ended", ["client_gone", "upstream_gone", "cut", "error"])
def test_a_broken_stream_costs_what_was_read_and_what_streamed(ended: Any) -> None:
    # The provider had told what it read.
    told = Tokens(input=5, cache_read=70, output=33)
    assert charged(ended=ended, status=200, tokens=told) == told
    assert charged(Tokens(input=5, cache_read=70, output=40), ended=ended, status=200, tokens=told).output == 40
    # It had not.
    assert charged(ended=ended, status=200, tokens=Tokens(output=33)) == Tokens(input=80, output=33)
    # Nothing had streamed yet: the model may have been thinking.
    assert charged(ended=ended, status=200, elapsed_s=1.0) == Tokens(input=80, output=50)
    # What the first event tells of output is a placeholder, and no measure of that.
    begun = Tokens(input=5, cache_read=70, output=PLACEHOLDER)
    assert charged(ended=ended, status=200, tokens=begun, elapsed_s=1.0).output == 50
    assert charged(ended=ended, status=200, tokens=begun, elapsed_s=0.0) == begun


def test_a_whole_response_without_usage_costs_what_was_expected_at_least() -> None:
    assert charged(ended="completed", status=200) == ESTIMATE.expected
    assert charged(ended="completed", status=200, tokens=Tokens(input=7, output=1000)) == Tokens(
        input=7, output=1000, reasoning=100
    )


def test_after_the_end_of_an_egress_a_stream_costs_what_it_had_told() -> None:
    told = Tokens(input=5, cache_read=70_000, output=1)
    reserved = Tokens(input=80_000, output=64_000)
    assert at_an_end(told, reserved) == Tokens(input=5, cache_read=70_000, output=512)
    # Up to the next step, of which the ledger would have heard.
    further = Tokens(input=5, cache_read=70_000, output=3_000, reasoning=1_000)
    assert next_step(further) == 6_000
    assert at_an_end(further, reserved) == Tokens(input=5, cache_read=70_000, output=5_000, reasoning=1_000)
    # Not beyond what was reserved, unless it has come already.
    assert at_an_end(told, Tokens(input=80_000, output=100)).output == 100
    assert at_an_end(further, Tokens(input=80_000, output=100)).output == 3_000


def test_a_document_that_was_lost_after_its_client_left_costs_all_that_was_reserved() -> None:
    assert charged(ended="client_gone", lost=True) == BOUND
    assert charged(ended="client_gone", status=200, lost=True) == BOUND
    told = Tokens(input=5, cache_read=70, reasoning=100)
    assert charged(told, ended="client_gone", status=200, lost=True) == told + Tokens(output=3_900)
