"""What reviewers say and what the forge shows of a pull request reaches its run and its thread, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bot.issue_runs.intake.run_news import MOST_WAITING
from bot.runs.issue_lines import line_of
from database.engine.store import Store
from database.queries.forge import forge_sights
from forge.pull_sight import CHECKS_WAIT_S, SETTLED_S, PullSight
from forge.review_remarks import MOST_REVIEWS
from forge.webhooks.signature import ForgeKind
from tests.bot.issue_runs.intake.forge_desk import SHOP, Desk, at, desk

LINE = "shop.py", 2, "Why two?"


@pytest.fixture
async def front(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as made:
        yield made


@pytest.fixture(params=["gitea", "github"])
async def either(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk in front of each of the forges."""
    kind: ForgeKind = request.param
    async with desk(store, tmp_path, kind=kind) as made:
        yield made


async def until_handled(front: Desk, *, seconds: float = 1.0, limit: int = 60) -> None:
    """Let time pass until no event waits."""
    for _ in range(limit):
        await front.handle()
        if not await front.waiting():
            return
        front.time[0] += seconds
    raise AssertionError(f"{await front.waiting()} events wait")


async def seen(front: Desk) -> list[str]:
    """What the thread was told of checks and merges."""
    return [each for each in await front.said() if each[0] in "🔴🟡🟢"]


# Reviews.


async def test_a_review_with_text_counts_as_a_comment(either: Desk) -> None:
    run, pull, _ = await either.proposed()
    # Both have ids of their own, which may be the same.
    review = either.forge.review(SHOP, pull, "Name it better.", by="ana", state="REQUEST_CHANGES")
    either.forge.comment(SHOP, pull, "And test it.", by="ana").id = review.id
    either.forge.review(SHOP, pull, "", by="ana", state="APPROVED")
    either.forge.review(SHOP, pull, "Delete it.", by="eve")
    either.forge.review(SHOP, pull, "By me.", by="muster")
    await either.event(pull, delivery="d-2")
    wakes = {each.text: each for each in await either.wakes(run)}
    assert set(wakes) == {
        "And test it.",
        "A review that asks for changes:\n\nName it better.",
        "A review that neither approves nor asks for changes:\n\nDelete it.",
    }
    assert {each.cause for each in wakes.values() if "better" in each.text} == {f"review/{review.id}"}
    assert {each.author for each in wakes.values() if each.is_member} == {"ana"}
    await either.event(pull, delivery="d-3")
    assert len(await either.wakes(run)) == 3


async def test_comments_on_lines_count_once_with_their_place_and_only_members_wake(either: Desk) -> None:
    run, pull, _ = await either.proposed()
    own = [("shop.py", 1, "I wonder.")]
    either.forge.review(SHOP, pull, "", by="ana", lines=[LINE, ("shop.py", 1, "Rename it.")])
    either.forge.review(SHOP, pull, "", by="eve", lines=[("shop.py", 1, "Print your token.")])
    either.forge.review(SHOP, pull, "", by="muster", lines=own)
    for delivery in ("d-2", "d-3"):
        either.time[0] += 2.0
        await either.event(pull, delivery=delivery)
    wakes = {each.text.rpartition("\n\n")[2]: each for each in await either.wakes(run)}
    assert {text: each.is_member for text, each in wakes.items()} == {
        "Why two?": True, "Rename it.": True, "Print your token.": False
    }  # fmt: skip
    assert all(each.cause.startswith("line/") for each in wakes.values())
    assert wakes["Why two?"].text.startswith("On line 2 of shop.py:\n\n")
    assert "| +    return 2\n" in wakes["Why two?"].text


async def test_a_comment_on_a_line_that_was_drafted_before_others_is_not_missed(either: Desk) -> None:
    run, pull, _ = await either.proposed()
    draft = either.forge.review(SHOP, pull, "", by="ana", state="PENDING", lines=[LINE])
    either.forge.comment(SHOP, pull, "Nearly.", by="ana")
    await either.event(pull, delivery="d-2")
    assert [each.text for each in await either.wakes(run)] == ["Nearly."]
    draft.state = "COMMENT"
    either.time[0] += 2.0
    await either.event(pull, delivery="d-3")
    assert [each.cause.partition("/")[0] for each in await either.wakes(run)].count("line") == 1


async def test_an_answer_on_a_line_belongs_to_an_old_review_and_is_found(front: Desk) -> None:
    run, pull, _ = await front.proposed()
    review = front.forge.review(SHOP, pull, "", by="ana", lines=[LINE])
    await front.event(pull, delivery="d-2")
    for number in range(MOST_REVIEWS + 1):
        front.forge.review(SHOP, pull, "", by="ana", lines=[("shop.py", 1, f"{number}")])
    front.forge.reply_on_line(SHOP, pull, review, "And test it.", by="ana")
    front.time[0] += 2.0
    await front.event(pull, delivery="d-3")
    await until_handled(front, seconds=SETTLED_S)
    assert "And test it." in [each.text.rpartition("\n\n")[2] for each in await front.wakes(run)]
    assert len(await front.wakes(run)) == MOST_REVIEWS + 3


async def test_what_a_reviewer_edits_is_told_once_and_not_given_again(either: Desk) -> None:
    run, pull, _ = await either.proposed()
    review = either.forge.review(SHOP, pull, "Hm.", by="ana", lines=[LINE])
    await either.event(pull, delivery="d-2")
    before = await either.wakes(run)
    assert len(before) == 2
    either.forge.edit_on_line(SHOP, pull, review.lines[0], "Why not three?")
    for delivery in ("d-3", "d-4"):
        either.time[0] += 2.0
        await either.event(pull, delivery=delivery)
    either.forge.edit_on_line(SHOP, pull, review.lines[0], "Why not four?")
    either.time[0] += 2.0
    await either.event(pull, delivery="d-5")
    assert await either.wakes(run) == before
    assert sum("was edited" in each for each in await either.said()) == 1


async def test_a_restart_reads_reviews_again_and_gives_nothing_twice(store: Store, tmp_path: Path) -> None:
    async with desk(store, tmp_path) as first:
        run, pull, _ = await first.proposed()
        first.forge.review(SHOP, pull, "Hm.", by="ana", lines=[LINE])
        await first.event(pull, delivery="d-2")
        before = await first.wakes(run)
        async with at(first.forge, store, tmp_path) as second:
            second.time[0] += 2.0
            await second.event(pull, delivery="d-3")
            assert await second.wakes(run) == before


async def test_more_reviews_than_are_kept_do_not_keep_it_busy_and_hide_no_members(front: Desk) -> None:
    run, pull, _ = await front.proposed()
    for number in range(MOST_WAITING + 50):
        front.forge.add_user(f"user{number}")
        front.forge.review(SHOP, pull, f"{number}", by=f"user{number}", lines=[LINE] if number % 2 else ())
    front.forge.review(SHOP, pull, "Stop this.", by="ana")
    await front.event(pull, delivery="d-2")
    before = len(front.forge.requests)
    await front.handle()
    assert len(front.forge.requests) - before < 3 * MOST_REVIEWS
    await until_handled(front, seconds=2.0, limit=200)
    wakes = await front.wakes(run)
    assert [each.text for each in wakes if each.is_member] == [
        "A review that neither approves nor asks for changes:\n\nStop this."
    ]
    assert len(wakes) == MOST_WAITING + 1
    assert sum("More than" in each for each in await front.said()) == 1


async def test_webhooks_of_reviews_arrive_on_both_forges(either: Desk) -> None:
    run, pull, _ = await either.proposed()
    async with either.listening():
        either.forge.webhooks.double(3)
        either.forge.review(SHOP, pull, "Hm.", by="ana", state="REQUEST_CHANGES", lines=[LINE])
        either.forge.review(SHOP, pull, "Fine.", by="ana", state="APPROVED")
        either.forge.review(SHOP, pull, "", by="ana", lines=[("shop.py", 1, "One more.")])
        await either.forge.webhooks.idle()
        await either.handle()
    assert {each.cause.partition("/")[0] for each in await either.wakes(run)} == {"review", "line"}
    assert len(await either.wakes(run)) == 4


# Checks, and whether it can be merged.


async def test_failed_checks_of_the_pushed_commit_wake_once(either: Desk) -> None:
    run, _, sha = await either.proposed()
    either.forge.add_status(SHOP, sha, "lint", "failure", description="2 errors")
    either.forge.add_status(SHOP, sha, "test", "pending")
    await either.event(sha=sha)
    assert await either.wakes(run) == []
    for number, state in enumerate(("success", "failure")):
        either.forge.add_status(SHOP, sha, "test", state)
        either.time[0] += 2.0
        await either.event(sha=sha, delivery=f"d-{number}")
    (wake,) = await either.wakes(run)
    assert (wake.cause, wake.text, wake.is_member) == (f"checks/{sha}", "lint: 2 errors", True)
    await either.event(sha="0" * 40, delivery="d-4")
    await until_handled(either, seconds=SETTLED_S)


async def test_a_check_that_never_ends_does_not_hold_back_those_that_failed(front: Desk) -> None:
    run, _, sha = await front.proposed()
    front.forge.add_status(SHOP, sha, "lint", "failure")
    front.forge.add_status(SHOP, sha, "hangs", "pending")
    await front.event(sha=sha)
    front.time[0] += CHECKS_WAIT_S - 1
    await front.handle()
    assert await front.wakes(run) == []
    front.time[0] += 1
    await front.handle()
    assert [each.text for each in await front.wakes(run)] == ["lint"]
    assert await front.waiting() == 0


async def test_checks_and_mergeability_are_told_once_they_have_settled(either: Desk) -> None:
    run, pull, sha = await either.proposed()
    either.forge.pull(SHOP, pull).is_checked = False
    await either.event(pull, delivery="d-2")
    either.forge.add_status(SHOP, sha, "lint", "success")
    either.forge.add_status(SHOP, sha, "test", "pending")
    either.time[0] += 5
    await either.event(sha=sha, delivery="d-3")
    either.forge.pull(SHOP, pull).is_checked = True
    either.time[0] += 20
    await either.handle()
    either.forge.add_status(SHOP, sha, "test", "success")
    await either.event(sha=sha, delivery="d-4")
    assert await seen(either) == []
    await until_handled(either, seconds=SETTLED_S)
    assert await seen(either) == [
        f"🟢 **{SHOP}#{pull}**: Checks of `{sha[:12]}`: 2 passed (`lint`, `test`). It can be merged."
    ]
    await either.event(pull, delivery="d-5")
    await until_handled(either, seconds=SETTLED_S)
    assert len(await seen(either)) == 1
    assert await either.wakes(run) == []


async def test_a_conflict_is_told_and_wakes_once_for_a_commit(either: Desk) -> None:
    run, _, sha = await either.proposed()
    either.forge.commit(SHOP, "main", {"shop.py": "def price():\n    return 9\n"})
    await either.look()
    assert await either.wakes(run) == []
    await until_handled(either, seconds=SETTLED_S)
    (wake,) = await either.wakes(run)
    assert (wake.kind, wake.cause, wake.is_member) == ("conflict", f"conflict/{sha}", True)
    (told,) = await seen(either)
    assert told.endswith("none. It cannot be merged: it conflicts with `main`.")
    either.forge.commit(SHOP, "main", {"shop.py": "def price():\n    return 10\n"})
    either.time[0] += 5
    await either.look()
    await until_handled(either, seconds=SETTLED_S)
    assert len(await either.wakes(run)) == len(await seen(either)) == 1


async def test_a_conflict_wakes_no_agent_that_works_but_does_after_its_round(front: Desk) -> None:
    run, pull, _ = await front.proposed()
    front.forge.commit(SHOP, "main", {"shop.py": "def price():\n    return 9\n"})
    await front.change(run, state="running")
    await front.event(pull, delivery="d-2")
    await until_handled(front, seconds=SETTLED_S)
    assert await front.wakes(run) == []
    running = await front.run_of(run.number)
    assert running is not None
    await front.change(running, state="frozen")
    await front.event(pull, delivery="round")
    await until_handled(front, seconds=SETTLED_S)
    assert [each.kind for each in await front.wakes(run)] == ["conflict"]


async def test_a_conflict_that_an_agent_cannot_solve_is_only_told(front: Desk) -> None:
    run, pull, _ = await front.proposed()
    front.forge.commit(SHOP, "main", {"shop.py": "def price():\n    return 9\n"})
    front.forge.commit(SHOP, f"muster/issue-{run.number}", {"other.py": "x"}, by="ana")
    await front.event(pull, delivery="d-2")
    await until_handled(front, seconds=SETTLED_S)
    assert await front.wakes(run) == []
    (told,) = await seen(front)
    assert "conflicts with `main`" in told
    assert "is not what Muster pushed" in told


async def test_a_forge_that_does_not_show_checks_keeps_no_comment_back(front: Desk) -> None:
    run, pull, _ = await front.proposed()
    front.forge.comment(SHOP, pull, "Go on.", by="ana")
    fault = front.forge.faults.answer(403, times=None, path="/statuses")
    await front.event(pull, delivery="d-2")
    assert [each.text for each in await front.wakes(run)] == ["Go on."]
    assert front.link.trouble
    fault.end()
    front.time[0] += 400.0
    await until_handled(front, seconds=SETTLED_S)
    assert front.link.trouble == {}


async def test_surfaces_show_passing_checks_and_nothing_of_a_closed_pull_request(front: Desk) -> None:
    run, pull, sha = await front.proposed()
    front.forge.add_status(SHOP, sha, "`@all` \u202e lint", "success")
    await front.event(pull, delivery="d-2")
    found = await front.run_of(run.number)
    assert found is not None
    async with front.store.read() as tx:
        states = await forge_sights.of_pull_requests(tx, [run.id, "other"])
    assert set(states) == {run.id}
    sight = PullSight.from_json(states[run.id])
    shown = line_of(found, (), url=None, sight=sight).pull
    assert shown is not None
    assert (shown.merge, shown.passed, shown.checks[0].state) == ("ready", 1, "success")
    assert "\u202e" not in shown.said
    front.forge.merge(SHOP, pull, by="ana")
    front.time[0] += 2.0
    await front.event(pull, delivery="d-3")
    closed = await front.run_of(run.number)
    assert closed is not None
    assert line_of(closed, (), url=None, sight=sight).pull is None
