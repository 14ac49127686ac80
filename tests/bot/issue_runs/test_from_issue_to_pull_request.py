"""The whole way: a member is assigned to an issue with a label, and a pull request stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from database.queries.agents import agents
from tests.bot.issue_runs.forge_house import SHOP, ForgeHouse, forge_house
from tests.postgres import Postgres


async def test_an_assigned_issue_becomes_a_pull_request_and_its_merge_ends_the_run(world: ForgeHouse) -> None:
    await go_the_whole_way(world, reviewed=False)


@pytest.mark.slow
async def test_the_whole_way_at_github(tmp_path: Path) -> None:
    async with forge_house(tmp_path, kind="github") as world:
        await go_the_whole_way(world)


async def test_the_whole_way_at_a_forge_with_a_certificate_authority_of_its_own(tmp_path: Path) -> None:
    async with forge_house(tmp_path, is_certified=True) as world:
        await go_the_whole_way(world, reviewed=False)


@pytest.mark.slow
async def test_the_whole_way_with_the_register_on_a_server(
    tmp_path: Path, postgres: Postgres, emptied_database: str
) -> None:
    async with forge_house(tmp_path, register=postgres.url(emptied_database)) as world:
        await go_the_whole_way(world)
        assert not list(world.home.paths.state.glob("register.db*"))


async def go_the_whole_way(world: ForgeHouse, *, reviewed: bool = True) -> None:
    """From an issue over its pull request and a review of that to the merge."""
    signal = json.dumps({"status": "done", "summary": "The price is 2 now."})
    body = f"[[commit: shop.py def price(): return 2]] [[tool: signal_done {signal}]] [[say: done]]"
    number = world.forge.add_issue(SHOP, "Raise the price", body=body, author="ana", labels=("muster:coder",))
    world.forge.assign(SHOP, number, "ana", by="ana")
    world.speak_in_room()
    async with world.home.open() as orchestrator:
        run = await world.until_of(number, lambda run: run.state in ("frozen", "failed"))
        assert run.state == "frozen", run
        ((item, pull),) = world.pulls()
        assert "+def price(): return 2" in world.changed()
        assert not item.title.startswith("WIP:")
        assert not pull.is_draft
        assert "The price is 2 now." in (item.body or "")
        assert f"Closes #{number}" in (item.body or "")

        if reviewed:
            review = "[[commit: shop.py def price(): return 3]] [[say: done]]"
            world.forge.review(SHOP, item.number, review, by="ana", state="REQUEST_CHANGES")
            run = await world.until_of(number, lambda run: run.round == 2 and run.state in ("frozen", "failed"))
            assert run.state == "frozen", run
            assert "+def price(): return 3" in world.changed()
            assert run.pushed_sha == pull.head_sha

        world.forge.merge(SHOP, item.number, by="ana")
        run = await world.until_of(number, lambda run: run.state == "destroyed")
        assert run.pull_state == "merged"
        async with orchestrator.store.read() as tx:
            assert await agents.every(tx) == []
