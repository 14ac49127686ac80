"""The whole way by a fork: Muster's account cannot write to the repository, and makes its fork when it is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.config.loader import load
from bot.issue_runs.pull_verification import verify_pull_request
from core.signing.signing_key import SigningKey
from forge.model.references import IssueReference
from tests.bot.issue_runs.forge_house import RUN, SHOP, ForgeHouse, forge_house
from tests.bot.issue_runs.test_from_issue_to_pull_request import go_the_whole_way

FORK = "muster/shop"
PRICE = "[[commit: shop.py def price(): return 2]]"


def is_only_in_the_fork(world: ForgeHouse) -> bool:
    """Whether nothing was pushed to the repository itself."""
    return {name for _, name, _ in world.forge.git.pushes} == {FORK}


@pytest.mark.parametrize("kind", ["gitea", pytest.param("github", marks=pytest.mark.slow)])
async def test_an_issue_becomes_a_pull_request_from_a_fork(tmp_path: Path, kind: str) -> None:
    async with forge_house(tmp_path, kind=kind, pushes="{fork: true}") as world:
        world.forge.repository(SHOP).readers.add("muster")
        # The fork is made, and Muster does not hear of it.
        world.forge.faults.lose_response(path=f"^/repos/{SHOP}/forks$", method="POST")
        await go_the_whole_way(world)
        ((item, pull),) = world.pulls()
        assert (pull.head_repository, item.author) == (FORK, "muster")
        assert is_only_in_the_fork(world)
        assert [name for name in world.forge.repositories if name.startswith("muster/")] == [FORK]
        # Its records are beside the branch, and found there.
        block = load(world.home.paths).forge
        assert block is not None
        key = SigningKey.at(world.home.paths.signing_key).public
        at = IssueReference.parse(f"{SHOP}#{item.number}")
        found = await verify_pull_request(block, world.home.environ, at, [key], None)
        assert found.commits
        assert found.is_fine, found


async def test_a_run_goes_on_where_its_pull_request_is(tmp_path: Path) -> None:
    """Whatever muster.yaml says by now, and with an agent that has nothing but what was pushed."""
    async with forge_house(tmp_path, pushes="{fork: true}") as world:
        async with world.home.open():
            await world.queue(f"{PRICE} [[say: one]]")
            assert (await world.settled()).state == "frozen"
        text = world.home.paths.muster_yaml.read_text()
        world.home.paths.muster_yaml.write_text(text.replace("fork: true", "fork: false"))
        async with world.home.open() as orchestrator:
            await orchestrator.services.rounds.destroy(RUN)
            await world.until(lambda run: run.state == "destroyed")
            await orchestrator.services.rounds.reopen(RUN)
            await world.wake_by("[[commit: more.txt more]] [[say: two]]")
            again = await world.settled(2)
            assert again.state == "frozen", again
            ((_, pull),) = world.pulls()
            assert again.pushed_sha == pull.head_sha
            assert "+def price(): return 2" in world.changed()
            assert "+more" in world.changed()
            assert is_only_in_the_fork(world)


async def test_another_repository_of_the_name_is_told_before_the_agent_works(tmp_path: Path) -> None:
    async with forge_house(tmp_path, pushes="{fork: true}") as world, world.home.open():
        world.forge.add_repository(FORK)
        await world.queue(f"{PRICE} [[say: one]]")
        failed = await world.settled()
        assert failed.state == "failed"
        assert await world.work() is None
        told = await world.home.heard(await world.thread(), "is no fork of")
        assert "pushes: fork: false" in told
        world.forge.delete_repository(FORK)
        assert "goes on" in await world.home.ask(f"!runs retry {RUN}")
        assert (await world.settled(2)).state == "frozen"
        assert is_only_in_the_fork(world)


async def test_a_fork_that_git_does_not_reach_yet_is_waited_for(tmp_path: Path) -> None:
    async with forge_house(tmp_path, pushes="{fork: true}") as world, world.home.open():
        fault = world.forge.faults.answer(404, times=None, path=f"^/{FORK}.git/")
        await world.queue(f"{PRICE} [[say: one]]")
        await world.home.heard(await world.thread(), "does not take what")
        assert (await world.run()).state == "checking"
        fault.end()
        await world.home.ask(f"!runs retry {RUN}")
        assert (await world.settled()).state == "frozen"
