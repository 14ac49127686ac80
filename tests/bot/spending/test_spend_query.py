"""What `spend` tells: by days of the operator's zone, and of tasks what was expected of them, too."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from core.crash_points import declare
from database.queries import tasks
from database.queries.spending import usage_ledger
from database.queries.spending.usage_queries import TOKENS
from database.queries.tasks import Task
from tests.bot.orchestrator import house
from tests.database.queries.rows import row

STEP = declare("tests.spend")


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def lines_of(table: str) -> dict[str, list[str]]:
    """The cells of each row, by the first."""
    rows = [re.split(r"\s{2,}|\s*\|\s*", line.strip("| ")) for line in table.splitlines()]
    return {cells[0]: cells[1:] for cells in rows}


async def test_days_begin_at_midnight_of_the_operators_zone(tmp_path: Path) -> None:
    now = at("2026-11-25T09:00")
    settings = "timezone: Asia/Kolkata\n"
    async with house(tmp_path, settings=settings, clock=lambda: now) as home, home.open() as orchestrator:
        async with orchestrator.store.write(STEP) as tx:
            times = ("2026-11-24T10:00", "2026-11-24T18:29:59", "2026-11-24T18:30", "2026-11-25T08:00")
            for seq, time in enumerate(times, 1):
                tokens = {**dict.fromkeys(TOKENS, 0), "input_tokens": 10 ** (seq - 1)}
                await usage_ledger.add(tx, [row(seq, agent="ada", ended_at=at(time), **tokens)])
        for by, name in (("provider", "anthropic"), ("sandbox", "bubblewrap")):
            assert "1.1k" in lines_of(await home.ask(f"!spend --by {by}"))[name]
        # In Kolkata it is half past two; there, midnight was at half past six in the evening of UTC.
        assert "1.1k" in lines_of(await home.ask("!spend"))["ada"]
        days = lines_of(await home.ask("!spend --by day"))
        assert (days["2026-11-24"][1], days["2026-11-25"][1]) == ("11", "1.1k")


async def test_beside_what_a_task_used_stands_what_it_was_projected_to_use(tmp_path: Path) -> None:
    now = at("2026-11-25T09:00")
    settings = "budgets: {weights: {cache_read: 0.5}}\n"
    async with house(tmp_path, settings=settings, clock=lambda: now) as home, home.open() as orchestrator:
        async with orchestrator.store.write(STEP) as tx:
            task = Task(
                id="0a0a0a0a", kind="task", text="t", lane="l", operator="o", state="done", created_at=now - 9e4,
                updated_at=now, projected_tokens=2500.0,
            )  # fmt: skip
            await tasks.add(tx, task)
            for seq, (name, ended) in enumerate((("0a0a0a0a", 9e4), ("0a0a0a0a", 60), ("other", 60)), 1):
                tokens = {**dict.fromkeys(TOKENS, 0), "output_tokens": 1000, "cache_read_tokens": 200}
                await usage_ledger.add(tx, [row(seq, task=name, ended_at=now - ended, **tokens)])
        found = lines_of(await home.ask("!spend --by task"))
        assert found["task"][-2:] == ["projected", "actual"]
        # Of today one request, and of the task two.
        assert (found["0a0a0a0a"][0], found["0a0a0a0a"][-2:]) == ("1", ["2.5k", "2.2k"])
        assert found["other"][-2:] == ["-", "1.1k"]
