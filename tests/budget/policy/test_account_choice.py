"""Account choice: room, sharing, staying."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from budget.policy.account_choice import AccountCandidate, WindowRoom, choose


def candidate(name: str, *left: float | None, **more: Any) -> AccountCandidate:
    rooms = [WindowRoom(window=f"{name}/{place}", left=each) for place, each in enumerate(left)]
    return replace(AccountCandidate(account=name, rooms=rooms), **more)


def spread(candidates: list[AccountCandidate], sessions: int) -> Counter[str]:
    """How many land where, each knowing of those before it."""
    found: Counter[str] = Counter()
    for _ in range(sessions):
        chosen = choose([replace(each, leases=found[each.account]) for each in candidates])
        assert chosen is not None
        found[chosen.account] += 1
    return found


def test_the_tighter_window_governs() -> None:
    chosen = choose([candidate("a", 0.9, 0.1), candidate("b", 0.4, 0.3)])
    assert chosen is not None
    assert chosen.account == "b"
    assert "30% of b/1 left" in chosen.reason


def test_ten_together_do_not_herd() -> None:
    assert spread([candidate("a", 0.5), candidate("b", 0.5)], 10) == {"a": 5, "b": 5}
    assert spread([candidate("a", 0.8), candidate("b", 0.2)], 10) == {"a": 8, "b": 2}
    assert spread([candidate("a"), candidate("b")], 4) == {"a": 2, "b": 2}


def test_what_is_not_known_is_neither_full_nor_empty() -> None:
    def first(*candidates: AccountCandidate) -> str:
        chosen = choose(candidates)
        assert chosen is not None
        return chosen.account

    assert first(candidate("known", 0.9), candidate("unknown", None)) == "known"
    assert first(candidate("known", 0.1), candidate("unknown", None)) == "unknown"


def test_an_agent_stays_where_it_is_until_that_is_exhausted() -> None:
    both = [candidate("a", 0.01), candidate("b", 0.9)]
    assert (stays := choose(both, held="a")) is not None
    assert stays.account == "a"
    moved = choose([candidate("a", 0.0), candidate("b", 0.9)], held="a")
    assert moved is not None
    assert (moved.account, moved.moved_from) == ("b", "a")
    none_better = choose([candidate("a", 0.0), candidate("b", 0.0)], held="a")
    assert none_better is not None
    assert (none_better.account, none_better.moved_from, none_better.over) == ("a", None, True)
    gone = choose([candidate("b", 0.9)], held="a")
    assert gone is not None
    assert gone.account == "b"


def test_no_more_sessions_than_an_account_may_have() -> None:
    full = candidate("a", 0.9, at_once=2, leases=2)
    chosen = choose([full, candidate("b", 0.1)])
    assert chosen is not None
    assert chosen.account == "b"
    only = choose([full])
    assert only is not None
    assert only.over
    assert choose([]) is None


def test_one_whose_pace_waits_comes_after_one_that_may_start() -> None:
    chosen = choose([candidate("a", 0.9, waits=True), candidate("b", 0.2)])
    assert chosen is not None
    assert chosen.account == "b"


lefts = st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=3)


@given(st.lists(st.tuples(lefts, st.integers(0, 9), st.one_of(st.none(), st.integers(1, 5))), min_size=1, max_size=5))
def test_never_onto_an_exhausted_one_while_another_has_room(
    drawn: list[tuple[list[float | None], int, int | None]],
) -> None:
    candidates = [
        candidate(str(place), *left, leases=leases, at_once=at_once)
        for place, (left, leases, at_once) in enumerate(drawn)
    ]
    chosen = choose(candidates)
    assert chosen is not None
    assert chosen == choose(candidates)
    taken = next(each for each in candidates if each.account == chosen.account)
    free = [each for each in candidates if not each.exhausted and not each.full]
    assert chosen.over == (not free)
    assert not free or taken in free
