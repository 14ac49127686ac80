"""The whole way: a member is assigned to an issue with a label, and a pull request stands there."""

from __future__ import annotations

import asyncio
import json

from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from tests.bot.issue_runs.forge_house import SHOP, ForgeHouse


async def test_an_assigned_issue_becomes_a_pull_request_and_its_merge_ends_the_run(world: ForgeHouse) -> None:
    signal = json.dumps({"status": "done", "summary": "The price is 2 now."})
    body = f"[[commit: shop.py def price(): return 2]] [[tool: signal_done {signal}]] [[say: done]]"
    number = world.forge.add_issue(SHOP, "Raise the price", body=body, author="ana", labels=("muster:coder",))
    world.forge.assign(SHOP, number, "ana", by="ana")
    file = world.home.paths.muster_yaml
    file.write_text(file.read_text().replace("memory: {}", "memory: {fleet_room: room}"))
    async with world.home.open() as orchestrator:

        async def until(*states: str) -> IssueRun:
            async with asyncio.timeout(90):
                while True:
                    async with orchestrator.store.read() as tx:
                        run = await issue_runs.of_issue(tx, world.host, SHOP, number)
                    if run is not None and run.state in states:
                        return run
                    await asyncio.sleep(0.05)

        run = await until("frozen", "failed")
        assert run.state == "frozen", run
        ((item, pull),) = world.pulls()
        assert "+def price(): return 2" in world.changed()
        assert not item.title.startswith("WIP:")
        assert not pull.is_draft
        assert "The price is 2 now." in (item.body or "")
        assert f"Closes #{number}" in (item.body or "")

        world.forge.merge(SHOP, item.number, by="ana")
        run = await until("destroyed")
        assert run.pull_state == "merged"
        assert await world.home.known(run.agent) is None
