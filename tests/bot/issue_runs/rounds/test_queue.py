"""Issues queue where tasks do: people see the order, the reason and the cost, and change what begins."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bot.issue_runs import run_record
from bot.tasks.service import listing
from budget.windows.pace_admission import EvenSpreadLine
from database.queries.agents import runs
from database.queries.spending import pacing_windows
from scheduler.dispatch.task_history import pasts
from tests.bot.issue_runs.forge_house import RUN, ForgeHouse
from tests.bot.pacing.fake_pace import paced

WAITS = "[[wait: gate]] [[say: enough]]"


@pytest.fixture
def one_place(world: ForgeHouse) -> ForgeHouse:
    file = world.home.paths.muster_yaml
    file.write_text(file.read_text().replace("  mode: poll\n", "  mode: poll\n  runs: 1\n"))
    return world


async def later(world: ForgeHouse, number: int, body: str = "[[say: next]]") -> str:
    run_id = f"{number}{RUN}"
    await world.queue(
        body, title=f"Issue {number}", id=run_id, agent=f"other{number}", thread_key=f"o/{number}",
        created_at=world.home.clock() + number,
    )  # fmt: skip
    return run_id


async def test_the_queue_says_what_goes_before_and_what_it_will_cost(one_place: ForgeHouse) -> None:
    world = one_place
    async with world.home.open() as orchestrator:
        await world.queue(WAITS)
        await world.at_work()
        first, second = await later(world, 1), await later(world, 2)
        shown = await world.home.ask("!tasks")
        assert shown.index(RUN) < shown.index(first) < shown.index(second)
        assert "1 running, 2 queued" in shown
        assert "queued: place" in shown
        assert "acme/shop#2: Issue 1" in shown
        model: Any = (await orchestrator.services.documents.get("tasks")).value
        lines = {line.id: line for line in model.open}
        assert [lines[each].state for each in (RUN, first, second)] == ["running", "queued", "queued"]
        assert "1 issue goes before it" in lines[second].reason
        assert all(lines[each].projected_tokens for each in (RUN, first, second))
        whole = await world.home.ask(f"!runs {second}")
        assert "1 of 1 places" in whole
        assert "Projected: about" in whole
        assert f"`{first}` is a run and no task" in await world.home.ask(f"!task {first}")
        agent: Any = SimpleNamespace(services=orchestrator.services, identity="agent:boss")
        assert "acme" not in repr(await listing(agent, all=True)), "agents see no names of a forge"
        world.home.models.release("gate")
        await world.until_run(second, lambda run: run.state == "failed")
        assert "No task waits" in await world.home.ask("!tasks")
        assert f"{second}-1" in await world.home.ask("!tasks --all")


async def test_what_an_operator_takes_off_waits_until_it_is_put_back(one_place: ForgeHouse) -> None:
    world = one_place
    async with world.home.open():
        await world.queue(WAITS)
        await world.at_work()
        first, second = await later(world, 1), await later(world, 2)
        assert "taken off the queue" in await world.home.ask(f"!runs stop {first}")
        assert "took it off the queue" in await world.home.ask(f"!runs {first}")
        world.home.models.release("gate")
        await world.until_run(second, lambda run: run.state == "failed")
        assert (await world.run(first)).state == "queued", "nothing begins it by itself"
    async with world.home.open():
        await world.settled()
        assert (await world.run(first)).is_held, "also after a restart"
        assert "in the queue again" in await world.home.ask(f"!runs retry {first}")
        await world.until_run(first, lambda run: run.state == "failed")
        assert (await world.run(first)).round == 1


async def test_an_admin_begins_one_without_a_place_and_only_one_that_waits(one_place: ForgeHouse) -> None:
    world = one_place
    async with world.home.open():
        await world.queue(WAITS)
        await world.at_work()
        first, second = await later(world, 1, WAITS), await later(world, 2, WAITS)
        assert "begins now" in await world.home.ask(f"!runs now {second}")
        await world.until_run(second, lambda run: run.state == "running")
        assert (await world.run(first)).state == "queued"
        assert "does not wait (running)" in await world.home.ask(f"!runs now {RUN}")
        await world.home.ask(f"!runs stop {first}")
        assert "begins now" in await world.home.ask(f"!runs now {first}"), "one that was taken off begins as well"
        world.home.models.release("gate")
        await world.settled()
        await world.until_run(first, lambda run: run.state == "failed")
        assert "does not wait (failed)" in await world.home.ask(f"!runs now {first}")


async def test_the_record_has_what_was_projected_and_later_projections_learn_from_it(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        await world.queue("[[commit: shop.py def price(): return 2]] [[say: enough]]")
        run = await world.settled()
        record = await run_record.current_record(orchestrator.services, run)
        async with orchestrator.store.read() as tx:
            work = await runs.get(tx, f"{RUN}-1")
            (past,) = await pasts(tx, "coder")
        assert work is not None
        assert work.forecast is not None
        assert record.tokens_projected == int(work.forecast.tokens)
        assert (past.kind, past.tokens, past.estimated_tokens) == ("issue", work.tokens, work.forecast.tokens)
        assert (past.runtime, past.role) == ("sim", "coder")
        assert "about" in await world.home.ask(f"!runs {RUN}")


async def test_an_issue_waits_for_the_pace_where_a_persons_prompt_does_not(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        pace = paced(world.home)
        now, day = world.home.clock(), 86_400.0
        window = {"begins_at": now - day, "resets_at": now + day, "length_s": 2 * day}
        pace.put("host/tokens/day", 500_000.0, scope="host", unit="tokens", limit=1_000_000.0, **window)
        held = pace.standings["host/tokens/day"]
        # What may be used rises evenly from here on.
        line = EvenSpreadLine(
            window=held.window.key, drawn_at=now, drawn_used=500_000.0, limit=1_000_000.0, resets_at=now + day,
            cause="first",
        )  # fmt: skip
        pace.standings["host/tokens/day"] = replace(held, line=line)
        await world.queue("[[say: enough]]")
        async with asyncio.timeout(60):
            while (work := await world.work()) is None or work.detail is None:
                await asyncio.sleep(0.02)
        assert "queued: pace" in await world.home.ask("!tasks")
        assert "waits" in await world.home.ask(f"!runs {RUN}")
        assert work.forecast is not None
        assert work.forecast.opens_at is not None
        assert work.forecast.opens_at > now
        begun = await world.home.ask('!run coder --prompt "[[say: hello]]"')
        assert "begins" in begun
        model: Any = (await orchestrator.services.documents.get("tasks")).value
        assert next(line for line in model.open if line.kind == "run").why is None
        answer = await world.home.ask(f"!runs now {RUN}")
        assert "begins now: " in answer
        assert "more may be used in the next hour" in answer
        async with orchestrator.store.read() as tx:
            (granted,) = await pacing_windows.live(tx)
        assert (granted.scope, granted.unit) == ("host", "tokens")
        pace.standings.clear()
        await world.settled()
