"""An agent whose turn goes on and on is held a day ahead of its pace, and goes on when it may, or by leave."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.app.wiring import budgets as wiring
from bot.egress_client import event_import
from bot.egress_client.client import EgressClient
from bot.egress_client.event_import import EgressEventImport
from bot.egress_client.in_process import InProcessEgress
from fleet.sim.provider.quota_headers import SimQuota
from tests import waiting
from tests.bot.orchestrator import House, house
from tests.bot.tasks.test_tasks import id_in, task_of
from tests.week.simulated_clock import BEGINNING, HOUR, FakeClock, Week, clocked_hosts
from tests.week.story import KEY
from tests.week.test_week import MemoryRoom

pytestmark = pytest.mark.slow

#: A million a day, and in one turn ten requests of a third of that.
SETTINGS = """\
timezone: Europe/Vienna
budgets: {host: {tokens: 7M, window: 7d}}
pacing: {stagger: 1s}
dispatch: {start_agents: false}
agents: {runtime: sim, sandbox: none, heartbeat: 1s, freshness: 30d}
"""
EACH, REQUESTS = 300_000, 10
LONG = f"[[cache: 0 {EACH}]][[tool: mcp__muster__ps {{}}]]" * REQUESTS + "[[say: all done]]"


#: The same of a subscription, whose provider tells how much of its week is used.
PLAN = "main: {provider: anthropic, kind: subscription, base_url: URL, credential: 'env:KEY', windows: [7d]}"
GRANTS = SimQuota(tokens_per_five_hours=20_000_000, tokens_per_week=7_000_000, refuses=True)


@asynccontextmanager
async def at_work(folder: Path, settings: str = SETTINGS, **others: Any) -> AsyncIterator[tuple[House, Week]]:
    """An agent, on the morning of the first day of a week."""
    folder.mkdir(exist_ok=True)
    clock = FakeClock(folder / "clock", BEGINNING + 8 * HOUR)
    with clocked_hosts(clock):
        async with (
            house(folder / "home", settings=settings, clock=clock, **others) as home,
            home.open() as orchestrator,
        ):
            assert isinstance(home.egress, InProcessEgress)
            await home.launch("coder0")
            yield home, Week(orchestrator, MemoryRoom(home), clock, home.egress, home.models)


def answered(home: House) -> int:
    return sum(entry.status == 200 for entry in home.models.ledger.entries)


async def goes_on(home: House, than: int = 5) -> None:
    """Wait until the provider has answered more requests."""
    answers = await home.models.ledger.find(lambda entry: entry.status == 200, at_least=than + 1, timeout=20)
    assert len(answers) > than


async def test_one_that_is_ahead_is_held_and_told_once_and_goes_on_when_an_admin_lets_it(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (home, week):
        thread = await home.thread("coder0")
        home.say(LONG, thread)
        failed = await home.heard(thread, "is ahead of its pace, further than work under way may be")
        assert "1,5" in failed
        await week.quiet()
        assert answered(home) == 5
        for _ in range(3):
            await week.orchestrator.services.continuing.look()
            await week.quiet()
        told = [text for text in home.chat.texts(thread) if "ahead of its pace" in text]
        assert len(told) == 2, "why the turn ended, and when it goes on"
        assert "It goes on by itself at about Fri 18 Jun 00:00 (Europe/Vienna)" in told[-1]
        assert "ahead, goes on in 16 h" in await home.ask("!ps")
        leave = re.search(r"`(!budget authorize host [0-9]+ --for 1h)`", told[-1])
        assert leave is not None, told[-1]
        assert "faster than its pace" in await home.ask(leave[1])
        await week.orchestrator.services.continuing.look()
        await home.heard(thread, "▶ There is room at its pace again: it goes on.")
        await goes_on(home)
        await week.quiet()
        assert week.egress.egress is not None
        actions = await week.egress.egress.ledger.actions_after(0, 100)
        assert {action.action for action in actions} == {"refused"}, "nothing was cut for it, and nobody frozen"


async def test_by_itself_it_goes_on_when_its_line_is_drawn_anew_and_is_not_refused_at_once(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (home, week):
        thread = await home.thread("coder0")
        home.say(LONG, thread)
        await home.heard(thread, "⏸ It is too far ahead of its pace")
        await week.advance_to(0, 23.9)
        assert answered(home) == 5
        await week.advance_to(1, 0.1)
        await home.heard(thread, "▶ There is room at its pace again: it goes on.")
        await goes_on(home)
        await week.quiet()
        assert sum(entry.status != 200 for entry in home.models.ledger.entries) == 0
        assert sum("ahead of its pace" in text for text in home.chat.texts(thread)) == 2


async def test_why_it_was_refused_is_not_told_once_more_when_it_has_gone_on_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    catch_up = EgressEventImport.catch_up

    async def counted(self: EgressEventImport) -> None:
        nonlocal looked
        await catch_up(self)
        looked += 1

    monkeypatch.setattr(EgressEventImport, "catch_up", counted)
    monkeypatch.setattr(wiring, "EgressClient", functools.partial(EgressClient, every_s=0.05))
    async with at_work(tmp_path) as (home, week):
        for wait in ("SHORTEST_HELD_S", "LONGEST_HELD_S"):
            monkeypatch.setattr(event_import, wait, math.inf)
        thread = await home.thread("coder0")
        home.say(LONG, thread)
        await home.heard(thread, "⏸ It is too far ahead of its pace")
        await week.advance_to(1, 0.1)
        await home.heard(thread, "▶ There is room at its pace again: it goes on.")
        await week.quiet()
        monkeypatch.setattr(event_import, "LONGEST_HELD_S", 0.0)
        before = looked
        # One may have begun already.
        await waiting.until(lambda: looked >= before + 2)
        await week.quiet()
        assert sum("ahead of its pace" in text for text in home.chat.texts(thread)) == 2


async def test_of_a_providers_window_it_is_held_once_it_is_known_what_a_token_is_of_it(tmp_path: Path) -> None:
    settings = SETTINGS.replace("budgets: {host: {tokens: 7M, window: 7d}}\n", "")
    async with at_work(tmp_path, settings, account=PLAN, limits=GRANTS, key=KEY) as (home, week):
        thread = await home.thread("coder0")
        for number in range(3):
            await home.ask(f"!steer coder0 [[cache: 0 {EACH}]][[say: morning {number}]]")
            await home.heard(thread, f"morning {number}")
            await week.quiet()
            await week.advance_to(0, 8.1 + number / 10)
        await home.ask(f"!steer coder0 {LONG}")
        failed = await home.heard(thread, "The window 7d of account:main is ahead of its pace")
        assert "tokens used here, where its pace allows 1,2" in failed
        await week.quiet()
        before = answered(home)
        assert before == 5
        rows = [line for line in (await home.ask("!budget")).splitlines() if "account:main |" in line]
        assert len(rows) == 1, "it is no limit of anybody's here"
        told = await home.heard(thread, "⏸ It is too far ahead of its pace")
        leave = re.search(r"`(!budget authorize account:main [0-9.]+% --for 1h)`", told)
        assert leave is not None, told
        await home.ask(leave[1])
        await week.orchestrator.services.continuing.look()
        await home.heard(thread, "▶ There is room at its pace again: it goes on.")
        await goes_on(home, than=before)
        await week.quiet()


async def test_a_task_that_is_ahead_is_in_the_queue_again_and_uses_up_no_attempt(tmp_path: Path) -> None:
    async with at_work(tmp_path) as (home, week):
        thread = await home.thread("coder0")
        name = id_in(await home.ask(f"!task add '{LONG}' --agent coder0 --retries 0 --estimate 100k"))
        assert "is in the queue until that is over" in await home.heard(thread, "met a limit, and")
        found = await task_of(home, name)
        assert (found.state, found.retries) == ("queued", 0)
        await week.quiet()
        assert answered(home) == 5
        await week.advance_to(0, 23.9)
        assert answered(home) == 5, "it is held until its line has come there"
        await week.advance_to(1, 0.1)
        await goes_on(home)
        await week.quiet()
        found = await task_of(home, name)
        assert (found.state, found.retries, found.attempt) == ("queued", 0, 2)
