"""A register has one orchestrator, wherever it runs."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bot import tenure
from bot.tenure import RegisterInUse
from register import leases
from register.store import Store
from tests.bot.house import house

HERE, THERE = Path("/state/here"), Path("/state/there")


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


async def test_another_installation_is_told_who_has_the_register_and_gets_it_afterwards(register_url: str) -> None:
    clock = Clock()
    first, second = await Store.open(register_url), await Store.open(register_url)
    async with tenure.held(first, HERE, clock):
        with pytest.raises(RegisterInUse, match=rf"process {os.getpid()} on .*, whose state is in {HERE}.* in 60 s"):
            async with tenure.held(second, THERE, clock):
                pass
    async with tenure.held(second, THERE, clock):
        pass
    await first.close()
    await second.close()


async def test_whose_orchestrator_was_killed_has_it_back_at_once_and_others_when_it_ran_out(register_url: str) -> None:
    clock = Clock()
    store = await Store.open(register_url)
    killed = tenure.held(store, HERE, clock)
    await killed.__aenter__()
    again = tenure.held(store, HERE, clock)
    await again.__aenter__()
    clock.now += tenure.DURATION + 1
    async with tenure.held(store, THERE, clock):
        pass
    await store.close()


async def test_who_was_away_for_so_long_that_another_took_it_ends(
    register_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "RENEW", 0.01)
    clock = Clock()
    store = await Store.open(register_url)
    async with tenure.held(store, HERE, clock) as lease:
        keeping = asyncio.create_task(tenure.keep(store, lease, clock))
        clock.now += tenure.DURATION - 1
        async with asyncio.timeout(20):
            while True:
                async with store.read() as tx:
                    found = await leases.find(tx, tenure.NAME)
                if found is not None and found.until == clock.now + tenure.DURATION:
                    break
                await asyncio.wait({keeping}, timeout=0.01)
        keeping.cancel()
        clock.now += tenure.DURATION + 1
        async with tenure.held(store, THERE, clock):
            with pytest.raises(RegisterInUse, match="stop one of them"):
                await tenure.keep(store, lease, clock)
    await store.close()


async def test_a_second_orchestrator_on_a_register_leaves_the_agents_of_the_first_alone(tmp_path: Path) -> None:
    async with house(tmp_path / "a") as first, house(tmp_path / "b") as second, first.open():
        await first.launch("coder0")
        register = first.paths.state / "register.db"
        second.paths.muster_yaml.write_text(
            second.paths.muster_yaml.read_text() + f"register:\n  url: sqlite:///{register}\n"
        )
        with pytest.raises(RegisterInUse, match="in use by process"):
            async with second.open():
                pass
        assert "idle" in await first.ask("!ps")
