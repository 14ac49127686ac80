"""What `estimate` answers in a room and to programs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from bot.api_client import Client
from budget.windows import window_boundaries
from core.crash_points import declare
from database.queries import tasks
from database.queries.tasks import Task
from tests.bot.orchestrator import VIEWER, House, house

WRITTEN = declare("test.ended tasks")


async def _ended(home: House, count: int, *, role: str = "coder", tokens: float = 10_000.0, **known: Any) -> None:
    """Let so many tasks have ended, one an hour, each a step larger than the one before."""
    now = home.clock()
    async with home.orchestrator.store.write(WRITTEN) as tx:
        for n in range(1, count + 1):
            at = now - n * 3600
            values: dict[str, Any] = {
                "kind": "task", "text": "fix it", "role": role, "lane": "x", "operator": "memory:@ana",
                "state": "done", "attempt": 1, "actual_tokens": tokens * n, "actual_usd": tokens * n / 1e5,
                "projected_tokens": tokens * n * 1.25, "created_at": at, "updated_at": at, "ended_at": at,
            } | known  # fmt: skip
            await tasks.add(tx, Task(id=f"{role}{n}{values['state']}", **values))


async def test_an_estimate_says_how_much_on_what_basis_and_how_good_such_estimates_were(home: House) -> None:
    async with home.open():
        await _ended(home, 10)
        said = await home.ask("!estimate 'add retries to the client' --role coder", sender=VIEWER)
        assert "| half stay within | 50k tokens | $0.5000 |" in said
        assert "| four of five (reserved) | 80k tokens | $0.8000 |" in said
        assert "By 10 ended tasks (role coder, kind task)." in said
        assert "Of 10 past estimates, 10 held, and half were off by no more than 12.5k tokens (25% of what" in said
        given = {"text": "add retries", "role": "coder"}
        data = await asyncio.to_thread(lambda: Client(home.paths.gateway_socket).run("estimate", given).body["data"])
    assert data["tokens"] == {"p50": 50_000, "p80": 80_000, "p90": 90_000}
    assert data["usd"]["p90"] == pytest.approx(0.9)
    assert (data["count"], data["guessed"], data["alike"]) == (10, False, "same")
    assert data["past"] == {"compared": 10, "within": 10, "median_abs_error": 12_500, "median_error_share": 0.25}


async def test_without_tasks_it_says_that_it_guesses(home: House) -> None:
    async with home.open():
        await _ended(home, 9, state="cancelled")
        await _ended(home, 9, role="research")
        said = await home.ask("!estimate 'add retries' --role coder")
        assert "By a guess (half within 100,000 weighted tokens" in said
        assert "because no task of role coder ended yet" in said
        assert "No price is known of them." in said
        assert "How good such estimates are is not known" in said


async def test_a_text_costs_what_it_takes_to_read_it(home: House) -> None:
    async with home.open():
        await _ended(home, 5, tokens=1.0)
        assert "| half stay within | 1k tokens |" in await home.ask(f"!estimate {'x' * 4000} --role coder")


async def test_a_role_that_nobody_has_is_refused_with_the_nearest(home: House) -> None:
    async with home.open():
        said = await home.ask("!estimate 'add retries' --role codr")
        assert "no role is called 'codr'. Did you mean 'coder'?" in said
        assert "Put quotes around a text" in await home.ask("!estimate add retries --role coder")


async def test_a_runtime_that_there_is_not_is_refused_and_a_model_nobody_used_is_told_as_that(home: House) -> None:
    async with home.open():
        await _ended(home, 6, model="opus")
        said = await home.ask("!estimate 'add retries' --runtime simm")
        assert "'simm'. Did you mean 'sim'?" in said
        assert "ended tasks" not in said
        said = await home.ask("!estimate 'add retries' --model nosuch")
        assert "By 6 ended tasks" in said
        assert "No task with the model `nosuch` has ended yet." in said
        assert "No task with" not in await home.ask("!estimate 'add retries' --model opus")


async def test_who_says_less_than_such_tasks_cost_is_told_what_is_projected_instead(home: House) -> None:
    async with home.open():
        await _ended(home, 9)
        projected = "You estimated 3k tokens; 50k are projected, about 17 times that, because"
        assert projected in await home.ask("!task add 'mend it' --role coder --estimate 3k")
        behind = await home.ask("!task add 'mend that' --role coder --estimate 3k")
        assert "before it" in behind
        assert projected in behind
        assert "projected" not in await home.ask("!task add 'rewrite it' --role coder --estimate 500k")


async def test_what_nobody_can_mean_as_an_estimate_is_refused_with_one_bound(home: House) -> None:
    async with home.open():
        for estimate in ("0", "9999999M"):
            said = await home.ask(f"!task add 'mend it' --role coder --estimate {estimate}")
            assert "from one token to 10^12 are allowed" in said
        assert "is queued" in await home.ask("!task add 'mend it' --role coder --estimate 999999M")


async def test_it_says_whether_such_a_task_would_begin_now_and_otherwise_when(tmp_path: Path) -> None:
    settings = "timezone: Europe/Vienna\nbudgets:\n  roles: {coder: {tokens: 5M, window: week}}\n"
    # A quarter of the week is over.
    ahead = window_boundaries.start_of("week", time.time()) + 42 * 3_600 - time.time()
    async with house(tmp_path, settings=settings, clock=lambda: time.time() + ahead) as home, home.open():
        given = {"text": "add retries", "role": "coder"}

        async def now() -> Any:
            answer = await asyncio.to_thread(lambda: Client(home.paths.gateway_socket).run("estimate", given).body)
            return answer["data"]["now"]

        await _ended(home, 10, tokens=10_000.0)
        assert "There is room for it now: it would begin as soon as an agent is free." in await home.ask(
            "!estimate 'add retries' --role coder"
        )
        assert await now() == {
            "fits": True, "paced": True, "why": None, "reason": None, "window": None, "at": None,
        }  # fmt: skip
        await _ended(home, 10, tokens=400_000.0, kind="large", state="failed")
        said = await home.ask("!estimate 'rewrite it all' --role coder --kind large")
        assert "⏳ It would wait." in said, said
        assert "is used evenly, which allows" in said
        assert "It runs about" in said
        assert "`!budget authorize role:coder" in said
        # Where nothing bounds it, that is said.
        said = await home.ask("!estimate 'rewrite it all' --kind large")
        assert "No known limit applies to it" in said, said
