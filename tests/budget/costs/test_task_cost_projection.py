"""What a task is projected to cost, whatever is said of it by those who want it to begin."""

from __future__ import annotations

import pytest

from budget.costs.task_cost_from_history import LearnedCost, Past, learn
from budget.costs.task_cost_projection import expected

NOW = 20_000 * 86_400.0


def past(tokens: float, usd: float | None = None, said: float | None = None) -> Past:
    return Past(
        role="coder", runtime="sim", model="m", kind="task", tokens=tokens, usd=usd, estimated_tokens=None, said=said,
        ended_at=NOW,
    )  # fmt: skip


KNOWN = learn([past(n * 100_000.0) for n in range(1, 11)], role="coder", now=NOW)
UNKNOWN = learn([], role="coder", now=NOW)


@pytest.mark.parametrize("said", [0.0, 1.0, 1e9])
def test_an_agents_word_opens_no_gate_and_does_not_have_others_wait(said: float) -> None:
    for learned, least in ((KNOWN, KNOWN.p80), (UNKNOWN, UNKNOWN.p50)):
        found = expected(learned, said, by_agent=True)
        assert least <= found.tokens <= learned.p90
        assert found.high_tokens == learned.p90


def test_a_persons_word_holds_but_not_below_what_half_of_such_tasks_came_to() -> None:
    assert expected(KNOWN, 1.0).tokens == KNOWN.p50 == 500_000
    assert expected(KNOWN, 7e6).tokens == 7e6
    assert expected(UNKNOWN, 1000.0).tokens == 1000.0  # a guess knows no better than a person
    assert (expected(KNOWN, 7e6).high_tokens or 0) > 7e6


def test_a_guess_is_projected_by_its_median_and_what_is_known_by_what_four_of_five_stay_within() -> None:
    assert expected(UNKNOWN).tokens == UNKNOWN.p50
    assert expected(learn([], role="coder", kind="turn", now=NOW)).tokens == 15_000
    assert expected(KNOWN).tokens == KNOWN.p80


def test_money_is_known_of_the_fleet_before_it_is_of_a_role() -> None:
    assert expected(UNKNOWN).usd is None
    assert expected(UNKNOWN, usd_per_token=1e-5).usd == UNKNOWN.p50 * 1e-5
    priced = learn([past(1000.0, 0.02)] * 5, role="coder", now=NOW)
    found = expected(priced, usd_per_token=1e-5)
    assert (found.usd, found.high_usd) == (0.02, 0.02)


def test_who_always_says_five_times_too_much_is_taken_at_a_fifth_once_that_is_known() -> None:
    def known(times: float, count: int = 8) -> LearnedCost:
        tasks = [past(n * 100_000.0, said=times * n * 100_000.0) for n in range(1, count + 1)]
        return learn(tasks, role="coder", now=NOW)

    found = expected(known(5.0), 10e6)
    assert found.tokens == pytest.approx(2e6)
    assert found.tokens < (found.high_tokens or 0) < 10e6
    assert expected(known(5.0), 100.0).tokens == known(5.0).p50, "the floor stays"
    assert expected(known(0.2), 10e6).tokens == 10e6, "who says too little is not held to more than that"
    assert expected(known(0.2), 110e3).tokens == pytest.approx(550e3), "but what he says counts five times"
    assert expected(known(0.2), 300e3).tokens == known(0.2).p80, "as far as four of five such tasks go"
    assert expected(known(5.0, count=4), 10e6).tokens == 10e6, "of four nothing is learned"
    assert expected(known(5.0), 10e6, by_agent=True).tokens <= known(5.0).p90
