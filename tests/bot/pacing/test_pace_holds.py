"""People see what the pace holds, and what it will hold, before it does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from bot.api_client import Client
from bot.pacing.pace_holds import HeldWork, holds_of
from bot.pacing.window_pace import pace_of
from bot.pacing.window_status import PaceSnapshot
from bot.read_models.limits import MOST_HOLDS, PaceHold, WindowProjection
from budget.windows.use_outlook import outlook
from budget.windows.window_state import WindowState, figures
from core.crash_points import declare
from database.queries.spending import usage_ledger
from database.queries.tasks import Task
from tests.bot.orchestrator import house
from tests.bot.pacing.fake_pace import paced
from tests.budget.windows.random_windows import BEGINS, DAY, HOUR, POLICY, day, drawn, standing
from tests.database.queries.rows import row as ledger_row

STEP = declare("tests.pace_holds")
NOON = BEGINS + DAY / 2
KEY = "host/tokens/day"


def task(id: str, tokens: float | None, **said: Any) -> Task:
    plain: dict[str, Any] = {
        "id": id, "kind": "task", "text": f"mend {id}", "lane": "l", "operator": "u:a", "created_at": NOON,
        "updated_at": NOON, "projected_tokens": tokens,
    }  # fmt: skip
    return Task(**plain | said)


def holds(held: WindowState, rate: float, *work: Task | str, draws: str = KEY) -> tuple[PaceHold, ...]:
    found = outlook(held, rate, NOON, POLICY)
    window = pace_of(held, figures(held, NOON, POLICY))
    projection = WindowProjection(rate=rate, throttles_at=None if found is None else found.throttles_at)
    on = frozenset({draws})
    every = [
        HeldWork(agent=each, draws=on) if isinstance(each, str) else HeldWork(task=each, draws=on) for each in work
    ]
    snapshot = PaceSnapshot(now=NOON, policy=POLICY, standings={KEY: held})
    return holds_of(replace(window, projection=projection), held, every, snapshot, str)


def on_the_line() -> WindowState:
    return standing(day(100_000.0), line=drawn(day(100_000.0), NOON))


def test_a_task_that_does_not_fit_is_held_now_and_until_when_is_known() -> None:
    (found,) = holds(on_the_line(), 0.0, task("a", 200_000.0), task("b", 1_000.0))
    assert (found.what, found.name, found.needs, found.since) == ("task", "a", 200_000.0, NOON)
    assert found.until is not None
    assert NOON < found.until < BEGINS + DAY
    assert found.text == "mend a"


def test_what_will_be_held_is_known_before_the_largest_first() -> None:
    rate = 6e6 / DAY
    found = holds(on_the_line(), rate, task("small", 1_000.0), task("large", 8_000.0), "coder0")
    assert [each.name for each in found] == ["large", "small", "coder0"]
    assert all(each.since > NOON and each.until is None for each in found)
    assert not holds(on_the_line(), 0.0, task("small", 1_000.0), "coder0"), "at no use nothing is held"


def test_critical_work_is_not_held_by_the_pace() -> None:
    rate = 3e6 / DAY
    (normal, critical) = holds(on_the_line(), rate, task("n", 1_000.0), task("c", 1_000.0, urgency="critical"))
    assert (normal.name, critical.name) == ("n", "c")
    assert critical.since - NOON > 5 * (normal.since - NOON), "it waits for the limit alone"


def test_a_running_agent_is_held_where_the_egress_holds_requests() -> None:
    ahead = standing(day(900_000.0))
    (found,) = holds(ahead, 0.0, "coder0")
    assert (found.what, found.agent, found.since) == ("agent", "coder0", NOON)
    assert found.until is not None
    assert found.until > NOON + HOUR


def test_what_draws_on_other_windows_is_not_held_and_the_list_is_bounded() -> None:
    assert not holds(standing(day(900_000.0)), 0.0, task("a", 1.0), draws="account:main/7d")
    many = [task(f"t{number}", 1.0) for number in range(MOST_HOLDS + 5)]
    assert len(holds(standing(day(900_000.0)), 0.0, *many)) == MOST_HOLDS


async def test_pace_names_what_it_will_hold_and_from_when(tmp_path: Path) -> None:
    async with house(tmp_path, clock=lambda: NOON) as home, home.open() as orchestrator:
        await home.launch("coder0")
        async with orchestrator.store.write(STEP) as tx:
            await usage_ledger.add(tx, [ledger_row(1, ended_at=NOON - 600, input_tokens=600_000)])
        pace = paced(home)
        pace.standings = {KEY: on_the_line()}
        said = await home.ask("!pace")
        assert "At the present rate, new work waits from " in said
        assert "and the limit is met " in said
        assert "It would hold the requests of coder0." in said
        data = await asyncio.to_thread(lambda: Client(home.paths.gateway_socket).run("pace", {}).body["data"])
        (window,) = data["windows"]
        assert window["at_this_rate"]["per_hour"] > 100_000
        assert [(each["what"], each["name"]) for each in window["holds"]] == [("agent", "coder0")]
        pace.standings = {KEY: standing(day(990_000.0))}
        assert "It holds the requests of coder0, until " in await home.ask("!pace")
