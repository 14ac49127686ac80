"""What sums of a large ledger take on SQLite: a fleet's million requests of two months, as `spend` and pacing ask.

Each is asked for on a register that was just opened, and then a few times more: what is given is the slowest of these,
and at the end the CPU of the dearest, which other work on the machine changes least.
Every sum goes by whole hours but for the rows at its edges (`database.queries.spending.usage_queries`), so what counts
is how many hours, agents, and tasks there were, and not how many requests.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.figures import Figure
from benchmarks.paced import WINDOWS, paced
from bot.pacing.service import PaceService
from core.crash_points import declare
from database.engine.store import Store
from database.queries.spending import hourly_rollup, usage_ledger, usage_queries

STEP = declare("benchmarks.ledger")

ROWS, DAYS, AGENTS = 1_000_000, 60, 24
ROUNDS = 5
#: So many snapshots of the pace, each twice.
LOOKS = 40
MOST_MS = 500.0
NOW = datetime(2026, 11, 25, 14, 25, 30, tzinfo=ZoneInfo("UTC")).timestamp()

_ROLES = ("coder", "coder", "coder", "review", "research", "orchestrator")
_MODELS = (("opus", "anthropic", "main"), ("haiku", "anthropic", "main"), ("gpt-5-codex", "openai", "codex"))
_RAW = '{"input_tokens": 11, "cache_read_input_tokens": 41022, "cache_creation_input_tokens": 871, "output_tokens": 402, "service_tier": "standard"}'  # noqa: E501


def measure() -> list[Figure]:
    """Return milliseconds of each question."""
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as folder:
        return asyncio.run(_measure(Path(folder, "register.db")))


async def _measure(file: Path, rows: int = ROWS) -> list[Figure]:
    await (await Store.open(f"sqlite:///{file}")).close()
    filled = await asyncio.to_thread(_fill, file, rows)
    store = await Store.open(f"sqlite:///{file}")
    began = time.perf_counter()
    hours = await _sum_up(store)
    recounted = (time.perf_counter() - began) * 1000
    figures = [
        Figure(name=f"{rows:,} requests: bare SQLite writes one", value=filled * 1000 / rows, unit="ms"),
        Figure(name="rows of sums by the hour", value=hours, unit="rows"),
        Figure(name=f"a count of everything, {DAYS} days one by one", value=recounted, unit="ms"),
    ]
    await store.close()
    dearest = 0.0
    for name, ask in _questions():
        store = await Store.open(f"sqlite:///{file}")
        taken = []
        for _ in range(ROUNDS):
            began, cpu = time.perf_counter(), time.process_time()
            async with store.read() as tx:
                await ask(tx)
            taken.append((time.perf_counter() - began) * 1000)
            dearest = max(dearest, (time.process_time() - cpu) * 1000)
        await store.close()
        figures.append(Figure(name=name, value=max(taken), unit="ms", at_most=MOST_MS))
    figures.append(Figure(name="the dearest of them, CPU", value=dearest, unit="ms"))
    store = await Store.open(f"sqlite:///{file}")
    figures += await _looks(store)
    figures.append(Figure(name="a request that comes, in the copier's transaction", value=await _one(store), unit="ms"))
    await store.close()
    return figures


async def _looks(store: Store) -> list[Figure]:
    """Return what the pace takes for a snapshot: at first, while nothing happens, and while requests come."""
    now = NOW
    pace, chance = paced(store, lambda: now), random.Random(5)
    first = await _snapshot(pace)
    await pace.redraw()
    calm, busy = [], []
    for seq in range(ROWS + 1, ROWS + 1 + LOOKS):
        now += 1.0
        calm.append(await _snapshot(pace))
        async with store.write(STEP) as tx:
            row = _row(seq, now - 0.5, chance) | {"id": f"look-{seq}", "ledger": "looks", "raw": {}}
            del row["day"]
            await usage_ledger.add(tx, [row])
        busy.append(await _snapshot(pace))
    return [
        Figure(name=f"a snapshot of {WINDOWS} windows: the first", value=first, unit="ms", at_most=MOST_MS),
        Figure(name="second and later, nothing came (median)", value=statistics.median(calm), unit="ms"),
        Figure(name="second and later, requests came (median)", value=statistics.median(busy), unit="ms"),
        Figure(name="the slowest of these", value=max(*calm, *busy), unit="ms"),
    ]


async def _snapshot(pace: PaceService) -> float:
    began = time.perf_counter()
    assert len((await pace.snapshot()).standings) == WINDOWS
    return (time.perf_counter() - began) * 1000


def _questions() -> Iterator[tuple[str, Callable[[AsyncConnection], Awaitable[object]]]]:
    month, zone = NOW - 30 * 86_400 - 1234.5, ZoneInfo("Asia/Kolkata")
    keys: tuple[usage_ledger.Key, ...] = ("agent", "role", "task", "account", "model")
    for by in keys:
        yield f"spend --by {by} --since 30d", partial(usage_ledger.spent, by=by, since=month)
    yield "spend --by agent --since 60d", lambda tx: usage_ledger.spent(tx, by="agent", since=NOW - 60 * 86_400 + 100)
    yield "spend --by day", lambda tx: usage_ledger.spent(tx, by="day", since=month, zone=ZoneInfo("UTC"))
    yield "spend --by day, midnight within an hour", lambda tx: usage_ledger.spent(tx, by="day", since=month, zone=zone)
    yield "spend --by task, with what was projected", _tasks
    yield "ps: tokens of each agent today", lambda tx: usage_ledger.tokens_by_agent(tx, since=NOW // 86_400 * 86_400)
    yield "what 60 windows used, all of it read", _windows
    yield "a report: agents and tasks of yesterday", _yesterday
    yield "a report: 8 windows, two to four weeks by the hour", _pictures
    yield (
        "a runaway: one agent since its last result",
        lambda tx: usage_queries.used(tx, "agent:agent7", NOW - 40_000),
    )


async def _tasks(tx: AsyncConnection) -> None:
    found = await usage_ledger.spent(tx, by="task", since=NOW - 7 * 86_400)
    ids = [each.key for each in found if each.key]
    await usage_queries.by_task(tx, ids)
    await usage_queries.projected(tx, ids)


async def _windows(tx: AsyncConnection) -> None:
    """Four windows of each of fifteen agents, some of which begin at moments of their own."""
    starts = (NOW - 25 * 86_400, NOW // 86_400 * 86_400, NOW - 3 * 86_400 - 777.0, NOW - 4321.0)
    asked = [(f"agent:agent{number}", start) for number in range(15) for start in starts]
    await usage_queries.used_many(tx, asked)


async def _yesterday(tx: AsyncConnection) -> None:
    end = NOW // 86_400 * 86_400
    for by in ("agent", "task"):
        await usage_queries.groups(tx, (by,), end - 86_400, end)


async def _pictures(tx: AsyncConnection) -> None:
    """As `bot.pacing.window_series` asks, with no two windows of one scope."""
    agents = [f"agent:agent{number}" for number in range(4)]
    for scope, days in (
        ("account:main", 32),
        ("host", 32),
        *((each, 15) for each in ("role:coder", "provider:openai", *agents)),
    ):
        await usage_queries.series(tx, scope, NOW - days * 86_400, 3600, until=NOW)


def _fill(file: Path, rows: int) -> float:
    """Write the rows as bare SQLite does; the seconds of CPU that took."""
    began = time.process_time()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        columns = list(_row(0, 0.0, random.Random(0)))
        marks = ", ".join("?" for _ in columns)
        statement = f"INSERT INTO ledger ({', '.join(columns)}) VALUES ({marks})"
        connection.executemany(statement, (tuple(row.values()) for row in _rows(rows)))
        connection.commit()
    return time.process_time() - began


def _rows(rows: int) -> Iterator[dict[str, Any]]:
    chance = random.Random(7)
    begin = NOW - DAYS * 86_400
    for seq in range(1, rows + 1):
        at = begin + seq * DAYS * 86_400 / rows
        # Two thirds of it in ten hours of the day.
        hour = at % 86_400 / 3600
        if not 8 <= hour < 18 and chance.random() < 0.5:
            at += (13 - hour) * 3600 * chance.random()
        yield _row(seq, min(at, NOW), chance)


def _row(seq: int, at: float, chance: random.Random) -> dict[str, Any]:
    agent = int(chance.triangular(0, AGENTS, 4))
    model, provider, account = _MODELS[0 if agent % 3 else 2] if chance.random() < 0.8 else _MODELS[1]
    # A task takes an agent some hours; one in five requests belongs to none.
    task = f"{agent:03x}{int(at // 10_000) % 0x100000:05x}" if chance.random() < 0.8 else None
    return {
        "id": f"bench-{seq}", "ledger": "bench", "seq": seq, "agent": f"agent{agent}", "launch_id": f"l{agent}",
        "role": _ROLES[agent % len(_ROLES)], "profile": "bubblewrap", "session": f"s{agent}", "turn": f"t{seq // 20}",
        "task": task, "account": account, "provider": provider, "api": provider, "model_asked": model, "model": model,
        "attempt": 1, "input_tokens": chance.randrange(2000), "output_tokens": chance.randrange(3000),
        "cache_read_tokens": chance.randrange(100_000), "cache_write_tokens": chance.randrange(4000),
        "reasoning_tokens": 0, "reported": chance.random() < 0.98, "raw": _RAW, "status": 200, "ended": "completed",
        "detail": None, "started_at": at - 5.0, "ended_at": at, "day": int(at // 86_400), "first_byte_s": 0.7,
        "total_s": 5.0, "usd": chance.random() / 10, "tenant_id": "default", "host": "bench",
    }  # fmt: skip


async def _sum_up(store: Store) -> int:
    async with store.write(STEP) as tx:
        day = await hourly_rollup.day_before(tx, None)
        while day is not None:
            await hourly_rollup.recount(tx, day)
            day = await hourly_rollup.day_before(tx, day)
        count = await tx.exec_driver_sql("SELECT count(*) FROM spending")
        return int(count.scalar_one())


async def _one(store: Store) -> float:
    taken = []
    chance = random.Random(3)
    for seq in range(ROWS + 1, ROWS + 41):
        row = _row(seq, NOW + seq - ROWS, chance) | {"raw": {}}
        del row["day"]
        async with store.write(STEP) as tx:
            began = time.perf_counter()
            await usage_ledger.add(tx, [row])
            taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)[len(taken) // 2]
