"""The choice of a session's account: the one with the most room in the window that governs it. Pure.

The usage of a session is unknown when it starts, so the sessions of an account share its room equally. Two accounts
with the same room get five each of ten sessions that start together. With 80 and 20 percent left, they get eight and
two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: The room of an account whose usage is unknown: neither full nor empty.
UNKNOWN = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowRoom:
    """The room in one window of an account."""

    window: str
    left: float | None
    """The unused and unreserved fraction of the window; None if the usage is unknown."""
    resets_at: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountCandidate:
    account: str
    rooms: Sequence[WindowRoom] = ()
    """The account's windows; empty if nothing limits it."""
    leases: int = 0
    """The number of sessions on it."""
    at_once: int | None = None
    """The maximum number of sessions; None for any number."""
    waits: bool = False
    """Whether its pace prevents such a session from starting now."""

    @property
    def governing(self) -> WindowRoom | None:
        """The window with the least left."""
        return min(self.rooms, key=_left, default=None)

    @property
    def left(self) -> float:
        """The room in the governing window, as a fraction."""
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
    """A clause for people."""
    moved_from: str | None = None
    """The exhausted account that the agent was on."""
    over: bool = False
    """Whether each account is exhausted or full; this one opens first."""


def _left(room: WindowRoom) -> float:
    return UNKNOWN if room.left is None else room.left


def choose(candidates: Sequence[AccountCandidate], *, held: str | None = None) -> Chosen | None:
    """Choose the account on which a session starts, or None if there is no candidate.

    Args:
        candidates: the accounts that serve the session, in the order of muster.yaml, which decides between equals.
        held: the account that the agent is on. The agent stays on it unless it is exhausted or no longer a candidate.
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
