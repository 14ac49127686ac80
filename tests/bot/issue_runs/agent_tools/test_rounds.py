"""A whole round, in which an agent uses each of its tools."""

from __future__ import annotations

import asyncio
import json

from tests.bot.issue_runs.forge_house import SHOP, ForgeHouse


def tool(name: str, /, **arguments: object) -> str:
    return f"[[tool: {name} {json.dumps(arguments)}]]"


async def test_an_agent_comments_describes_its_pull_request_and_signals(world: ForgeHouse) -> None:
    async with world.home.open():
        script = " ".join(
            [
                tool("read_issue", number=1),
                tool("post_comment", number=1, body="I look at it."),
                "[[commit: shop.py def price(): return 2]]",
                tool("update_description", number=1, body="The price is 2 because."),
                tool("request_review", number=1, people=["ana"]),
                tool("signal_done", status="done", summary="It is 2 now."),
                "[[say: done]]",
            ]
        )
        run = await world.queue(f"See {world.forge.url}/{SHOP}/issues/1 {script}")
        settled = await world.settled()
        assert settled.state == "frozen", settled
        assert settled.signal == {"status": "done", "summary": "It is 2 now."}
        ((item, pull),) = world.pulls()
        assert "The price is 2 because." in (item.body or "")
        assert f"Closes #{run.number}" in (item.body or "")
        (comment,) = world.forge.item(SHOP, run.number).remarks
        assert "I look at it." in comment.body
        assert "the agent still works" in comment.body
        async with asyncio.timeout(60):
            while pull.reviewers != ["ana"]:
                await asyncio.sleep(0.02)
        await world.until(lambda run: len(run.operations) == 5)
        operations = (await world.run()).operations
        assert operations[:3] == ["read #1", "posted a comment on #1", "signalled done"]
        assert sorted(operations[3:]) == [
            f"asked for a review of #{item.number}",
            f"changed the text of #{item.number}",
        ]
        work = await world.work()
        assert work is not None
        assert "acme" not in work.prompt
        assert world.forge.url.partition("//")[2] not in work.prompt
