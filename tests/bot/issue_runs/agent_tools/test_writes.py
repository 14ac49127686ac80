"""A write of an agent is done once, wherever Muster is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from database.engine.store import Store
from database.queries.forge import issue_runs
from tests.bot.issue_runs.agent_tools.desk import SHOP, desk_at, link_to
from tests.forge.forge_server.server import ForgeServer

#: Where a comment stands at the forge and nowhere else.
QUICK = ("issue_write.post.after",)
PLACES = (
    "issue_call.decide.before",
    "issue_call.decide.after",
    "issue_write.post.before",
    "issue_write.post.after",
    "forge.done.before",
    "forge.done.after",
    "issue_call.reply.before",
    "issue_call.reply.after",
    "forge.order.before",
    "forge.order.after",
)


@pytest.mark.parametrize(
    "place", [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in PLACES]
)
async def test_killed_at_this_place_an_agent_s_comment_is_posted_once(
    tmp_path: Path, register_url: str, forge: ForgeServer, place: str
) -> None:
    url = register_url
    token = forge.add_token("muster")
    store = await Store.open(url)
    async with desk_at(store, link_to(forge.url, token, "gitea", tmp_path), acting=False) as desk:
        await desk.run()
    await store.close()
    arguments = (url, forge.url, token, str(tmp_path))
    assert await _killed(arguments, place) == -signal.SIGKILL
    assert await _killed(arguments, None) == 0
    assert len(forge.item(SHOP, 1).remarks) == 1
    store = await Store.open(url)
    async with desk_at(store, link_to(forge.url, token, "gitea", tmp_path), acting=False) as desk:
        lines = await desk.audit()
        async with store.read() as tx:
            run = await issue_runs.get(tx, "run-1")
    await store.close()
    assert run is not None
    assert list(run.operations) == ["posted a comment on #1"]
    assert lines == [("agent:issue-1", "post_comment", "done")]


async def _killed(arguments: tuple[str, ...], place: str | None) -> int:
    """Run a process that deals with a call; its exit status."""
    environment = {**os.environ, **({} if place is None else {"MUSTER_CRASH": place})}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bot.issue_runs.agent_tools.crash_subject", *arguments, env=environment
    )
    async with asyncio.timeout(60):
        return await process.wait()
