"""A forge that refuses what a round is to leave there keeps no other run waiting for ever."""

from __future__ import annotations

import time
from pathlib import Path

from bot.issue_runs.rounds.service import GIVE_UP_S
from tests.bot.issue_runs.forge_house import RUN, SHOP, forge_house

PRICE = "[[commit: shop.py def price(): return 2]]"


async def test_a_refused_pull_request_gives_up_its_place_and_can_be_tried_again(tmp_path: Path) -> None:
    ahead = 0.0
    async with forge_house(tmp_path, clock=lambda: time.time() + ahead) as world, world.home.open():
        fault = world.forge.faults.answer(422, times=None, path=f"/{SHOP}/pulls", method="POST")
        await world.queue(f"{PRICE} [[say: one]]")
        await world.home.heard(await world.thread(), "does not take what")
        assert (await world.run()).state == "checking"
        ahead = GIVE_UP_S + 60
        await world.home.ask(f"!runs retry {RUN}")
        failed = await world.settled()
        assert failed.state == "failed"
        assert "422" in (failed.detail or "")
        await world.home.heard(await world.thread(), "waits for you")
        fault.end()
        await world.home.ask(f"!runs retry {RUN}")
        assert (await world.settled(2)).state == "frozen"
        ((item, _),) = world.pulls()
        assert len(item.remarks) == 1
