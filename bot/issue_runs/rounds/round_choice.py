"""When a run that waits goes on. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bot.config.forge.settings import WakesBlock
from database.queries.forge.issue_runs import OF_THE_FORGE, IssueRun, IssueWake

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class NextRound:
    """Whether a run that is frozen or failed goes on."""

    begins: bool = False
    refusal: str | None = None
    """Why its agent is not woken, although somebody wants it; a person is asked."""
    only_publishes: bool = False
    """Its agent has nothing to do: what there is, is to be published again."""


def next_round(
    run: IssueRun, wakes: Sequence[IssueWake], limits: WakesBlock, now: float, *, allowed: bool
) -> NextRound:
    """Return whether a new round of a run begins.

    Args:
        run: a run that is frozen or failed.
        wakes: all reasons why it went on or is to go on.
        limits: how often agents are woken.
        now: seconds since the epoch.
        allowed: a person said that this round may begin, whatever the limits say.
    """
    waiting = [wake for wake in wakes if wake.round is None and wake.is_member]
    kinds = {wake.kind for wake in waiting}
    if "mend" in kinds or "retry" in kinds:
        return NextRound(begins=True, only_publishes=kinds == {"retry"})
    if run.state == "failed":
        # The forge says nothing new about a run for which a person has to decide.
        kinds -= OF_THE_FORGE
    if not kinds:
        return NextRound()
    if allowed:
        return NextRound(begins=True)
    refusals = [_comments(wakes, limits, now)] if "comment" in kinds else []
    if kinds & OF_THE_FORGE:
        refusals.append(_of_the_forge(wakes, limits))
    if None in refusals:
        return NextRound(begins=True)
    return NextRound(refusal=refusals[0])


def _comments(wakes: Sequence[IssueWake], limits: WakesBlock, now: float) -> str | None:
    rounds: dict[int, float] = {}
    for wake in wakes:
        if wake.round is not None and wake.kind == "comment" and wake.is_member:
            rounds[wake.round] = max(wake.at, rounds.get(wake.round, 0.0))
    if len(rounds) >= limits.per_run:
        return f"Comments have woken it {len(rounds)} times, and {limits.per_run} are allowed for a run."
    today = sum(at > now - DAY_S for at in rounds.values())
    if today >= limits.per_day:
        return f"Comments have woken it {today} times in 24 hours, and {limits.per_day} are allowed."
    return None


def _of_the_forge(wakes: Sequence[IssueWake], limits: WakesBlock) -> str | None:
    rounds = {wake.round for wake in wakes if wake.round is not None and wake.kind in OF_THE_FORGE}
    if len(rounds) >= limits.failed_checks:
        return (
            f"Failed checks and conflicts have woken it {len(rounds)} times, and {limits.failed_checks} are allowed "
            "for a run."
        )
    return None
