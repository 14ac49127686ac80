"""What a round orders follows from the outcomes so far."""

from __future__ import annotations

import pytest

from forge.runs.round import RoundStep, play_round


async def orders_of(**outcomes: str) -> list[str]:
    """Return the steps that a round with these outcomes orders."""
    ordered = []

    async def order(step: RoundStep) -> str:
        ordered.append(step.value)
        return outcomes.get(step.value, "done")

    assert await play_round(order) == "done"
    return ordered


@pytest.mark.parametrize("work", ["signalled", "silent"])
async def test_finished_work_is_published_proposed_and_recorded(work: str) -> None:
    assert await orders_of(work=work, publish="pushed") == ["work", "publish", "propose", "record", "settle"]


async def test_without_new_commits_there_is_nothing_to_propose() -> None:
    assert await orders_of(work="signalled", publish="unchanged") == ["work", "publish", "record", "settle"]


async def test_refused_commits_are_not_mentioned_at_the_forge() -> None:
    assert await orders_of(work="signalled", publish="refused") == ["work", "publish", "settle"]


@pytest.mark.parametrize("work", ["failed", "limited", "stopped"])
async def test_other_work_is_not_published(work: str) -> None:
    assert await orders_of(work=work) == ["work", "settle"]


async def test_an_outcome_of_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="perhaps"):
        await orders_of(work="perhaps")
