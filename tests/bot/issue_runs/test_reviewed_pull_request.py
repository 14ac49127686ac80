"""The whole way of a pull request that is reviewed, checked, and in conflict with its base."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bot.read_models.runs import IssuePull, RunsModel
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.forge import issue_runs
from forge import pull_sight
from tests.bot.issue_runs.forge_house import SHOP, ForgeHouse, forge_house


async def test_a_reviewed_pull_request_at_gitea(world: ForgeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_sight, "SETTLED_S", 1.0)
    await go_through_a_review(world)


@pytest.mark.slow
async def test_a_reviewed_pull_request_at_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull_sight, "SETTLED_S", 1.0)
    async with forge_house(tmp_path, kind="github") as world:
        await go_through_a_review(world)


async def go_through_a_review(world: ForgeHouse) -> None:
    """From the pull request over comments on its lines, checks and a conflict to one that can be merged again."""
    async with world.home.open():
        await world.queue("[[commit: shop.py def price(): return 2]] [[say: done]]")
        first = await world.settled()
        ((item, pull),) = world.pulls()
        number = item.number
        world.forge.edit(SHOP, number, by="ana", title=item.title.removeprefix("WIP: "), draft=False)
        thread = await world.thread()
        await world.home.heard(thread, "can be merged", limit=90)

        # Both comments and the review reach one round.
        read = f"[[tool: read_comments {json.dumps({'number': number})}]]"
        lines = [("shop.py", 1, f"[[commit: shop.py def price(): return 3]] {read}"), ("shop.py", 1, "And test it.")]
        world.forge.review(SHOP, number, "", by="eve", lines=[("shop.py", 1, "[[commit: eve.py mine]]")])
        world.forge.review(SHOP, number, "Not yet.", by="ana", state="REQUEST_CHANGES", lines=lines)
        second = await world.settled(2)
        assert second.state == "frozen", second
        prompt = (await work_of(world, 2)).prompt
        assert "eve, no member of the organization" in prompt
        assert prompt.count("On line 1 of shop.py:") == 3
        assert "| +def price(): return 2" in prompt
        assert "+def price(): return 3" in world.changed()
        assert f"read the comments on #{number}" in second.operations
        assert second.pushed_sha == pull.head_sha != first.pushed_sha

        world.forge.add_status(SHOP, pull.head_sha, "build", "success")
        await world.home.heard(thread, "1 passed (`build`). It can be merged.", limit=90)
        shown = await shown_pull(world)
        assert (shown.merge, shown.passed, shown.checks[0].name) == ("ready", 1, "build")
        answer = await world.home.ask(f"!runs {second.id}")
        assert "1 passed (build)" in answer

        world.forge.commit(SHOP, "main", {"shop.py": "def price(): return 9\n"})
        third = await world.settled(3)
        assert third.state == "frozen", third
        assert third.pushed_sha == second.pushed_sha
        prompt = (await work_of(world, 3)).prompt
        assert "git fetch origin" in prompt
        assert "The base is the branch main." in prompt
        await world.home.heard(thread, "It cannot be merged: it conflicts with `main`.", limit=90)
        assert (await shown_pull(world)).merge == "conflict"

        # What the agent was asked for can be done in its sandbox, and is pushed.
        rebase = "git fetch --quiet origin && git rebase --quiet -X theirs origin/main"
        world.forge.comment(SHOP, number, f"[[run: {rebase}]] [[say: done]]", by="ana")
        fourth = await world.settled(4)
        assert fourth.state == "frozen", fourth
        assert fourth.pushed_sha == pull.head_sha != third.pushed_sha
        assert world.forge.is_mergeable(SHOP, number)
        async with asyncio.timeout(90):
            while (await shown_pull(world)).merge != "ready":
                await asyncio.sleep(0.1)
        async with world.home.orchestrator.store.read() as tx:
            causes = [each.cause for each in await issue_runs.wakes(tx, fourth.id)]
        assert causes.count(f"conflict/{second.pushed_sha}") == 1
        assert sum(each.startswith(("line/", "review/")) for each in causes) == 4
        assert len(causes) == 6


async def work_of(world: ForgeHouse, number: int) -> AgentRun:
    """The agent's work of a round."""
    run = await world.run()
    async with world.home.orchestrator.store.read() as tx:
        found = await runs.get(tx, f"{run.id}-{number}")
    assert found is not None
    return found


async def shown_pull(world: ForgeHouse) -> IssuePull:
    """What surfaces show of the pull request."""
    model = (await world.home.orchestrator.services.documents.get("runs")).value
    assert isinstance(model, RunsModel)
    (line,) = model.issues
    assert line.pull is not None
    return line.pull
