"""Who goes next at a limit."""

from __future__ import annotations

from budget.limits.waiting_requests import Stays, WaitingLine


class Limits:
    """Room under some limits; a request is its name, what it needs, and the limits that it draws on."""

    def __init__(self, **room: int) -> None:
        self.room = room
        self.line: WaitingLine[tuple[str, int, str]] = WaitingLine()
        self.gone: list[str] = []

    def come(self, name: str, needs: int, on: str) -> list[str]:
        self.line.enter((name, needs, on), on)
        return self.advance()

    def advance(self) -> list[str]:
        self.line.advance(self.ask)
        gone, self.gone = self.gone, []
        return gone

    def ask(self, what: tuple[str, int, str]) -> Stays | None:
        name, needs, on = what
        short = frozenset(limit for limit in on if self.room[limit] < needs)
        if short:
            # Small letters are agents' own.
            return Stays(on=short, own=frozenset(limit for limit in short if limit.islower()))
        for limit in on:
            self.room[limit] -= needs
        self.gone.append(name)
        return None


def test_the_oldest_goes_first_and_no_smaller_one_passes_it() -> None:
    limits = Limits(P=5)
    limits.come("large", 10, "P")
    limits.come("small", 1, "P")
    assert limits.advance() == []
    assert limits.line.is_claimed("P")
    limits.room["P"] = 11
    assert limits.advance() == ["large", "small"]
    assert len(limits.line) == 0
    assert not limits.line.is_claimed("P")


def test_at_limits_that_it_does_not_wait_for_others_pass() -> None:
    limits = Limits(P=0, H=100)
    limits.come("first", 10, "PH")
    assert limits.come("other", 10, "H") == ["other"]
    assert not limits.line.is_claimed("H")


def test_a_claim_is_kept_so_that_nobody_is_passed_at_each_of_its_limits_in_turn() -> None:
    limits = Limits(P=0, Q=10)
    limits.come("both", 10, "PQ")
    limits.room.update(P=10, Q=0)
    limits.come("at P", 10, "P")
    assert limits.advance() == []
    limits.room.update(Q=10)
    assert limits.advance() == ["both"]


def test_who_waits_for_its_own_limit_holds_up_nobody_else() -> None:
    limits = Limits(a=0, H=0)
    limits.come("own", 10, "aH")
    limits.room["H"] = 10
    assert limits.come("other", 10, "H") == ["other"]


def test_who_leaves_gives_its_claims_back() -> None:
    limits = Limits(P=5)
    limits.come("large", 10, "P")
    (first,) = limits.line
    limits.come("small", 5, "P")
    assert limits.line.leave(first)
    assert not limits.line.leave(first)
    assert limits.advance() == ["small"]
