"""What tasks will likely cost, by those before them and by what is said of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budget.costs.task_cost import (
    ENOUGH,
    HALF_LIFE_S,
    PRIORS,
    LearnedCost,
    Past,
    Range,
    expected,
    learn,
    quantile,
    weights_of,
)

NOW = 1_790_000_000.0
DAY = 86_400.0


def _past(
    tokens: float,
    *,
    ago: float = 0.0,
    role: str = "coder",
    runtime: str = "claude",
    model: str = "opus",
    kind: str = "task",
    usd: float | None = None,
    estimated: float | None = None,
) -> Past:
    return Past(
        role=role,
        runtime=runtime,
        model=model,
        kind=kind,
        tokens=tokens,
        usd=usd,
        estimated_tokens=estimated,
        ended_at=NOW - ago,
    )


def _learn(
    past: list[Past], role: str | None = "coder", *, model: str | None = None, kind: str = "task"
) -> LearnedCost:
    return learn(past, role=role, model=model, kind=kind, now=NOW)


PASTS = st.lists(
    st.builds(
        _past,
        st.floats(0, 1e12),
        ago=st.floats(-DAY, 4_000 * DAY),
        usd=st.none() | st.floats(0, 1e6),
        estimated=st.none() | st.floats(0, 1e12),
        runtime=st.sampled_from(("claude", "codex")),
        kind=st.sampled_from(("task", "turn")),
    ),
    max_size=40,
)


def test_what_is_known_goes_before_the_guess() -> None:
    learned = _learn([_past(n * 1000.0) for n in range(1, 11)])
    assert (learned.p50, learned.p80, learned.p90) == (5000, 8000, 9000)
    assert (learned.count, learned.level, learned.prior) == (10, "same", False)
    assert "10 ended tasks (role coder, kind task)" in learned.basis


def test_nothing_known_is_said_to_be_a_guess() -> None:
    learned = _learn([])
    assert learned.tokens == PRIORS["task"]
    assert learned.prior
    assert learned.usd is None
    assert learned.median_abs_error is None
    assert "guess" in learned.basis
    assert "coder" in learned.basis
    assert _learn([], kind="turn").tokens == PRIORS["turn"]


def test_with_fewer_than_five_the_guess_counts_for_what_is_missing() -> None:
    learned = _learn([_past(1.0)] * (ENOUGH - 1))
    assert learned.prior
    assert "4 ended tasks (role coder) and a guess" in learned.basis
    assert learned.p50 == 1.0, "four of five were as small"
    assert learned.p90 == PRIORS["task"].p50, "the fifth is the guess"
    assert _learn([_past(1.0)] * 2).p50 == PRIORS["task"].p50
    assert not _learn([_past(1.0)] * ENOUGH).prior


def test_others_speak_where_its_own_are_too_few() -> None:
    own = [_past(1.0, model="haiku")] * ENOUGH
    kin = [_past(100.0, model="opus")] * ENOUGH
    turns = [_past(9.0, kind="turn")] * ENOUGH
    everything = own + kin + turns
    assert _learn(everything, model="haiku").p90 == 1.0
    few = _learn([*own[1:], *kin, *turns], model="haiku")
    assert (few.level, few.p90, few.count) == ("kind", 100.0, 9)
    assert _learn(everything, kind="review").level == "role"
    assert _learn(everything, role="board").level == "none"
    assert _learn(everything, role=None).count == 10


def test_of_another_role_nothing_is_learned() -> None:
    learned = _learn([_past(1.0, role="board")] * 50)
    assert learned.tokens == PRIORS["task"]
    assert learned.count == 0


def test_what_is_recent_counts_more() -> None:
    before, now = [_past(100.0, ago=4 * HALF_LIFE_S)] * 20, [_past(1.0)] * 10
    assert _learn(before + now).p50 == 1.0
    assert _learn([_past(100.0)] * 20 + now).p50 == 100.0
    assert weights_of([NOW, NOW - HALF_LIFE_S, NOW - 2 * HALF_LIFE_S], NOW) == [1.0, 0.5, 0.25]


def test_how_good_projections_were_is_shown() -> None:
    pasts = [_past(100.0, estimated=each) for each in (100.0, 110.0, 130.0, 60.0, 90.0)] + [_past(100.0)]
    learned = _learn(pasts)
    assert learned.median_abs_error == 10.0
    assert learned.median_error_share == pytest.approx(0.1)
    assert (learned.judged, learned.held) == (5, 3)
    assert _learn([_past(0.0, estimated=50.0)] * 5).median_error_share is None


def test_money_follows_the_tokens_at_what_they_cost() -> None:
    learned = _learn([_past(1000.0 * n, usd=0.01 * n) for n in range(1, 11)])
    assert learned.usd is not None
    assert learned.usd.p80 == pytest.approx(0.08)
    # One of which no price is known, and one that cost nothing, do not change it.
    more = _learn([_past(1000.0 * n, usd=0.01 * n) for n in range(1, 11)] + [_past(5000.0), _past(0.0, usd=0.0)])
    assert more.usd_per_token == pytest.approx(1e-5)


@settings(deadline=None)
@given(PASTS)
def test_quantiles_are_in_their_order_and_never_negative(pasts: list[Past]) -> None:
    for kind in ("task", "turn", "review"):
        learned = _learn(pasts, kind=kind)
        assert 0 <= learned.p50 <= learned.p80 <= learned.p90
        if (usd := learned.usd) is not None:
            assert 0 <= usd.p50 <= usd.p80 <= usd.p90
        assert learned.median_abs_error is None or learned.median_abs_error >= 0
        assert 0 <= learned.held <= learned.judged <= learned.count <= len(pasts)
        assert learned.prior == (learned.count < ENOUGH)


@settings(deadline=None)
@given(PASTS, st.randoms(use_true_random=False))
def test_the_order_of_what_is_known_does_not_matter(pasts: list[Past], dice: random.Random) -> None:
    shuffled = list(pasts)
    dice.shuffle(shuffled)
    assert _learn(shuffled) == _learn(pasts)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 400 * DAY)), min_size=ENOUGH, max_size=40))
def test_one_absurd_task_does_not_move_the_middle(before: list[tuple[float, float]]) -> None:
    pasts = [_past(tokens, ago=ago) for tokens, ago in before]
    large, absurd = _learn([*pasts, _past(1e7)]), _learn([*pasts, _past(1e15)])
    assert large.p50 == absurd.p50 <= max(tokens for tokens, _ in before)


@settings(deadline=None)
@given(st.lists(st.floats(0, 3_000 * DAY), min_size=1, max_size=60))
def test_older_pasts_never_count_more_and_none_more_than_a_fifth(ages: list[float]) -> None:
    weights = weights_of([NOW - age for age in ages], NOW)
    ordered = [weight for _, weight in sorted(zip(ages, weights, strict=True))]
    assert ordered == sorted(ordered, reverse=True)
    assert all(weight > 0 for weight in weights)
    if len(ages) >= ENOUGH:
        assert max(weights) <= sum(weights) / 5 * (1 + 1e-9)


def test_a_clock_that_was_ahead_or_stood_still_changes_nothing() -> None:
    assert _learn([_past(7.0, ago=-400 * DAY)] * 5).p50 == 7.0
    assert _learn([_past(7.0, ago=1e300)] * 5).p50 == 7.0


def test_a_guess_can_be_given() -> None:
    mine = Range(p50=1.0, p80=2.0, p90=3.0)
    assert learn([], role="coder", now=NOW, prior=mine).tokens == mine


def test_a_quantile_is_a_value_that_was() -> None:
    assert quantile([(1.0, 1.0), (2.0, 1.0)], 0.5) == 1.0
    assert quantile([(1.0, 1.0), (2.0, 1.0)], 0.51) == 2.0
    assert quantile([(5.0, 0.1)] * 3, 1.0) == 5.0


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
