"""Large tasks save up, so that they begin in time, and others go on meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from budget.dispatch.next_task import Assign, DispatchAgent, LaneHead, QueueView, decide
from budget.windows import large_task_accrual
from budget.windows.even_spread_line import LastSeen, PacePolicy, Window, line_at, next_turn
from budget.windows.pace_admission import Cost, WindowState, ceiling, settled
from tests import soak
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, drawn, standing, week

LIMIT = 1e6
LARGE, SMALL = "large", "s"


def window(length: float, begins: float, used: float = 0.0) -> Window:
    return Window(
        key="host/tokens/w", scope="host", unit="tokens", limit=LIMIT, begins_at=begins, resets_at=begins + length,
        length_s=length, certainty="provider", used=used, hard=False,
    )  # fmt: skip


def task(name: str, number: int, at: float, **said: str) -> LaneHead:
    return LaneHead(
        id=name, seq=number, kind="task", operator=said.get("operator", "ana"), role="coder", agent=None,
        urgency="normal", created_at=at,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    begun_at: float | None
    """When the large task began."""
    after: float
    """So long after it was asked for, seconds."""
    beside: float
    """What others used until it began."""
    longest: float
    """The longest time in which none of the others began until then, seconds."""
    put_off: bool
    """Whether a reset came before."""


def play(length: float, share: float, *, seed: int, spent: float = 1.0, at: float | None = None) -> Played:
    """A large task among more small ones than the window holds, which come all the time.

    Args:
        length: of the window, seconds.
        share: of the window that the large task needs.
        seed: of chance.
        spent: what was used of the first window before it was asked for, at most, as a share.
        at: when it is asked for, as a share of the first window's time; None: by chance.
    """
    source = random.Random(f"{soak.seed()}/{seed}")
    policy = PacePolicy(zone=ZoneInfo(source.choice(("UTC", "Europe/Vienna", "America/New_York"))))
    begins = BEGINS + source.random() * DAY
    small = LIMIT / (length / DAY if length > 2 * DAY else 5) * source.uniform(0.06, 0.3)
    asked = begins + (source.random() * 0.9 if at is None else at) * length
    even = LIMIT * (asked - begins) / length
    now_at = WindowState(window=window(length, begins, min(even, LIMIT * spent)), line=drawn(window(length, begins)))
    agents = [DispatchAgent(name="coder0", role="coder", runtime="sim", readiness="idle")]
    end = begins + 2 * length
    now, number, beside, longest, last = asked, 1, 0.0, 0.0, asked
    large = task(LARGE, 0, asked)
    costs = {LARGE: Cost(tokens=share * LIMIT, high_tokens=share * LIMIT), SMALL: Cost(tokens=small, high_tokens=small)}
    ahead: dict[str, float] = {}
    while now < end:
        held = now_at.window
        assert held.resets_at is not None
        if now >= held.resets_at:
            now_at = replace(now_at, window=window(length, held.resets_at))
            continue
        now_at = settled(now_at, now, policy) or now_at
        heads = [large, task(f"s{number}", number, now, operator="otto")]
        found = decide(
            QueueView(
                now=now, heads=heads, agents=agents, draw=partial(_drawn_on, now_at), ahead=ahead, pacing=policy,
                cost=lambda one, _: costs[one.id if one.id == LARGE else SMALL],
            )
        )  # fmt: skip
        if isinstance(found.step, Assign):
            assert found.step.charge is not None
            ahead = found.step.charge.on(ahead)
            used = (now_at.window.known_use or 0.0) + found.step.cost.tokens
            assert used <= LIMIT * (1 + 1e-6), (seed, now)
            if found.step.task == LARGE:
                longest = max(longest, now - last)
                return Played(
                    begun_at=now, after=now - asked, beside=beside, longest=longest, put_off=now >= begins + length
                )
            now_at = replace(now_at, window=replace(now_at.window, used=used))
            number, beside, longest, last = number + 1, beside + small, max(longest, now - last), now
            continue
        for wait in found.waits:
            if wait.saves_from is not None:
                large = replace(large, saves_from=wait.saves_from)
        # As the dispatcher looks again: at the time that it was told, or soon.
        look_at = min(found.look_at or now + HOUR, now + length / 40)
        turn = next_turn(now_at.window, now_at.line, now, policy) or look_at
        now = max(now + 1.0, min(look_at, turn, now_at.window.resets_at or look_at))
    return Played(begun_at=None, after=now - asked, beside=beside, longest=longest, put_off=True)


def _drawn_on(standing: WindowState, _: DispatchAgent) -> list[WindowState]:
    return [standing]


LENGTHS = (5 * HOUR, DAY, 7 * DAY, 30 * DAY)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(LENGTHS), st.floats(0.01, 0.5), st.integers(0, 2**32), st.floats(0, 1))
@example(7 * DAY, 0.5, 1, 0.5)
@example(30 * DAY, 0.5, 1, 0.5)
def test_every_task_of_half_a_window_begins_in_its_first_or_second(
    length: float, share: float, seed: int, spent: float
) -> None:
    found = play(length, share, seed=seed, spent=spent)
    assert found.begun_at is not None, (soak.seed(), length, share, seed, spent)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_every_such_task_of_very_many_begins() -> None:
    source = random.Random(soak.seed())
    for _ in range(600):
        length, share, seed = source.choice(LENGTHS), source.uniform(0.01, 0.5), source.randrange(2**32)
        found = play(length, share, seed=seed, spent=source.random())
        assert found.begun_at is not None, (soak.seed(), length, share, seed)


# A larger one, asked for an hour before midnight, may only get there in the next window.
@pytest.mark.parametrize("share", [0.16, 0.2, 0.3, 0.36])
def test_it_begins_by_three_quarters_of_the_time_and_others_go_on_meanwhile(share: float) -> None:
    found = play(7 * DAY, share, seed=3, at=0.0)
    assert found.begun_at is not None
    assert not found.put_off
    assert found.after < 0.8 * 7 * DAY, soak.seed()
    # Of what the line granted by then, they had what was not kept.
    assert found.beside > 0.6 * (found.after / (7 * DAY) - share) * LIMIT, soak.seed()
    assert found.longest < 2 * DAY, soak.seed()


def test_what_cannot_be_saved_in_this_window_is_saved_in_the_next_and_not_in_both() -> None:
    found = play(7 * DAY, 0.45, seed=6, at=0.5)
    assert found.begun_at is not None
    assert found.put_off
    # Until the reset others have all that the line grants.
    assert found.beside > 0.45 * LIMIT


def test_what_is_kept_is_no_more_than_the_law_allows_and_nothing_where_it_cannot_get_there() -> None:
    now_at = standing(week())

    def kept(wanted: float, *, day: float = 0.0, asked: float = BEGINS) -> large_task_accrual.Saving | None:
        now = BEGINS + day * DAY
        at = settled(replace(now_at, window=week(day / 7)), now, POLICY) or now_at
        return large_task_accrual.plan(at, "t1", wanted, since=None, asked_at=asked, now=now, policy=POLICY)

    assert kept(0.1) is None, "no more than a day's grant"
    assert kept(0.51, asked=BEGINS - 1) is None, "more than half of the window"
    assert kept(0.44) is not None
    assert kept(0.46) is None
    assert kept(0.46, asked=BEGINS - 1) is not None, "a reset put it off"
    assert kept(0.3, day=2.0) is not None
    assert kept(0.4, day=2.0) is None


def test_the_rate_is_even_and_no_midnight_takes_what_was_kept() -> None:
    now_at = standing(week())
    plan = large_task_accrual.plan(now_at, "t1", 0.4, since=BEGINS, asked_at=BEGINS, now=BEGINS, policy=POLICY)
    assert plan is not None
    assert plan.until == BEGINS + 0.75 * 7 * DAY
    used, others, saver = 0.0, [], []
    for day in range(6):
        now = BEGINS + day * DAY
        now_at = settled(replace(now_at, window=week(used)), now, POLICY) or now_at
        evening = now + DAY - 1
        seen = large_task_accrual.for_others(now_at, plan, evening, POLICY)
        # Others use all that they may.
        granted = line_at(seen.line, evening) - used
        used += granted
        others.append(round(granted, 3))
        saver.append(
            round(line_at(large_task_accrual.for_saver(now_at, plan, evening, POLICY).line, evening) - used, 3)
        )
    # Of a seventh a day, 53 percent are kept until three quarters of the time are over.
    assert others[:5] == [pytest.approx(0.067, abs=0.002)] * 5
    assert saver == [pytest.approx(min(0.4, 0.4 * (day + 1) / 5.25), abs=0.002) for day in range(6)]


def test_it_saves_by_what_surely_was_used_and_no_more_once_it_cannot_begin_in_this_window() -> None:
    def kept(used: float | None, **others: float | LastSeen | None) -> large_task_accrual.Saving | None:
        at = replace(standing(week()), window=week(used, **others))
        return large_task_accrual.plan(
            at, "t1", 0.4, spare=0.1, since=BEGINS, asked_at=BEGINS - 1, now=BEGINS + 4 * DAY, policy=POLICY
        )

    assert kept(0.2) is not None
    assert kept(None, at_least=0.2, last_seen=LastSeen(at=BEGINS, used=0.2, tokens_since=0.0)) is not None
    assert kept(None, at_least=0.2) is None, "of this window nothing was seen"
    assert kept(0.49) is not None
    assert kept(0.51) is None
    # As much as that is kept of what is left, although others got ahead since it began to save; more is not.
    late = replace(standing(week()), window=week(0.52))
    assert (
        large_task_accrual.plan(late, "t1", 0.42, since=BEGINS, asked_at=BEGINS, now=BEGINS + 5 * DAY, policy=POLICY)
        is not None
    )
    assert (
        large_task_accrual.plan(late, "t1", 0.44, since=BEGINS, asked_at=BEGINS, now=BEGINS + 5 * DAY, policy=POLICY)
        is None
    )


def test_it_goes_on_saving_when_the_line_is_drawn_again_between_midnights() -> None:
    now_at = standing(week(0.2))
    midnight = settled(now_at, BEGINS + 4 * DAY, POLICY)
    assert midnight is not None
    evening = BEGINS + 4.9 * DAY
    seen = settled(midnight, evening, POLICY, cause="observation")
    assert seen is not None
    for at in (midnight, seen):
        plan = large_task_accrual.plan(at, "t1", 0.45, since=BEGINS, asked_at=BEGINS - 1, now=evening, policy=POLICY)
        assert plan is not None, at.line.cause


def test_what_high_urgency_reads_ahead_is_not_less_for_what_is_kept() -> None:
    now_at, now = standing(week()), BEGINS + DAY
    plan = large_task_accrual.plan(now_at, "t1", 0.4, since=BEGINS, asked_at=BEGINS, now=BEGINS, policy=POLICY)
    assert plan is not None
    seen = large_task_accrual.for_others(now_at, plan, now, POLICY)
    more = ceiling(seen, "high", now, POLICY) - ceiling(seen, "normal", now, POLICY)
    assert more == pytest.approx(0.5 / 7, abs=1e-3)


def test_what_has_saved_all_of_it_reads_the_line_as_high_urgency_does() -> None:
    """What high and critical work uses ahead of the line would otherwise put it off until too little is left."""
    agents = [DispatchAgent(name="coder0", role="coder", runtime="sim", readiness="idle")]
    large = replace(task(LARGE, 0, BEGINS), saves_from=BEGINS)
    cost = Cost(tokens=0.3 * LIMIT, high_tokens=0.3 * LIMIT)

    def begins(day: float, used: float) -> bool:
        midnight = window(7 * DAY, BEGINS, 0.45 * LIMIT)
        at = settled(WindowState(window=midnight, line=drawn(window(7 * DAY, BEGINS))), BEGINS + 5 * DAY, POLICY)
        assert at is not None
        at = replace(at, window=window(7 * DAY, BEGINS, used * LIMIT))
        view = QueueView(
            now=BEGINS + day * DAY, heads=[large], agents=agents, draw=partial(_drawn_on, at), ahead={}, pacing=POLICY,
            cost=lambda *_: cost,
        )  # fmt: skip
        return isinstance(decide(view).step, Assign)

    # By three quarters of the time, a quarter of the sixth day, all of it is saved.
    assert begins(5.2, 0.46)
    assert not begins(5.2, 0.53)
    assert begins(5.3, 0.53)
    assert not begins(5.3, 0.56)
