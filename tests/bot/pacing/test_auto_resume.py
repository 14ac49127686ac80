"""Agents that stopped at a limit go on when it is over: once, one after the other, and not against an operator."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bot.pacing.auto_resume import FIRST_PAUSE_S, GOES_ON, AutoResume
from database.engine.store import Store
from database.queries.agents import agents, auto_resume
from database.queries.agents.auto_resume import Continuation
from database.queries.spending import usage_ledger
from fleet.sim.provider.quota_headers import SimQuota
from tests.bot.orchestrator import House, house
from tests.bot.pacing.fake_pace import paced
from tests.bot.pacing.test_session_admission import agent
from tests.waiting import until

DAY = 86_400.0
BIG = "[[cache: 900000 0]] [[say: that was much]]"


async def waiting(home: House) -> list[Continuation]:
    async with home.orchestrator.store.read() as tx:
        return await auto_resume.waiting(tx)


async def look(home: House, after: float = 0.0) -> None:
    """Look as the job does, `after` seconds from now."""
    services = home.orchestrator.services
    clock, services.clock = services.clock, lambda: time.time() + after
    try:
        await services.continuing.look()
    finally:
        services.clock = clock
    services.delivery.wake()


async def stopped(home: House, name: str = "coder0", policy: str = "cutoff") -> str:
    """An agent that met its limit in the middle of a turn; its thread."""
    thread = await home.launch(name)
    await home.ask(f"!budget set agent:{name} 40k --window day --policy {policy}")
    # Words to it would wait for the pace; what interrupts it does not.
    await home.ask(f"!steer {name} {BIG}")
    await home.heard(thread, "🔴" if policy == "cutoff" else "It is frozen")
    async with asyncio.timeout(30):
        await until(lambda: waiting(home), lambda found: [each for each in found if each.agent == name])
        # What the turn used may be counted after it was cut.
        pace = home.orchestrator.services.pace
        await until(pace.snapshot, lambda found: any(each.window.is_used_up for each in found.standings.values()))
    return thread


async def told_to_go_on(home: House, thread: str) -> int:
    """How often the agent said, as the built-in one does, what it was told."""
    await home.chat.until(lambda: any("Go on where you stopped" in text for text in home.chat.texts(thread)), limit=30)
    return sum("Go on where you stopped" in text for text in home.chat.texts(thread))


async def test_at_the_reset_it_goes_on_once_and_both_is_told(home: House) -> None:
    async with home.open():
        thread = await stopped(home)
        await look(home)
        text = await home.heard(thread, "⏸ It stopped at a limit (`agent:coder0`)")
        assert "It goes on by itself at about 00:00 (UTC)" in text
        assert "`!stop coder0` keeps it from that" in text
        assert "at a limit, goes on in" in await home.ask("!ps")
        await look(home)
        assert len(await waiting(home)) == 1, "before the reset nothing happens"
        await home.ask("!budget set agent:coder0 5M --window day")  # the egress's clock is the machine's
    async with home.open():
        await look(home, DAY + 60)
        await look(home, DAY + 120)
        assert await told_to_go_on(home, thread) == 1
        await home.heard(thread, "▶ The limit is over: it goes on.")
        assert not await waiting(home)


@pytest.mark.slow
async def test_one_that_the_egress_froze_is_brought_back(home: House) -> None:
    async with home.open():
        thread = await stopped(home, policy="freeze")
        await home.becomes("frozen")
        await look(home)
        await home.heard(thread, "⏸ It stopped at a limit")
        await home.ask("!budget set agent:coder0 5M --window day")
        await look(home, DAY + 60)
        await home.heard(thread, "going on with its conversation")
        assert await told_to_go_on(home, thread) == 1


@pytest.mark.slow
@pytest.mark.parametrize("line", ["!stop coder0", "!freeze coder0", "!restart coder0", "!send coder0 [[say: wait]]"])
async def test_an_operator_who_saw_to_it_is_not_overruled(home: House, line: str) -> None:
    async with home.open():
        await stopped(home)
        await home.ask(line)
        assert not await waiting(home)


@pytest.mark.parametrize("line", ["!stop coder0", pytest.param("!freeze coder0", marks=pytest.mark.slow)])
async def test_who_is_frozen_already_stays_so_when_an_operator_wants_that(home: House, line: str) -> None:
    async with home.open():
        await stopped(home, policy="freeze")
        await home.becomes("frozen")
        assert "frozen" in await home.ask(line)
        assert not await waiting(home)


@pytest.mark.slow
async def test_who_is_cut_off_goes_on_when_the_way_out_is_open_again(home: House) -> None:
    async with home.open():
        thread = await stopped(home)
        await look(home)
        await home.ask("!budget set agent:coder0 5M --window day")
        await home.ask("!cutoff coder0")
        await look(home, DAY + 60)
        assert await waiting(home)
        await home.ask("!restore coder0")
        await look(home, DAY + 61)
        assert await told_to_go_on(home, thread) == 1


async def test_what_is_closed_for_one_family_of_models_stops_no_other(register_url: str) -> None:
    store = await Store.open(register_url)
    services: Any = None
    now = time.time()
    try:
        async with store.write(GOES_ON) as tx:
            await agents.add(tx, agent("coder0", started_at=now - 60))
            for window in ("5h", "7d_opus"):
                seen = {"account": "main", "window": window, "provider": "anthropic", "seen_at": now, "amount": None,
                        "remaining": None, "window_s": None, "reset_at": now + 3_600, "status": None}  # fmt: skip
                await usage_ledger.observe(tx, seen | {"used": 1.0 if window == "7d_opus" else 0.2}, now=now)
            for model, expected in (("claude-haiku-4-5", 0), ("claude-opus-4-1", 1)):
                turned_away: Any = SimpleNamespace(
                    id=model, agent="coder0", status=429, account="main", model=None, model_asked=model, ended_at=now
                )
                await AutoResume(services).met_provider(tx, [turned_away])
                assert len(await auto_resume.waiting(tx)) == expected, model
    finally:
        await store.close()


async def test_it_can_be_switched_off_for_an_agent_and_for_all(tmp_path: Path) -> None:
    roster = "agents:\n- {name: coder0, auto_continue: false}\n- {name: coder1}\n"
    async with house(tmp_path, roster=roster) as home:
        async with home.open() as orchestrator:
            await orchestrator.services.roster.refresh()
            thread = await stopped(home)
            await look(home, DAY + 60)
            assert not await waiting(home)
            assert not any("⏸" in text or "Go on" in text for text in home.chat.texts(thread))
            assert orchestrator.services.continuing.is_on("coder1")
        home.paths.muster_yaml.write_text(home.paths.muster_yaml.read_text() + "pacing: {auto_continue: false}\n")
        async with home.open() as orchestrator:
            assert not orchestrator.services.continuing.is_on("coder1")


@pytest.mark.slow
async def test_many_go_on_one_after_the_other(home: House) -> None:
    async with home.open():
        for name in ("coder0", "coder1"):
            await stopped(home, name)
            await home.ask(f"!budget set agent:{name} 5M --window day")
        await look(home)
        await look(home, DAY + 60)
        left = await waiting(home)
        assert len(left) == 1
        await look(home, DAY + 61)
        assert await waiting(home) == left
        await look(home, DAY + 120)
        assert not await waiting(home)


@pytest.mark.slow
async def test_whose_limit_never_ends_or_who_was_in_no_turn_is_left_alone(home: House) -> None:
    async with home.open() as orchestrator:
        thread = await home.launch("coder0")
        services = orchestrator.services
        row = await home.row()

        async def met(cause: str, scope: str) -> None:
            action: Any = type("Met", (), {"detail": {"scope": scope}, "at": time.time()})
            async with services.store.write(GOES_ON) as tx:
                await services.continuing.met_limit(tx, row, cause, action)
                await services.continuing.met_limit(tx, row, cause, action)

        await met("one", f"launch:{row.launch_id}")
        assert len(await waiting(home)) == 1
        await look(home)
        assert not await waiting(home)
        await met("two", "agent:coder0")
        await look(home, 600)
        assert not await waiting(home)
        assert not any("⏸" in text for text in home.chat.texts(thread))
        # What is heard of late brings nobody back whom a person froze.
        await home.ask("!freeze coder0")
        row = await home.row()
        await met("three", "agent:coder0")
        assert not await waiting(home)


@pytest.mark.slow
async def test_where_nobody_knows_the_reset_it_is_looked_again_after_longer_and_longer(home: House) -> None:
    async with home.open() as orchestrator:
        await stopped(home)
        services = orchestrator.services
        paced(home)
        async with services.store.write(GOES_ON) as tx:
            for each in await auto_resume.waiting(tx):
                await auto_resume.change(tx, each.id, scope="provider:nobody")
        pauses = []
        for _ in range(3):
            await look(home)
            (each,) = await waiting(home)
            assert each.resume_at is not None
            pauses.append(each.resume_at - time.time())
            async with services.store.write(GOES_ON) as tx:
                await auto_resume.change(tx, each.id, state="done")
                row = await agents.get(tx, "coder0")
                assert row is not None
                action: Any = type("Met", (), {"detail": {"scope": "provider:nobody"}, "at": time.time()})
                await services.continuing.met_limit(tx, row, f"again {len(pauses)}", action)
        assert pauses == pytest.approx([FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S], abs=60)


async def test_who_was_turned_away_by_the_provider_goes_on_when_that_said(tmp_path: Path) -> None:
    ahead = 0.0
    plan = "sim: {provider: anthropic, kind: subscription, base_url: URL, credential: 'env:KEY'}"
    async with (
        house(
            tmp_path,
            clock=lambda: time.time() + ahead,
            limits=SimQuota(tokens_per_five_hours=100_000, refuses=True),
            account=plan,
            key="sk-ant-oat01-not-a-real-one",
        ) as home,
        home.open(),
    ):
        thread = await home.launch("coder0")
        home.say("[[cache: 900000 0]] [[run: echo on]]", thread)
        await home.heard(thread, "asks for permission")
        approval = (await home.heard(thread, "asks for permission")).split("permission `")[1].split("`")[0]
        await home.ask(f"!approve {approval}")
        await home.heard(thread, "This plan has nothing left")
        await until(lambda: waiting(home))
        (each,) = await waiting(home)
        assert each.scope == "account:sim/5h"
        assert each.resume_at is not None
        assert 0 < each.resume_at - time.time() <= 5 * 3_600
        await look(home)
        await home.heard(thread, "⏸ It stopped at a limit (`account:sim/5h`)")
        ahead = each.resume_at - time.time() + 60
        await look(home, ahead)
        assert await told_to_go_on(home, thread) == 1
