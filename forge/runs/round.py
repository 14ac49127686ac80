"""One round of a run, as a sequence of orders. Pure: what is ordered next depends on the outcomes so far alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum


class RoundStep(StrEnum):
    """What is ordered in a round. The names stand in registers, so they stay."""

    WORK = "work"
    """The agent works until its turn ends or it is taken for lost. Then it is frozen, with what it needs to go on."""
    PUBLISH = "publish"
    """Its commits are fetched, checked and pushed."""
    PROPOSE = "propose"
    """A pull request is opened, or brought up to date."""
    RECORD = "record"
    """A comment says how the work was made."""
    SETTLE = "settle"
    """The run waits for people, or for a decision."""


class WorkResult(StrEnum):
    """How the work of a round ended."""

    SIGNALLED = "signalled"
    SILENT = "silent"
    """The agent did not signal: it is gone, or was taken for lost."""
    FAILED = "failed"
    LIMITED = "limited"
    STOPPED = "stopped"
    """A person ended it."""


class PublishResult(StrEnum):
    """The outcome of the step *publish*."""

    PUSHED = "pushed"
    UNCHANGED = "unchanged"
    """There is nothing that the forge does not have."""
    REFUSED = "refused"
    """The checks found something, the branch moved, or the forge declined. A person has to decide."""


#: Order a step, and wait for its outcome: a word of the enum that belongs to the step, or "done".
Order = Callable[[RoundStep], Awaitable[str]]


async def play_round(order: Order) -> str:
    """Order all steps of a round; return the outcome of the last one."""
    work = WorkResult(await order(RoundStep.WORK))
    if work in (WorkResult.SIGNALLED, WorkResult.SILENT):
        published = PublishResult(await order(RoundStep.PUBLISH))
        if published is PublishResult.PUSHED:
            await order(RoundStep.PROPOSE)
        if published is not PublishResult.REFUSED:
            await order(RoundStep.RECORD)
    return await order(RoundStep.SETTLE)
