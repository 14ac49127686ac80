"""However large a ledger grows, no question reads all of it, and none reads sums of hours that it does not ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from core.crash_points import declare
from database.engine.store import Store
from database.queries import tasks
from database.queries.agents import auto_resume
from database.queries.operations import audit_log, trace_sources
from database.queries.spending import hourly_rollup, pacing_windows, quota_history, usage_ledger, usage_queries
from database.queries.spending.usage_cache import UsageQuestion, UsageTally
from tests.database.queries.rows import DAY, NOON, row

STEP = declare("tests.plans")
AT = NOON - 1234.5
#: Tables that grow.
_LARGE = ("agent_messages", "audit", "ledger", "spending", "quota_history", "tasks", "authorizations")


async def second_look(tx: AsyncConnection) -> None:
    """At what was used since a window began, after a row came."""
    tally, asked = UsageTally(), [UsageQuestion("host", AT), UsageQuestion("agent:coder0", NOON - DAY)]
    await (await tally.look(tx, NOON)).used(tx, asked, now=NOON)
    kept = await tally.look(tx, NOON)
    kept.frontier = kept.frontier._replace(places={"one": 40})
    await (await tally.look(tx, NOON)).used(tx, [*asked, UsageQuestion("host", NOON - 99)], now=NOON)


QUESTIONS: dict[str, Callable[[AsyncConnection], Awaitable[object]]] = {
    "spend of all": partial(usage_ledger.spent, by=None, since=AT),
    "spend by agent": partial(usage_ledger.spent, by="agent", since=AT, until=NOON + 99),
    "spend by task": partial(usage_ledger.spent, by="task", since=AT),
    "spend by model": partial(usage_ledger.spent, by="model", since=AT),
    "spend by sandbox": partial(usage_ledger.spent, by="sandbox", since=AT),
    "today by all that a view shows": partial(
        usage_queries.groups, by=("agent", "profile", "provider", "account", "model"), since=AT
    ),
    "requests for traces": partial(trace_sources.requests, source="ledger/one", after=5, limit=9),
    "turns for traces": partial(trace_sources.messages_of_turns, turns={("coder0", "1-1")}),
    "runs for traces": partial(trace_sources.runs_of_audit, after=5, limit=9),
    "tasks for traces": partial(trace_sources.tasks_of, ids=["t"]),
    "what was enforced": partial(audit_log.of_actions, actions=("limit", "cutoff"), at=AT, limit=9),
    "spend by day": partial(usage_ledger.spent, by="day", since=AT, zone=ZoneInfo("Asia/Kathmandu")),
    "today of each agent": partial(usage_ledger.tokens_by_agent, since=AT),
    "an account": partial(usage_queries.used, scope="account:main", since=AT),
    "an agent": partial(usage_queries.used, scope="agent:coder0", since=AT),
    "a task": partial(usage_queries.by_task, ids=["t"]),
    "many windows": partial(usage_queries.used_many, asked=[("agent:a", AT), ("host", NOON), ("role:r", AT + 7200)]),
    "a picture by hours": partial(
        usage_queries.series, scope="account:main", since=AT, bucket_s=3600.0, until=NOON + 9
    ),
    "a picture by minutes": partial(usage_queries.series, scope="role:r", since=AT, bucket_s=60.0, until=NOON + 9),
    "a recount's days": partial(hourly_rollup.day_before, day=20_001),
    "a recount": partial(hourly_rollup.differences, day=20_000),
    "what was used, looked at again": second_look,
    "what was seen of quotas": pacing_windows.observed,
    "what was seen of one": partial(pacing_windows.observations, account="main", window="7d"),
    "what is authorized": pacing_windows.live,
    "what was authorized": partial(pacing_windows.ended, since=AT),
    "tasks under way": tasks.live,
    "tasks that are not counted yet": partial(tasks.unsettled, since=AT),
    "words that wait for an agent": partial(tasks.held_turns, agent="coder0"),
    "what words that wait cost": tasks.held_costs,
    "whether it went on": partial(auto_resume.went_on, agent="coder0", since=AT),
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path}/register.db")
    async with opened.write(STEP) as tx:
        await usage_ledger.add(tx, [row(seq, task="t", ended_at=NOON + seq * 1000) for seq in range(-50, 50)])
    yield opened
    await opened.close()


async def plans(tx: AsyncConnection, ask: Callable[[AsyncConnection], Awaitable[object]]) -> list[str]:
    """How SQLite goes about each table of each statement."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(tx.sync_connection, "before_cursor_execute", note)
    try:
        await ask(tx)
    finally:
        event.remove(tx.sync_connection, "before_cursor_execute", note)
    assert asked
    found = []
    for statement, parameters in asked:
        if not isinstance(parameters, list):
            result = await tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            found += [str(line.detail) for line in result]
    return [line for line in found if any(name in line for name in _LARGE)]


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_question_looks_where_the_answer_is(store: Store, name: str) -> None:
    async with store.read() as tx:
        steps = await plans(tx, QUESTIONS[name])
    assert steps
    for step in steps:
        assert step.startswith("SEARCH "), step
        assert "INDEX" in step or "PRIMARY KEY" in step, step


async def test_what_is_written_looks_where_it_is_written(store: Store) -> None:
    seen = {"account": "main", "window": "7d", "provider": "p", "used": 0.5, "amount": None, "remaining": None,
            "reset_at": None, "window_s": 7 * DAY, "status": None}  # fmt: skip

    async def copied(tx: AsyncConnection) -> None:
        await usage_ledger.add(tx, [row(99, ended_at=NOON)])
        await quota_history.record(tx, seen | {"seen_at": NOON}, lambda sums: 0.0)
        await quota_history.record(tx, seen | {"seen_at": NOON + 999}, lambda sums: 0.0)
        await usage_ledger.forget(tx, NOON + DAY)

    async with store.write(STEP) as tx:
        steps = await plans(tx, copied)
    assert any("spending" in step for step in steps)
    for step in steps:
        # Where a row is inserted that may be there, SQLite names the table.
        assert step.startswith("SEARCH ") or "SCAN" not in step, step
