"""What holds of the pace whatever the numbers are."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from budget.amounts import Unit
from budget.windows.even_spread_line import JITTER_S
from budget.windows.pace_admission import (
    Admitted,
    Cause,
    Certainty,
    Cost,
    EvenSpreadLine,
    PaceAuthorization,
    PacePolicy,
    Waits,
    Window,
    WindowState,
    admissible,
    ceiling,
    decide,
    redrawn,
    settled,
)
from tests import soak
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, URGENCIES, day, drawn, week

RECORDED = Path(__file__).with_name("pacing_recorded.json")

ANY = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(0, 2),
    st.floats(0, 2e6),
    st.floats(BEGINS - DAY, BEGINS + 8 * DAY),
)
MAYBE = st.none() | ANY
CLOCK = st.floats(BEGINS - 400 * DAY, BEGINS + 400 * DAY) | st.floats(BEGINS, BEGINS + 7 * DAY)
ZONES = st.sampled_from(("UTC", "America/New_York", "Asia/Kathmandu", "America/Santiago", "Pacific/Apia"))
POLICIES = st.builds(PacePolicy, burst=st.floats(0, 0.2), borrow=st.floats(0, 1), zone=ZONES.map(ZoneInfo))
AUTHORIZATIONS = st.builds(
    PaceAuthorization,
    id=st.sampled_from("abc"),
    scope=st.just("host"),
    unit=st.sampled_from(get_args(Unit)),
    amount=ANY,
    granted_at=CLOCK,
    until=CLOCK,
    drawn=st.floats(0, 2e6),
)
WINDOWS = st.builds(
    Window,
    key=st.just("k"),
    scope=st.sampled_from(("host", "account:main", "agent:coder0")),
    unit=st.sampled_from(get_args(Unit)),
    limit=ANY,
    begins_at=MAYBE,
    resets_at=MAYBE,
    length_s=MAYBE,
    certainty=st.sampled_from(get_args(Certainty)),
    used=MAYBE,
    at_least=MAYBE,
    per_token=MAYBE,
    turn=MAYBE,
    hard=st.booleans(),
)
COSTS = st.builds(Cost, tokens=ANY, usd=MAYBE, high_tokens=MAYBE, high_usd=MAYBE)


@st.composite
def standings(draw: st.DrawFn) -> WindowState:
    window, policy = draw(WINDOWS), draw(POLICIES)
    line = redrawn(replace(window, used=draw(MAYBE)), None, draw(CLOCK), policy)
    assert line is not None
    return WindowState(
        window=window,
        line=line,
        reserved=draw(ANY),
        reserved_high=draw(MAYBE),
        under_way=draw(st.integers(0, 2)),
        authorizations=draw(st.lists(AUTHORIZATIONS, max_size=2)),
    )


@given(standings(), COSTS, CLOCK, POLICIES)
def test_whatever_the_numbers_are_it_is_decided_and_nothing_below_zero_is_admissible(
    now_at: WindowState, cost: Cost, now: float, policy: PacePolicy
) -> None:
    for urgency in URGENCIES:
        room = admissible(now_at, urgency, now, policy)
        assert 0 <= room < math.inf
        found = decide([now_at], cost, urgency, now, policy)
        if isinstance(found, Waits):
            assert found.at is None or found.at >= now
            assert found.authorize is None or 0 < found.authorize < math.inf
        assert decide([now_at], cost, urgency, now, policy) == found


@given(standings(), CLOCK, POLICIES)
def test_more_urgent_work_is_never_allowed_less(now_at: WindowState, now: float, policy: PacePolicy) -> None:
    ceilings = [ceiling(now_at, urgency, now, policy) for urgency in URGENCIES]
    assert ceilings == sorted(ceilings)


@given(standings(), CLOCK, POLICIES)
def test_what_is_drawn_anew_twice_at_once_stays_as_it_is(now_at: WindowState, now: float, policy: PacePolicy) -> None:
    # A clock that was set back draws lines anew by itself, and no window is shorter than clocks differ.
    assume(now_at.line.drawn_at <= now)
    assume(now_at.window.length is None or now_at.window.length > 2 * JITTER_S)
    line = redrawn(now_at.window, now_at.line, now, policy) or now_at.line
    assume(line.drawn_at <= now)
    assert redrawn(now_at.window, line, now, policy) is None
    fresh = tuple(replace(leave, drawn=0.0) for leave in now_at.authorizations)
    now_at = replace(now_at, line=line, authorizations=fresh)
    causes: tuple[Cause, ...] = ("authorization", "observation")
    for cause in causes:
        again = settled(now_at, now, policy, cause=cause)
        assert again is not None
        for urgency in URGENCIES:
            before = ceiling(now_at, urgency, now, policy)
            after = ceiling(again, urgency, now, policy)
            used = now_at.window.least_use
            # Room is neither made nor lost; where there is none there is none. What is estimated comes nearer.
            near = 0.06 if now_at.window.certainty == "estimated" else 1e-6
            assert max(0.0, after - used) <= max(0.0, before - used) + near * max(1.0, abs(before), used)
    settled_once = settled(now_at, now, policy)
    if settled_once is not None:
        assert settled(settled_once, now, policy) is None


@settings(max_examples=60)
@given(st.integers(0, 2**32), POLICIES, st.booleans(), st.sampled_from(("day", "week")))
@example(0, POLICY, True, "day")
def test_what_is_admitted_never_passes_the_limit_and_what_is_authorized(
    seed: int, policy: PacePolicy, authorized: bool, kind: str
) -> None:
    source = random.Random(f"{soak.seed()}/{seed}")
    window = day() if kind == "day" else week()
    limit = window.limit
    leaves: tuple[PaceAuthorization, ...] = ()
    if authorized:
        granted = BEGINS + source.random() * DAY
        leaves = (
            PaceAuthorization(id="a", scope=window.scope, unit=window.unit, amount=limit * source.random(),
                          granted_at=granted, until=granted + source.random() * DAY),
        )  # fmt: skip
    now_at = WindowState(window=window, line=drawn(window), authorizations=leaves)
    bound = limit + (0.0 if window.is_quota else sum(leave.amount for leave in leaves))
    per_token = 1.0 if window.unit == "tokens" else window.per_token or 0.0
    assert window.resets_at is not None
    live: list[float] = []
    now, drawn_before = BEGINS, 0.0
    while now < window.resets_at:
        now_at = settled(now_at, now, policy) or now_at
        booked = sum(leave.drawn for leave in now_at.authorizations)
        assert booked >= drawn_before - 1e-9
        drawn_before = booked
        for _ in range(source.randrange(4)):
            tokens = limit / per_token * source.choice((0.001, 0.01, 0.1, 0.5)) * source.random()
            urgency = source.choice(URGENCIES)
            if isinstance(decide([now_at], Cost(tokens=tokens), urgency, now, policy), Admitted):
                live.append(tokens * per_token)
                used = now_at.window.known_use or 0.0
                assert used + sum(live) <= bound * (1 + 1e-6), (seed, now)
            now_at = replace(now_at, reserved=sum(live), under_way=len(live))
        source.shuffle(live)
        ended = [live.pop() for _ in range(source.randrange(len(live) + 1))]
        used = (now_at.window.known_use or 0.0) + sum(ended)
        now_at = replace(now_at, window=replace(now_at.window, used=used), reserved=sum(live), under_way=len(live))
        now += source.random() * (window.resets_at - BEGINS) / 40


@settings(max_examples=150)
@given(
    st.floats(0.0, 0.995),
    st.floats(0, 1),
    st.sampled_from(URGENCIES),
    st.floats(0, 0.999),
    st.sampled_from(("provider", "user", "estimated")),
    ZONES,
    st.sampled_from((5 * HOUR, DAY, 7 * DAY, 30 * DAY)),
)
def test_what_fits_an_unused_window_begins_some_day(
    share: float, used: float, urgency: Any, begun: float, certainty: Any, zone: str, length: float
) -> None:
    policy = PacePolicy(zone=ZoneInfo(zone))
    now = BEGINS + begun * length
    window = day(used * 1e6, length_s=length, resets_at=BEGINS + length, certainty=certainty)
    now_at = WindowState(window=window, line=drawn(window, now, policy))
    found = decide([now_at], Cost(tokens=share * 1e6), urgency, now, policy)
    if isinstance(found, Waits):
        assert found.at is not None
        assert found.at <= BEGINS + 2.2 * length


def recorded(case: dict[str, Any]) -> tuple[list[WindowState], Cost, Any, float, PacePolicy]:
    """The inputs of a decision as they were written down."""
    given_standings = [
        WindowState(
            **{name: value for name, value in row.items() if name not in ("window", "line", "authorizations")},
            window=Window(**row["window"]),
            line=EvenSpreadLine(**row["line"]),
            authorizations=[PaceAuthorization(**each) for each in row["authorizations"]],
        )
        for row in case["standings"]
    ]
    policy = PacePolicy(**case["policy"] | {"zone": ZoneInfo(case["policy"]["zone"])})
    return given_standings, Cost(**case["cost"]), case["urgency"], case["now"], policy


@pytest.mark.parametrize("case", json.loads(RECORDED.read_text()), ids=lambda case: str(case["name"]))
def test_a_decision_that_was_written_down_is_made_again(case: dict[str, Any]) -> None:
    found = decide(*recorded(case))
    told = {"kind": type(found).__name__} | json.loads(json.dumps(asdict(found)))
    assert told == case["decision"]


@given(
    st.lists(standings(), min_size=1, max_size=3),
    COSTS | st.builds(Cost, tokens=st.floats(0, 2e6)),
    CLOCK,
    POLICIES,
    st.sampled_from(URGENCIES),
)
def test_whoever_authorizes_what_is_named_has_it_begin(
    found: list[WindowState], cost: Cost, now: float, policy: PacePolicy, urgency: Any
) -> None:
    # Nobody can set a limit of nothing.
    assume(all(each.window.known_limit > 0 for each in found))
    for number, each in enumerate(found):
        key = str(number)
        found[number] = replace(each, window=replace(each.window, key=key), line=replace(each.line, window=key))
    found = [settled(each, now, policy) or each for each in found]
    waits = decide(found, cost, urgency, now, policy)
    if not isinstance(waits, Waits) or not waits.leave:
        return
    given_ = [
        PaceAuthorization(
            id=f"n{at}", scope=one.scope, unit=one.unit, amount=one.amount, granted_at=now, until=now + 3600
        )
        for at, one in enumerate(waits.leave)
    ]
    # Lines are drawn anew before something is authorized.
    drawn_anew = [settled(each, now, policy, cause="authorization") or each for each in found]
    after = [
        replace(each, authorizations=[*each.authorizations, *(one for one in given_ if one.scope == each.window.scope)])
        for each in drawn_anew
    ]
    assert isinstance(decide(after, cost, urgency, now, policy), Admitted)
