"""The real Claude Code works on an issue, from the pick-up to the merge."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.agents.test_real_agents import PROGRAMS
from tests.bot.issue_runs.forge_house import SHOP, forge_house

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the agents are not installed: make test-agents installs them"),
]


def call(tool: str, **arguments: str) -> str:
    """The directive by which the simulated model calls a tool."""
    return f"[[tool: {tool} {json.dumps(arguments)}]]"


async def test_claude_code_edits_commits_and_goes_on_after_a_review_until_the_merge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{PROGRAMS}:{os.environ['PATH']}")
    async with forge_house(tmp_path, runtime="claude") as world:
        file = str(world.home.paths.workspace("issue-1") / "shop.py")
        signal = call("signal_done", status="done", summary="The price was changed.")

        def edit(old: str, new: str) -> str:
            edited = call("Edit", file_path=file, old_string=old, new_string=new)
            return f"{edited} [[run: git commit --quiet --all --message 'Set the price.']] {signal} [[say: done]]"

        body = f"{call('Read', file_path=file)} {edit('return 1', 'return 2')}"
        number = world.forge.add_issue(SHOP, "Raise the price", body=body, author="ana", labels=("muster:coder",))
        world.forge.assign(SHOP, number, "ana", by="ana")
        world.speak_in_room()
        async with world.home.open():
            first = await world.until_of(number, lambda run: run.state in ("frozen", "failed"), limit=150)
            assert first.state == "frozen", first
            ((item, pull),) = world.pulls()
            assert "-    return 1\n+    return 2" in world.changed()
            assert not item.title.startswith("WIP:")
            assert "The price was changed." in (item.body or "")
            (record,) = item.remarks
            assert "signal_done" in record.body

            review = edit("return 2", "return 3")
            world.forge.review(SHOP, item.number, review, by="ana", state="REQUEST_CHANGES")
            second = await world.until_of(
                number, lambda run: run.round == 2 and run.state in ("frozen", "failed"), limit=150
            )
            assert second.state == "frozen", second
            assert "-    return 1\n+    return 3" in world.changed()
            assert pull.head_sha == second.pushed_sha != first.pushed_sha
            git = world.forge.repository(SHOP).git
            assert git.merge_base(first.pushed_sha or "", pull.head_sha) == first.pushed_sha

            world.forge.merge(SHOP, item.number, by="ana")
            await world.until_of(number, lambda run: run.state == "destroyed")
            assert await world.home.known(first.agent) is None
            assert not Path(file).parent.exists()
            assert not world.home.paths.agent_folder(first.agent).exists()
