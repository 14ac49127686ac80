"""A task that meets a limit waits for its end in the queue, and uses up no attempt with it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from bot.tasks.retry_after_limit import FIRST_PAUSE_S, MOST_MET, again_at
from core.crash_points import declare
from database.engine.store import Store
from database.queries.agents import auto_resume
from database.queries.agents.auto_resume import Continuation
from tests.bot.orchestrator import House
from tests.bot.tasks.test_tasks import id_in, task_of
from tests.database.queries.test_tasks import task

MET = declare("test.limits_met")
NOW = 1_000_000.0


async def test_it_is_looked_at_after_longer_and_longer_and_not_for_ever(register_url: str) -> None:
    said = "The budget of coder0 is used up: 9 of 9 tokens per day used. It begins anew at 2026-11-23 00:00 UTC."
    store = await Store.open(register_url)
    try:
        async with store.write(MET) as tx:

            async def again(attempt: int, why: str = said) -> float | None:
                mine = task(1, assigned="coder0", started_at=NOW - 60, attempt=attempt)
                return await again_at(tx, mine, why, NOW)

            assert [await again(number) for number in (1, 2, 3)] == [NOW + FIRST_PAUSE_S * each for each in (1, 2, 4)]
            ahead = "The shared budget of host is ahead of its pace, further than work under way may be: 9 used."
            assert await again(1, ahead) == NOW + FIRST_PAUSE_S
            assert await again(MOST_MET + 1) is None, "whoever meets limits again and again uses up retries"
            assert await again(1, "the model said no") is None
            limit = Continuation(
                id="one",
                agent="coder0",
                launch_id="l",
                scope="account:main/5h",
                stopped_at=NOW - 600,
                resume_at=NOW + 7_200,
                state="waiting",
            )
            await auto_resume.add(tx, limit)
            assert await again(1, "429") is None, "that was before it began"
            await auto_resume.add(tx, replace(limit, id="two", stopped_at=NOW - 1))
            assert await again(1, "429") == NOW + 7_200, "the provider said so"
            await auto_resume.change(tx, "two", detail=f"{auto_resume.AHEAD}, looked 0 times")
            assert await again(1, ahead) == NOW + FIRST_PAUSE_S, "the queue knows until when the pace holds it"
    finally:
        await store.close()


async def test_a_task_that_meets_a_limit_is_in_the_queue_again_and_no_attempt_is_counted(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        name = id_in(
            await home.ask("!task add '[[say: on it]] [[wait: gate]] [[cache: 900000 0]]' --agent coder0 --retries 0")
        )
        await home.heard(thread, "on it")
        await home.ask("!budget set agent:coder0 40k --window day")
        home.models.release("gate")
        assert "is in the queue until that is over" in await home.heard(thread, "met a limit, and")
        found = await task_of(home, name)
        assert (found.state, found.retries, found.attempt) == ("queued", 0, 1)
        async with asyncio.timeout(30):
            while True:
                await orchestrator.services.continuing.look()
                async with orchestrator.store.read() as tx:
                    if not await auto_resume.waiting(tx):
                        break
                await asyncio.sleep(0.02)
        assert not any("goes on by itself" in text for text in home.chat.texts(thread)), "the queue has it"
