"""What fails holds up itself alone, and not for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text as sql

from bot.issue_runs.rounds import settle_step, text
from bot.issue_runs.rounds.service import GIVE_UP_S
from bot.issue_runs.rounds.work_step import WorkStep
from database.engine.store import Store
from database.queries.chat import questions
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun, IssueWake
from tests.bot.issue_runs.workshop import SHOP, STEP, PlayedTurn, Workshop, workshop


@pytest.fixture
async def shop(store: Store, tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path, store, more="runs: 2") as made:
        yield made


async def picked_up(shop: Workshop, count: int = 1, **values: Any) -> list[int]:
    """Open issues, and have them picked up; nothing else happens."""
    numbers = [shop.issue(**values) for _ in range(count)]
    for number in numbers:
        await shop.event(number)
    await shop.process.intake.handle()
    return numbers


async def states(shop: Workshop) -> dict[int, str]:
    return {run.number: run.state for run in await shop.all_runs()}


async def test_a_run_that_raises_keeps_none_from_going_on(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, *good = await picked_up(shop, 4)
    first = await shop.run_of(bad)

    async def raises(tx: object, run_id: str) -> list[IssueWake]:
        if run_id == first.id:
            raise ZeroDivisionError
        return await wakes(tx, run_id)  # type: ignore[arg-type]

    wakes = issue_runs.wakes
    await shop.settle()
    assert set((await states(shop)).values()) == {"frozen"}
    monkeypatch.setattr(issue_runs, "wakes", raises)
    for number in (bad, *good):
        run = await shop.run_of(number)
        wake = IssueWake(run=run.id, cause="comment/1", kind="comment", author="ana", is_member=True, text="x", at=1.0)
        async with shop.store.write(STEP) as tx:
            await issue_runs.add_wake(tx, wake)
    await shop.settle()
    assert [(await shop.run_of(number)).round for number in (bad, *good)] == [1, 2, 2, 2]
    await shop.settle()
    assert sum("internal error" in each for each in await shop.said()) == 1
    monkeypatch.undo()
    await shop.settle()
    assert (await shop.run_of(bad)).round == 2


async def test_a_row_that_cannot_be_read_is_left_out_and_told_once(shop: Workshop) -> None:
    if shop.store.is_shared:
        pytest.skip("PostgreSQL takes no such rows")
    bad, good = await picked_up(shop, 2)
    await shop.settle()
    broken = await shop.run_of(bad)
    async with shop.store.write(STEP) as tx:
        await tx.execute(sql("UPDATE issue_runs SET sandboxes = '[\"bub' WHERE id = :id"), {"id": broken.id})
    for number in (bad, good):
        shop.forge.comment(SHOP, number, "More.", by="ana")
        await shop.event(number)
    await shop.settle()
    await shop.look()
    (run,) = await shop.all_runs()
    assert (run.number, run.state, run.round) == (good, "frozen", 2)
    said = [each for each in await shop.said() if "cannot be read" in each]
    assert len(said) == 1
    assert broken.id in said[0]


async def test_a_run_that_the_forge_keeps_from_beginning_gives_its_place_to_others(shop: Workshop) -> None:
    fault = shop.forge.faults.answer(500, times=None, path=f"^/repos/{SHOP}$")
    stuck = await picked_up(shop, 3)
    await shop.settle()
    assert sorted((await states(shop)).values()) == ["queued", "running", "running"]
    known = await picked_up(shop, 1)
    await shop.change(await shop.run_of(known[0]), base_branch="main")  # it needs nothing of what does not answer
    for _ in range(8):
        await shop.advance(60)
    assert (await states(shop))[known[0]] == "frozen"
    working: list[int] = []

    def turn(run: IssueRun) -> PlayedTurn:
        working.append(run.number)
        return PlayedTurn(ending=None)

    shop.turn = turn
    fault.end()
    await shop.advance(600)
    assert len(working) == 2, "as many agents as there are places"
    for _ in range(3):
        await shop.advance(3_600)  # the watchdog ends them
    assert sorted(working) == stuck


async def test_a_round_that_waits_to_be_published_takes_no_place(shop: Workshop) -> None:
    fault = shop.forge.faults.answer(500, times=None, path="git-receive-pack", method="POST")
    numbers = await picked_up(shop, 5)
    await shop.settle()
    assert set((await states(shop)).values()) == {"checking"}
    assert len(shop.began) == 5
    fault.end()
    await shop.advance(600)
    assert {number: "frozen" for number in numbers} == await states(shop)


@pytest.mark.parametrize("where", ["work", "settle", "its outcome"])
async def test_a_step_that_fails_for_hours_is_given_up_and_can_be_repeated(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    async def raises(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    if where == "work":
        monkeypatch.setattr(WorkStep, "act", raises)
    elif where == "settle":
        monkeypatch.setattr(settle_step.SettleStep, "act", raises)
    else:
        monkeypatch.setattr(text, "settled", breaks)
    (number,) = await picked_up(shop)
    await shop.settle()
    for _ in range(5):
        await shop.advance(3_600)
        assert (await shop.run_of(number)).state in ("running", "checking")
    for _ in range(4):
        await shop.advance(GIVE_UP_S / 4)
    run = await shop.run_of(number)
    assert run.state == "failed"
    assert "internal error" in (run.detail or "")
    assert sum("waits for you" in each for each in await shop.said()) == 1
    monkeypatch.undo()
    await retry(shop, run)
    await shop.settle()
    assert (await shop.run_of(number)).state == "frozen"
    assert len(shop.pulls(run)) == 1


async def retry(shop: Workshop, run: IssueRun) -> None:
    """Repeat a run as the command does."""
    wake = IssueWake(run=run.id, cause="retry/x", kind="retry", author="ana", is_member=True, text="", at=shop.now)
    async with shop.store.write(STEP) as tx:
        await issue_runs.add_wake(tx, wake)


async def test_an_agent_that_worked_for_long_is_not_given_up_at_the_first_error(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.turn = lambda _: PlayedTurn(ending=None)
    (number,) = await picked_up(shop)
    await shop.settle()
    run = await shop.run_of(number)
    for _ in range(20):  # something is heard of it all the time
        shop.now += 1_500
        await shop.change(run, active_at=shop.now)
        await shop.settle()
    assert (await shop.run_of(number)).state == "running"
    failures = 2
    outcome = WorkStep.act

    async def fails_first(self: WorkStep, run: IssueRun) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise ZeroDivisionError
        return await outcome(self, run)

    monkeypatch.setattr(WorkStep, "act", fails_first)
    for _ in range(4):
        await shop.advance(2_000)
    assert failures == 0
    assert (await shop.run_of(number)).state == "frozen"


@pytest.mark.parametrize("status", ["blocked", "failed"])
async def test_work_that_its_agent_does_not_call_done_is_a_draft_and_told(shop: Workshop, status: Any) -> None:
    shop.turn = lambda _: PlayedTurn(signal=status)
    (number,) = await picked_up(shop)
    await shop.settle()
    run = await shop.run_of(number)
    (item,) = shop.pulls(run)
    assert item.title.startswith("WIP:")
    assert f"signal_done: {status}" in item.remarks[0].body
    assert f"signal_done: {status}" in (item.body or "")
    told = next(each for each in await shop.said() if "pull request #" in each)
    assert f"signalled `{status}`" in told
    shop.turn = lambda _: PlayedTurn()
    shop.forge.comment(SHOP, item.number, "Here is the answer.", by="ana")
    await shop.event(item.number)
    await shop.advance(2.0)
    assert not item.title.startswith("WIP:")
    assert "signal_done: " not in item.remarks[-1].body


async def test_a_question_is_closed_when_its_run_goes_on_otherwise(shop: Workshop) -> None:
    shop.turn = lambda run: PlayedTurn(commits=run.round > 1)
    (number,) = await picked_up(shop)
    await shop.settle()
    run = await shop.run_of(number)
    assert [each.kind for each in await waiting(shop)] == [settle_step.REFUSED]
    shop.forge.comment(SHOP, number, "Do it like this.", by="ana")
    await shop.event(number)
    await shop.settle()
    assert (await shop.run_of(number)).round == 2
    assert await waiting(shop) == []
    await shop.change(run, state="failed")
    for _ in range(12):
        shop.forge.comment(SHOP, number, "More.", by="ana")
        await shop.event(number)
        await shop.settle()
    assert [each.kind for each in await waiting(shop)] == [issue_runs.USED_UP]
    before = (await shop.run_of(number)).round
    await retry(shop, run)
    await shop.settle()
    assert (await shop.run_of(number)).round == before + 1
    assert await waiting(shop) == []


async def test_a_question_is_closed_when_its_run_is_over(shop: Workshop) -> None:
    shop.turn = lambda run: PlayedTurn(commits=run.round == 1)
    (number,) = await picked_up(shop)
    await shop.settle()
    run = await shop.run_of(number)
    await shop.change(run, state="failed")
    for _ in range(12):
        shop.forge.comment(SHOP, number, "More.", by="ana")
        await shop.event(number)
        await shop.settle()
    assert len(await waiting(shop)) == 1
    (item,) = shop.pulls(run)
    shop.forge.close_item(SHOP, item.number, by="ana")
    await shop.event(item.number)
    await shop.advance(2.0)
    assert (await shop.run_of(number)).state == "destroyed"
    assert await waiting(shop) == []


async def waiting(shop: Workshop) -> list[Any]:
    async with shop.store.read() as tx:
        return list(await questions.pending(tx))
