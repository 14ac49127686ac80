"""What operators decide about runs, and the end of a run."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest

from bot.issue_runs.rounds.service import Rounds
from bot.runs import beginning
from bot.runs.services import RunServices
from database.queries.agents.runs import OPEN
from tests.bot.issue_runs.forge_house import RUN, SHOP, ForgeHouse

PRICE = "[[commit: shop.py def price(): return 2]]"
SECRET = "ghp_" + "Zx9" * 12


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


async def test_an_operator_allows_what_is_no_secret(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"[[commit: key {SECRET}]] [[say: one]]")
        failed = await world.settled()
        assert failed.findings
        mark = next(each["mark"] for each in failed.findings if each["mark"])
        assert "no finding with the mark" in await world.home.ask(f"!runs allow {RUN} 0123")
        assert "No run is called" in await world.home.ask(f"!runs allow fff {mark}")
        for each in {each["mark"] for each in failed.findings}:
            said = await world.home.ask(f"!runs allow {RUN} {each}")
            if "counts as no secret" in said:
                last = (await world.until(lambda run: run.state in ("frozen", "failed") and run.round > 1)).round
        assert (await world.settled(last)).state == "frozen"
        assert SECRET in world.changed()


async def test_who_reads_the_issue_knows_that_its_agent_is_blocked_and_a_button_has_it_go_on(
    world: ForgeHouse,
) -> None:
    async with world.home.open():
        blocked = '{"status": "blocked", "summary": "Which price?"}'
        run = await world.queue(f"[[tool: signal_done {blocked}]] [[say: nothing]]")
        await world.settled()
        thread = await world.thread()
        question = await world.home.heard(thread, "the agent is blocked, and it committed nothing")
        assert "were not pushed" not in question
        while not (remarks := world.forge.item(SHOP, run.number).remarks):
            await asyncio.sleep(0.02)
        assert "blocked" in remarks[0].body
        asked = next(said for said in world.home.chat.messages(thread) if said.text == question)
        world.home.chat.react(asked.event_id, "▶️", conversation=thread)
        await world.settled(2)
        work = await world.work(2)
        assert work is not None
        assert work.resumes
        assert "The agent committed nothing" in work.prompt


async def test_retry_repeats_what_was_stopped(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[wait: never]]")
        work = await world.at_work()
        await world.committed()
        assert "is stopped" in await world.home.ask(f"!runs stop {RUN}")
        await world.settled()
        assert "goes on" in await world.home.ask(f"!runs retry {work.id}")
        again = await world.at_work(2)
        assert "was interrupted" in again.prompt
        settled = await world.settled(2)
        assert settled.state == "frozen", settled
        assert len(world.pulls()) == 1
        shown = await world.home.ask(f"!runs {work.id.rpartition('-')[0]}")
        assert f"{world.forge.url}/acme/shop/issues/{settled.number}" in shown
        assert str(settled.pull_url) in shown
        assert f"`{RUN}-2`" in shown
        assert "does not wait for a decision" in await world.home.ask(f"!runs retry {RUN}")


async def test_a_closed_run_leaves_commits_and_can_go_on_with_a_new_agent(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        await world.queue(f"{PRICE} [[say: the price was raised]]")
        settled = await world.settled()
        await orchestrator.services.rounds.destroy(RUN)
        await orchestrator.services.rounds.destroy(RUN)
        await world.until(lambda run: run.state == "destroyed")
        assert await world.home.known("coder17") is None
        assert not world.home.paths.agent_folder("coder17").exists()
        assert not world.home.paths.workspace("coder17").exists()
        kept = [path for path in world.home.paths.repositories.rglob("coder17") if path.is_file()]
        assert kept
        assert [path for path in kept if ".kept" not in path.parts] == []

        await orchestrator.services.rounds.reopen(RUN)
        await world.wake_by("[[commit: more.txt more]] [[say: two]]")
        again = await world.settled(2)
        assert again.state == "frozen", again
        work = await world.work(2)
        assert work is not None
        assert not work.resumes
        assert "the price was raised" in work.prompt
        assert again.pushed_sha != settled.pushed_sha
        assert "+def price(): return 2" in world.changed()
        assert "+more" in world.changed()


async def test_a_run_that_ends_while_its_agent_is_about_to_be_launched_leaves_nothing(
    world: ForgeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(services: RunServices, *arguments: Any, **more: Any) -> Any:
        opened = await opening(services, *arguments, **more)
        await world.home.orchestrator.services.rounds.destroy(RUN)
        await world.until(lambda run: run.state == "destroyed")
        return opened

    opening = beginning.opening  # type: ignore[attr-defined]
    monkeypatch.setattr(beginning, "opening", late)
    async with world.home.open():
        await world.queue(f"{PRICE} [[say: one]]")
        await world.until(lambda run: run.state == "destroyed")
        async with asyncio.timeout(30):
            while (work := await world.work()) is None or work.state in OPEN:
                await asyncio.sleep(0.02)
        assert work.state == "stopped"
        assert await world.home.known("coder17") is None
        assert not world.home.paths.agent_folder("coder17").exists()
        assert not world.home.paths.workspace("coder17").exists()


async def test_commits_that_were_not_pushed_are_kept_apart_and_told(world: ForgeHouse) -> None:
    async with world.home.open() as orchestrator:
        await world.queue(f"{PRICE} [[wait: never]]")
        await world.at_work()
        await world.committed()
        await orchestrator.services.rounds.destroy(RUN)
        await world.until(lambda run: run.state == "destroyed")
        told = await world.home.heard(await world.thread(), "is not at the forge")
        (folder,) = world.home.paths.repositories.rglob(f"{RUN}.git")
        assert f"git fetch {folder} muster/coder17" in told
        person = world.home.paths.state.parent / "person"
        mirror = next(world.home.paths.repositories.rglob("shop.git"))
        _git("clone", "--quiet", str(mirror), str(person))
        _git("-C", str(person), "fetch", "--quiet", str(folder), "muster/coder17")
        assert "return 2" in _git("-C", str(person), "show", "FETCH_HEAD:shop.py")
        # Nothing of it is where later agents' clones borrow from.
        tip = _git("-C", str(person), "rev-parse", "FETCH_HEAD").strip()
        looked = ["git", "-C", str(mirror), "cat-file", "-e", tip]
        assert (await asyncio.to_thread(subprocess.run, looked, capture_output=True)).returncode != 0

        rounds = orchestrator.services.rounds
        assert isinstance(rounds, Rounds)
        await world.change(ended_at=1.0)
        await rounds.forget_commits()
        assert not folder.exists()


async def test_wakes_that_are_used_up_are_asked_about_once(world: ForgeHouse) -> None:
    text = world.home.paths.muster_yaml.read_text()
    world.home.paths.muster_yaml.write_text(f"{text.rstrip()}\n  wakes: {{per_run: 0}}\n")
    async with world.home.open():
        await world.queue(f"{PRICE} [[say: one]]")
        await world.settled()
        await world.wake_by("[[say: two]]")
        thread = await world.thread()
        question = await world.home.heard(thread, "0 are allowed for a run")
        assert (await world.run()).round == 1
        asked = next(said for said in world.home.chat.messages(thread) if said.text == question)
        world.home.chat.react(asked.event_id, "▶️", conversation=thread)
        await world.settled(2)
        assert sum("0 are allowed" in said for said in world.home.chat.texts(thread)) <= 1


async def test_an_operator_gives_up_a_run_that_has_no_pull_request(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"[[commit: key {SECRET}]] [[say: done]]")
        run = await world.settled()
        assert run.state == "failed", run
        assert f"`!runs end {RUN}` gives it up" in await world.home.ask(f"!runs {RUN}")
        assert f"`!runs end {RUN}` gives it up" in await world.home.ask(f"!runs stop {RUN}")
        assert "what was committed is kept" in await world.home.ask(f"!runs end {RUN}")
        await world.until(lambda run: run.state == "destroyed")
        assert not world.home.paths.workspace(run.agent).exists()
        assert world.pulls() == []
        assert "has ended" in await world.home.ask(f"!runs end {RUN}")


async def test_a_run_with_an_open_pull_request_ends_with_that(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue("[[commit: shop.py def price(): return 2]] [[say: done]]")
        run = await world.settled()
        said = await world.home.ask(f"!runs end {RUN}")
        assert f"Merge or close #{run.pull_request} to end it; nothing was changed." in said
