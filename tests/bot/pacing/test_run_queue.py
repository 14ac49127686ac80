"""The queue shows each run of an issue once, in the order in which they begin, and why each waits."""

from __future__ import annotations

import random

import pytest

from bot.pacing.run_queue import HELD, issue_lines
from database.queries.agents.runs import AgentRun, RunForecast, RunState, with_forecast
from database.queries.forge.issue_runs import ACTIVE, ALIVE, IssueRun, IssueRunState


def issue(number: int, state: IssueRunState, **values: object) -> IssueRun:
    return IssueRun(
        id=f"{number:010x}", forge="f", repository="acme/shop", number=number, title="t", body="", role="coder",
        sandboxes=[], picked_by="ana", picked_how="l", agent=f"c{number}", connector="m", room="r", thread_key="k",
        state=state, created_at=float(number), active_at=9.0, **values,  # type: ignore[arg-type]
    )  # fmt: skip


def work(run: IssueRun, state: RunState, **values: object) -> AgentRun:
    return AgentRun(
        id=f"{run.id}-{run.round}", source="f", agent=run.agent, role="coder", prompt="p", asked_by="forge:ana",
        connector="m", room="r", state=state, message="m", created_at=1.0,
        **{"settings": {}, **values},  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(50))
def test_each_run_that_waits_or_works_is_there_once_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    runs = [issue(number, chance.choice(ALIVE)) for number in range(chance.randrange(12))]
    woken = {run.id: set(chance.choices(["checks", "comment", "retry"])) for run in runs if chance.random() < 0.5}
    works = {each.id: each for run in runs if run.state in ACTIVE for each in [work(run, "running")]}
    places = chance.randrange(1, 5)
    lines = issue_lines(runs, works, woken, places=places)
    waiting = [run.id for run in runs if run.waits(woken)]
    assert [line.id for line in lines] == [run.id for run in runs if run.state in ACTIVE] + waiting
    assert [line.id for line in lines if line.state == "queued"] == waiting
    assert all(line.reason for line in lines if line.state == "queued")
    taken = sum(run.state == "running" for run in runs)
    if taken >= places:
        those = [line.reason or "" for line in lines if line.state == "queued"]
        assert all(f"{taken} of {places} places" in each for each in those)


def test_a_wait_says_what_goes_before() -> None:
    runs = [issue(1, "running"), issue(2, "frozen"), issue(3, "queued"), issue(4, "queued")]
    _, second, third, fourth = issue_lines(runs, {}, {runs[1].id: {"comment"}}, places=1)
    assert second.reason == "1 of 1 places are taken (`forge: runs`)."
    assert third.reason == f"{second.reason} 1 issue goes before it."
    assert fourth.reason == f"{second.reason} 2 issues go before it."
    assert {each.why for each in (second, third, fourth)} == {"place"}
    assert [each.attempt for each in (second, third, fourth)] == [2, 1, 1], "one that goes on waits for its next round"


def test_what_the_pace_holds_waits_although_it_has_a_place() -> None:
    run = issue(1, "running")
    forecast = RunForecast(tokens=7.0, usd=0.5, runtime="sim", model=None, opens_at=50.0)
    held = work(run, "queued", detail="The week is ahead.", look_at=30.0, settings=with_forecast({}, forecast))
    (line,) = issue_lines([run], {held.id: held}, {}, places=1)
    assert (line.state, line.why, line.reason, line.look_at) == ("queued", "pace", "The week is ahead.", 50.0)
    assert (line.projected_tokens, line.projected_usd, line.assigned) == (7.0, 0.5, None)


def test_nothing_goes_on_that_only_a_person_lets_go_on() -> None:
    asked, checked = issue(1, "frozen"), issue(2, "failed")
    held = issue(3, "queued", detail="ana took it off the queue.")
    woken = {asked.id: {"comment"}, checked.id: {"checks"}}
    (line,) = issue_lines([asked, checked, held], {}, woken, [asked.agent], places=1)
    assert (line.id, line.why, line.reason) == (held.id, HELD, "ana took it off the queue.")
