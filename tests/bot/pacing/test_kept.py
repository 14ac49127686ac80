"""Lines and authorizations are as they were, whenever the orchestrator is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bot.commands.services import no_room
from bot.config.dispatch import Dispatch
from bot.config.limits import Budgets
from bot.config.pacing import Pacing
from bot.pacing.service import PaceService
from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import agent_messages, runs
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.runs import AgentRun, RunForecast
from database.queries.spending import pacing_windows, usage_ledger
from database.queries.spending.pacing_windows import AuthorizationRow
from database.queries.task_states import TaskEvent
from database.queries.tasks import Task
from egress.settings import LimitSettings
from fleet.roster.cache import LatestRoster
from tests.crash.deaths import die_at
from tests.database.queries.rows import row

STEP = declare("tests.kept")
NOON = 1_796_040_000.0
DAY = 86_400.0


def pace(store: Store, now: float = NOON) -> PaceService:
    """One that knows of a day's limit for all, and of no egress."""
    settings: Any = SimpleNamespace(
        timezone=ZoneInfo("UTC"),
        pacing=Pacing(),
        budgets=Budgets.model_validate({"host": {"tokens": "24M", "window": "day"}}),
        accounts={},
        sandboxes={},
        dispatch=Dispatch(),
        agents=SimpleNamespace(sandbox=None),
    )
    services: Any = SimpleNamespace(
        store=store,
        settings=settings,
        clock=lambda: now,
        roster=LatestRoster(Path("there is none")),
        egress_client=None,
        main_room=no_room,
        delivery=SimpleNamespace(wake=lambda: None),
    )
    return PaceService(services=services)


async def spend(store: Store, seq: int, tokens: int, at: float) -> None:
    entry = row(seq, ended_at=at, input_tokens=tokens, output_tokens=0)
    entry |= {"cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0}
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [entry])


@pytest.mark.parametrize("place", ["pace.kept.before", "pace.kept.after"])
def test_killed_at_this_place_a_line_is_drawn_once(tmp_path: Path, place: str) -> None:
    url = f"sqlite:///{tmp_path}/register.db"

    async def keep() -> tuple[int, float, list[str]]:
        store = await Store.open(url)
        async with store.write(STEP) as tx:
            granted = AuthorizationRow(
                id="a1",
                scope="host",
                unit="tokens",
                amount=1e6,
                granted_by="ana",
                granted_at=NOON - 9,
                until=NOON + 900,
            )
            await pacing_windows.authorize(tx, granted)
        await pace(store, NOON - 5).redraw()
        await spend(store, 1, 900_000, NOON - 1)
        await pace(store).redraw()
        async with store.read() as tx:
            lines, log = await pacing_windows.lines(tx), await pacing_windows.befell(tx, 0)
            (live,) = await pacing_windows.live(tx)
        await store.close()
        return len(lines), live.drawn, [each.kind for each in log]

    for _ in range(2):
        die_at(place, lambda: asyncio.run(keep()))
    count, drawn, kinds = asyncio.run(keep())
    assert count == 1
    assert 0 < drawn < 900_000, "what was used beyond the line and the burst, and once"
    assert sorted(kinds) == ["authorization", "first"]


async def test_what_is_used_up_ends_and_is_not_lifted_any_more(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    async with store.write(STEP) as tx:
        granted = AuthorizationRow(
            id="a1", scope="host", unit="tokens", amount=1e6, granted_by="ana", granted_at=NOON - 9, until=NOON + 900
        )
        await pacing_windows.authorize(tx, granted)
    await pace(store, NOON - 5).redraw()
    await spend(store, 1, 3_000_000, NOON - 1)
    changes = []
    after = pace(store)
    after.on_change(lambda: changes.append(1))
    await after.redraw()
    async with store.read() as tx:
        assert [each.ended for each in await pacing_windows.ended(tx, 0)] == ["used"]
    assert changes, "who waits for the pace is woken"
    snapshot = await after.snapshot()
    assert snapshot.standings["host/tokens/day"].authorizations == ()
    await store.close()


async def test_what_an_ended_task_reserved_is_free_once_it_is_counted_what_it_used(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")

    async def reserved() -> float:
        return (await pace(store).snapshot()).standings["host/tokens/day"].reserved

    given: dict[str, Any] = {"text": "x", "lane": "x", "operator": "ana", "created_at": NOON, "updated_at": NOON}
    task = Task(id="t1", kind="task", state="running", attempt=1, projected_tokens=300_000.0, **given)
    async with store.write(STEP) as tx:
        await tasks.add(tx, task)
    assert await reserved() == 300_000
    async with store.write(STEP) as tx:
        await tasks.change(tx, "t1", TaskEvent.FINISH, now=NOON, ended_at=NOON)
    assert await reserved() == 300_000, "its last requests may still be on their way into the register"
    async with store.write(STEP) as tx:
        await tasks.change(tx, "t1", TaskEvent.SETTLE, now=NOON, actual_tokens=200_000.0)
    assert await reserved() == 0
    await store.close()


async def test_a_reservation_ends_with_its_turn_whoever_is_to_answer_then(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    given: dict[str, Any] = {"text": "x", "lane": "x", "operator": "ana", "created_at": NOON, "updated_at": NOON}
    async with store.write(STEP) as tx:
        for number, state in enumerate(("waiting", "running"), start=1):
            message_id = f"task-t{number}-1"
            task = Task(
                id=f"t{number}",
                kind="task",
                state=state,
                attempt=1,
                message=message_id,
                projected_tokens=300_000.0,
                **given,
            )
            await tasks.add(tx, task)
            message = AgentMessage(
                id=message_id, agent="coder0", mode="prompt", text="x", attachments=(), sender="ana",
                connector=None, conversation=None, event_id=None, answer_in=None, state="accepted", turn="1",
                detail=None, created_at=NOON, updated_at=NOON, give_up_at=NOON + DAY,
            )  # fmt: skip
            await agent_messages.add(tx, message)

    async def held() -> tuple[float, int]:
        standing = (await pace(store).snapshot()).standings["host/tokens/day"]
        return standing.reserved, standing.under_way

    # The agent said that it is blocked, and its turn goes on.
    assert await held() == (600_000, 2)
    async with store.write(STEP) as tx:
        await agent_messages.change(tx, "task-t1-1", now=NOON, state="finished")
    assert await held() == (300_000, 1)
    await store.close()


async def test_a_round_of_an_issue_keeps_what_it_was_projected_to_use_until_it_has_used_that(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite:///{tmp_path}/register.db")
    forecast = RunForecast(tokens=300_000.0, usd=None, runtime="sim", model=None)

    async def reserved() -> float:
        return (await pace(store).snapshot()).standings["host/tokens/day"].reserved

    given: dict[str, Any] = {
        "source": "forge", "agent": "coder0", "role": "coder", "prompt": "x", "asked_by": "forge:ana", "connector":
        "memory", "room": "room", "created_at": NOON, "settings": runs.with_forecast({}, forecast),
    }  # fmt: skip
    async with store.write(STEP) as tx:
        await runs.add(tx, AgentRun(id="5e7a-1", message="m1", state="queued", **given))
    assert await reserved() == 0
    async with store.write(STEP) as tx:
        await runs.change(tx, "5e7a-1", only=["queued"], state="running", started_at=NOON)
    assert await reserved() == 300_000
    await spend(store, 1, 100_000, NOON + 1)
    assert await reserved() == 200_000
    async with store.write(STEP) as tx:
        await runs.change(tx, "5e7a-1", only=["running"], state="done", tokens=100_000.0, ended_at=NOON + 2)
    assert await reserved() == 0
    await store.close()


@pytest.mark.parametrize("drawn", [0.0, 2e6])
async def test_what_was_used_before_the_window_began_anew_is_not_lifted_again_though_nobody_was_there(
    register_url: str, drawn: float
) -> None:
    store = await Store.open(register_url)
    midnight = NOON + DAY / 2
    async with store.write(STEP) as tx:
        granted = AuthorizationRow(
            id="a1",
            scope="host",
            unit="tokens",
            amount=5e6,
            drawn=drawn,
            granted_by="ana",
            granted_at=NOON,
            until=NOON + DAY,
        )
        await pacing_windows.authorize(tx, granted)
    await pace(store, NOON + 5).redraw()
    # Muster is killed; the egress goes on with the lift that it was told, up to the end of its day.
    await spend(store, 1, 28_000_000, midnight - 60)
    await spend(store, 2, 24_500_000, midnight + 60)
    limit = LimitSettings(kind="pool", scope="host", amount=24e6, window="day")
    (told,) = await pace(store, midnight + 120).enforced([limit])
    # 4M went beyond the limit of the day before, and 0.5M of this one's: half a million is left.
    assert told.lift == pytest.approx(1e6, rel=0.01)
    await pace(store, midnight + 120).redraw()
    (told,) = await pace(store, midnight + 120).enforced([limit])
    assert told.lift == pytest.approx(1e6, rel=0.01)
    await store.close()
