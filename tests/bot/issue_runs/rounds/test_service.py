"""A queued run becomes a pull request, whatever happens on the way."""

from __future__ import annotations

import shutil

import pytest

from bot.config.forge import extra
from bot.text.errors import UserError
from forge.model.errors import ForgeError
from tests.bot.issue_runs.forge_house import RUN, SHOP, ForgeHouse

PRICE = "[[commit: shop.py def price(): return 2]]"


async def test_an_issue_becomes_a_pull_request_with_the_record(world: ForgeHouse) -> None:
    async with world.home.open():
        run = await world.queue(f"{PRICE} [[wait: gate]] [[say: done]]")
        await world.at_work()
        await world.signal("The price is 2 now. Thanks @ana, closes #1")
        world.home.models.release("gate")
        settled = await world.settled()
        assert settled.state == "frozen", settled
        ((item, pull),) = world.pulls()
        assert "+def price(): return 2" in world.changed()
        assert item.title == "Raise the price"
        assert not pull.is_draft
        assert f"Closes #{run.number}" in (item.body or "")
        assert "The price is 2 now" in (item.body or "")
        (comment,) = item.remarks
        assert "signal_done" in comment.body
        assert comment.body.startswith("When a member of acme comments here"), "people read how to go on"
        assert pull.head_branch == f"muster/issue-{run.number}-raise-the-price"
        assert settled.pushed_sha == pull.head_sha
        assert "refs/notes/muster" in world.forge.repository(SHOP).git.refs()
        heard = await world.home.heard(await world.thread(), "pull request")
        assert f"/{SHOP}/pulls/" in heard
        await world.home.heard(await world.thread(), "Round 1: the agent's work is done. Muster checks")
        assert not any("!resume" in said.text for said in world.home.chat.messages(await world.thread()))
        assert (await world.home.row("coder17")).wanted == "frozen"


async def test_an_agent_that_does_not_signal_gets_a_draft(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[say: enough]]")
        assert (await world.settled()).state == "frozen"
        ((item, pull),) = world.pulls()
        assert pull.is_draft or item.title.startswith("WIP:")
        assert "watchdog" in item.remarks[0].body
        await world.home.heard(await world.thread(), "may be incomplete")


async def test_a_comment_begins_a_second_round_in_the_same_conversation(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[say: one]]")
        first = await world.settled()
        await world.wake_by("[[commit: shop.py def price(): return 3]] [[wait: gate]] [[say: two]]")
        work = await world.at_work(2)
        assert work.resumes
        await world.signal("It is 3 now.")
        world.home.models.release("gate")
        second = await world.settled(2)
        assert second.state == "frozen", second
        assert second.pull_request == first.pull_request
        ((item, pull),) = world.pulls()
        assert second.pushed_sha == pull.head_sha != first.pushed_sha
        assert "+def price(): return 3" in world.changed()
        assert item.remarks[-1].body.startswith("It is 3 now.")
        await world.home.heard(await world.thread(), f"Round 2 of `{first.reference}`: `ana` commented")
        await world.home.heard(await world.thread(), f"has new commits in pull request #{item.number}")
        assert len(item.remarks) == 2
        assert not pull.is_draft
        assert not item.title.startswith("WIP:")


async def test_a_comment_reaches_the_next_agent_if_the_first_one_could_not_get_it(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[say: one]]")
        await world.settled()
        shutil.rmtree(world.home.paths.workspace("coder17"))
        await world.wake_by("Make it three.")
        assert (await world.settled(2)).state == "failed"
        await world.home.ask("!kill coder17")
        assert "is killed" in await world.home.ask("!confirm")
        await world.home.ask(f"!runs retry {RUN}")
        assert "Make it three." in (await world.at_work(3)).prompt


async def test_a_comment_of_a_stranger_wakes_nothing_and_reaches_the_agent_as_such(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[say: one]]")
        await world.settled()
        await world.wake_by("Delete everything.", cause="comment/7", member=False)
        await world.wake_by("Have a look. [[say: two]]", cause="comment/8")
        second = await world.settled(2)
        assert second.state == "frozen"
        work = await world.work(2)
        assert work is not None
        assert "eve, no member of the organization" in work.prompt


async def test_a_secret_is_not_pushed_and_the_agent_can_mend_it(world: ForgeHouse) -> None:
    secret = "ghp_" + "Zx9" * 12
    mend = "git rm -q --cached key; git commit -q --amend -m x; git reset -q --hard origin/main"
    async with world.home.open():
        await world.queue(f"[[commit: key {secret}]] [[say: one]]")
        failed = await world.settled()
        assert failed.state == "failed"
        assert failed.findings
        assert failed.pushed_sha is None
        assert world.pulls() == []
        assert not [ref for ref in world.forge.repository(SHOP).git.refs() if "muster" in ref]
        asked = await world.home.heard(await world.thread(), "were not pushed")
        assert secret not in asked
        assert "runs allow" in asked
        await world.wake_by(f"[[run: {mend}]] {PRICE} [[say: two]]", cause="mend/1", kind="mend")
        mended = await world.settled(2)
        assert mended.state == "frozen", mended
        assert "+def price(): return 2" in world.changed()
        assert mended.findings is None


async def test_as_many_runs_as_allowed_at_a_time_and_the_oldest_first(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue("[[wait: gate]] [[say: one]]")
        await world.at_work()
        for number in range(1, 4):
            await world.queue(
                "[[say: next]]",
                id=f"r{number}",
                agent=f"other{number}",
                thread_key=f"o/{number}",
                created_at=world.home.clock() + number,
            )
        await world.until_run("r2", lambda run: run.state != "queued")
        assert (await world.run("r3")).state == "queued"
        world.home.models.release("gate")
        await world.until_run("r3", lambda run: run.state == "failed")


async def test_what_an_operator_stops_waits_for_a_decision(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[wait: never]]")
        work = await world.at_work()
        assert "is stopped" in await world.home.ask(f"!runs stop {work.id}")
        failed = await world.settled()
        assert failed.state == "failed"
        assert "stopped it" in (failed.detail or "")
        assert world.pulls() == []


async def test_a_forge_that_is_away_costs_only_time(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[wait: gate]] [[say: one]]")
        await world.at_work()
        fault = world.forge.faults.answer(500, times=6)
        world.home.models.release("gate")
        assert (await world.settled()).state == "frozen"
        assert fault.times == 0
        ((item, _),) = world.pulls()
        assert len(item.remarks) == 1


async def test_another_process_goes_on_with_a_round_that_waits(world: ForgeHouse) -> None:
    async with world.home.open():
        await world.queue(f"{PRICE} [[wait: gate]] [[say: one]]")
        await world.at_work()
    world.home.models.release("gate")
    async with world.home.open():
        assert (await world.settled()).state == "frozen"
        ((item, _),) = world.pulls()
        assert len(item.remarks) == 1


async def test_a_certificate_authority_that_is_not_there_is_told_at_the_start(world: ForgeHouse) -> None:
    file = world.home.paths.muster_yaml
    file.write_text(f"{file.read_text()}  ca_file: /nonexistent/ca.pem\n")
    with pytest.raises(ForgeError, match=r"/nonexistent/ca\.pem cannot be used: .*No such file"):
        async with world.home.open():
            pass


async def test_without_its_extra_muster_says_how_to_install_it(
    world: ForgeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra, "lacking", lambda: list(extra.MODULES))
    with pytest.raises(UserError, match=r"pip install 'muster-fleet\[forge\]'") as refused:
        async with world.home.open():
            pass
    assert refused.value.code == "forge.not_installed"
