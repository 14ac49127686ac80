"""What is refused: by a forge that takes nothing, or by rules that an agent tries to get around."""

from __future__ import annotations

import time
from pathlib import Path

from bot.issue_runs.rounds.service import GIVE_UP_S
from tests.bot.issue_runs.forge_house import RUN, SHOP, ForgeHouse, forge_house

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


async def test_an_agent_that_goes_back_to_an_older_base_keeps_to_the_newest_rules(world: ForgeHouse) -> None:
    world.forge.commit(SHOP, "main", {".muster/merge.yaml": "protected: [shop.py]\n"})
    async with world.home.open():
        await world.queue(f"[[run: git reset -q --hard HEAD~1]] {PRICE} [[wait: gate]] [[say: one]]")
        await world.at_work()
        await world.committed()
        world.forge.commit(SHOP, "main", {"README.md": "A larger shop.\n"})
        world.home.models.release("gate")
        failed = await world.settled()
        assert failed.state == "failed", failed
        assert [each["kind"] for each in failed.findings or ()] == ["protected"]
        assert world.pulls() == []


async def test_an_agent_that_breaks_its_clone_does_not_keep_its_run_from_its_end(tmp_path: Path) -> None:
    ahead = 0.0
    async with forge_house(tmp_path, clock=lambda: time.time() + ahead) as world, world.home.open():
        await world.queue(f"{PRICE} [[run: find .git/objects -type f -delete]] [[say: one]]")
        assert (await world.settled()).state == "failed"
        await world.home.orchestrator.services.rounds.destroy(RUN)
        ahead = GIVE_UP_S + 60
        await world.home.orchestrator.services.rounds.destroy(RUN)
        await world.until(lambda run: run.state == "destroyed")
        await world.home.heard(await world.thread(), "could not be kept")
        assert not world.home.paths.workspace("coder17").exists()
