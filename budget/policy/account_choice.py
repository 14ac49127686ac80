"""Which account a session starts on: the one with most room in the window that governs it. Pure.

What a session will use is not known when it starts, so each that is on an account already counts as one that shares its
room: of two accounts with the same room, ten sessions that start together get five each; of two with 80 and 20 percent
left, eight and two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The room of an account of which nothing is known: neither full nor empty.
UNKNOWN = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowRoom:
    """What is left in one window of an account."""

    window: str
    left: float | None
    """A fraction of the window, with what is reserved taken off; None: how much is used is not known."""
    resets_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountCandidate:
    account: str
    rooms: Sequence[WindowRoom] = ()
    """None: nothing limits it."""
    leases: int = 0
    """Sessions that are on it."""
    at_once: int | None = None
    """So many may be; None: any number."""
    waits: bool = False
    """Its pace lets nothing of the kind start now."""

    @property
    def governing(self) -> WindowRoom | None:
        """The window with the least left."""
        return min(self.rooms, key=_left, default=None)

    @property
    def left(self) -> float:
        """Of the governing window."""
        governing = self.governing
        return 1.0 if governing is None else max(0.0, _left(governing))

    @property
    def exhausted(self) -> bool:
        return self.left <= 0.0

    @property
    def full(self) -> bool:
        return self.at_once is not None and self.leases >= self.at_once


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    account: str
    reason: str
    """For people: a clause."""
    moved_from: str | None = None
    """The account that it was on, and that is exhausted."""
    over: bool = False
    """Each account is exhausted, or has as many sessions as it may; this one opens first."""


def _left(room: WindowRoom) -> float:
    return UNKNOWN if room.left is None else room.left


def choose(candidates: Sequence[AccountCandidate], *, held: str | None = None) -> Chosen | None:
    """Return the account on which a session starts; None: there is no candidate.

    Args:
        candidates: the accounts that serve it, in the order of muster.yaml, which decides between equals.
        held: the account that the agent is on. It stays there unless that is exhausted, or serves it no longer.
    """
    if not candidates:
        return None
    mine = next((each for each in candidates if each.account == held), None)
    if mine is not None and not mine.exhausted:
        return Chosen(account=mine.account, reason="it was on it before")
    others = [each for each in candidates if not each.exhausted and not each.full]
    if not others:
        first = mine or min(candidates, key=lambda each: (each.exhausted, _opens(each), each.leases))
        reason = "each is used up, or has as many sessions as it may"
        return Chosen(account=first.account, reason=reason, over=True)
    best = max(others, key=lambda each: (not each.waits, each.left / (each.leases + 1)))
    moved = held if mine is not None else None
    return Chosen(account=best.account, reason=_reason(best, len(candidates)), moved_from=moved)


def _opens(candidate: AccountCandidate) -> float:
    governing = candidate.governing
    resets = None if governing is None else governing.resets_at
    return float("inf") if resets is None else resets


def _reason(best: AccountCandidate, count: int) -> str:
    if count == 1:
        return "the only one that serves it"
    governing = best.governing
    if governing is None:
        return "nothing limits it"
    if governing.left is None:
        return f"how much of {governing.window} is used is not known, and no other has more"
    beside = f", {best.leases} on it" if best.leases else ""
    return f"most room: {governing.left:.0%} of {governing.window} left{beside}"
