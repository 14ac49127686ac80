"""Tasks that are more than a day of their window gives: they come to their turn, and others go on meanwhile."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from budget.dispatch import Agent, Assign, Head, View, decide
from budget.lines import Policy, Window, next_turn
from budget.pacing import Cost, Standing, settled
from tests.budget.windows_of_time import BEGINS, DAY, HOUR, drawn

LIMIT = 1e6
LARGE = "large"
EARLIER = "earlier"


def window(length: float, begins: float, used: float = 0.0) -> Window:
    return Window(
        key="host/tokens/w", scope="host", unit="tokens", limit=LIMIT, begins_at=begins, resets_at=begins + length,
        length_s=length, certainty="provider", used=used, hard=False,
    )  # fmt: skip


def task(name: str, number: int, at: float, operator: str = "ana") -> Head:
    return Head(
        id=name, seq=number, kind="task", operator=operator, role="coder", agent=None, urgency="normal", created_at=at
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Played:
    begun_at: float | None
    """When the large task began."""
    beside: float
    """What others used from when it had waited for long until it began."""
    longest: float
    """The longest time in which none of the others began from then on, seconds."""


def _drawn_on(standing: Standing, _: Agent) -> list[Standing]:
    return [standing]


def play(
    length: float,
    share: float,
    *,
    seed: int,
    by: str = "ana",
    spent: float = 1.0,
    at: float | None = None,
    before: float | None = None,
) -> Played:
    """A large task among more small ones than the window holds, which come all the time.

    Args:
        length: of the window, seconds.
        share: of the window that the large task needs.
        seed: of chance.
        by: who asked for it.
        spent: what was used of the first window before it was asked for, at most, as a share.
        at: when it is asked for, as a share of the first window's time; None: by chance.
        before: of the window what another task needs, for which an agent asked an hour earlier; None: there is none.
    """
    source = random.Random(seed)
    policy = Policy(zone=ZoneInfo(source.choice(("UTC", "Europe/Vienna", "America/New_York"))))
    begins = BEGINS + source.random() * DAY
    small = LIMIT / (length / DAY if length > 2 * DAY else 5) * source.uniform(0.06, 0.3)
    asked = begins + (source.random() * 0.9 if at is None else at) * length
    even = LIMIT * (asked - begins) / length
    now_at = Standing(window=window(length, begins, min(even, LIMIT * spent)), line=drawn(window(length, begins)))
    agents = [Agent(name="coder0", role="coder", runtime="sim", readiness="idle")]
    aging = 12 * HOUR
    end = asked + aging
    end += begins + length - end if end < begins + length else -(end - begins) % length
    end += length
    now, number, beside, longest = asked, 1, 0.0, 0.0
    waiting = [task(LARGE, 0, asked, by)]
    costs = {LARGE: Cost(tokens=share * LIMIT, high_tokens=share * LIMIT)}
    if before is not None:
        waiting.insert(0, task(EARLIER, -1, asked - HOUR, "agent:coder1"))
        costs[EARLIER] = Cost(tokens=before * LIMIT, high_tokens=before * LIMIT)
    last = asked + aging
    while now < end:
        held = now_at.window
        assert held.resets_at is not None
        if now >= held.resets_at:
            now_at = replace(now_at, window=window(length, held.resets_at))
            continue
        now_at = settled(now_at, now, policy) or now_at
        name = f"s{number}"
        costs[name] = Cost(tokens=small, high_tokens=small)
        found = decide(
            View(
                now=now,
                heads=[*waiting, task(name, number, now)],
                agents=agents,
                draw=partial(_drawn_on, now_at),
                cost=lambda one, _: costs[one.id],
                pacing=policy,
            )
        )
        if isinstance(found.step, Assign):
            used = (now_at.window.known_use or 0.0) + costs[found.step.task].tokens
            assert used <= LIMIT * (1 + 1e-6), (seed, now)
            if found.step.task == LARGE:
                return Played(begun_at=now, beside=beside, longest=max(longest, now - last))
            now_at = replace(now_at, window=replace(now_at.window, used=used))
            if found.step.task == EARLIER:
                del waiting[0]
                continue
            number += 1
            if now > asked + aging:
                beside += small
                longest = max(longest, now - last)
                last = now
            continue
        # As the dispatcher looks again: at the time that it was told, or soon.
        look_at = min(found.look_at or now + HOUR, now + length / 40)
        turn = next_turn(now_at.window, now_at.line, now, policy) or look_at
        now = max(now + 1.0, min(look_at, turn, now_at.window.resets_at or look_at))
    return Played(begun_at=None, beside=beside, longest=longest)


LENGTHS = (5 * HOUR, DAY, 7 * DAY, 30 * DAY)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LENGTHS), st.floats(0.01, 0.95), st.integers(0, 2**32), st.floats(0, 1))
@example(7 * DAY, 0.5, 1, 0.5)
@example(30 * DAY, 0.85, 1, 0.5)
def test_every_task_that_a_window_holds_begins(length: float, share: float, seed: int, spent: float) -> None:
    found = play(length, share, seed=seed, spent=spent)
    assert found.begun_at is not None, (length, share, seed, spent)


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5])
def test_others_go_on_meanwhile(share: float) -> None:
    found = play(30 * DAY, share, seed=3, at=0.1)
    assert found.begun_at is not None
    assert found.beside > 0.05 * LIMIT
    # In the end, when it is near, all wait: a day at most, and what they were short of before.
    assert found.longest < 3 * DAY


def test_a_large_task_of_an_agent_takes_half_of_the_pace_at_most() -> None:
    greedy = play(30 * DAY, 0.8, seed=4, at=0.0, by="agent:coder1")
    persons = play(30 * DAY, 0.8, seed=4, at=0.0)
    assert persons.begun_at is not None
    assert persons.beside < 0.3 * LIMIT
    # Of two windows.
    assert greedy.beside > LIMIT


def test_what_is_asked_for_early_begins_long_before_the_end() -> None:
    found = play(30 * DAY, 0.15, seed=5, at=0.0)
    assert found.begun_at is not None
    # By the line of a day alone it would fit six days before the end.
    assert found.begun_at < BEGINS + 17 * DAY


def test_what_is_asked_for_late_does_not_stop_others_to_save_what_little_is_left() -> None:
    found = play(30 * DAY, 0.45, seed=6, at=0.5)
    assert found.begun_at is not None
    # In the window after: in this one others have half of the pace.
    assert found.begun_at > BEGINS + 31 * DAY
    assert found.beside > 0.2 * LIMIT
    assert found.longest < 3 * DAY


def test_nobody_else_stands_still_for_what_an_agent_says_is_large() -> None:
    persons = play(30 * DAY, 0.12, seed=7, at=0.0)
    agents = play(30 * DAY, 0.12, seed=7, at=0.0, by="agent:coder1")
    assert persons.begun_at is not None
    assert agents.begun_at is not None
    # In the last day before it begins all others wait for a person's.
    assert agents.begun_at > persons.begun_at
    assert agents.beside > persons.beside


@pytest.mark.parametrize(("length", "before", "share"), [(7, 0.6, 0.6), (30, 0.3, 0.3), (30, 0.6, 0.6)])
def test_a_large_task_of_an_agent_keeps_no_later_one_of_a_person_waiting(
    length: float, before: float, share: float
) -> None:
    # Others take all that they may, so that the agent's hardly ever begins.
    found = play(length * DAY, share, seed=3, at=0.1, spent=0.5, before=before)
    assert found.begun_at is not None


def test_nor_one_of_another_agent_that_half_of_a_day_does_not_reach_for() -> None:
    found = play(30 * DAY, 0.8 / 30, seed=3, at=0.0, spent=0.5, by="agent:coder2", before=0.6)
    assert found.begun_at is not None
    assert found.begun_at < BEGINS + 4 * DAY
