"""Looking at the forge finds what no webhook told, and with the same outcome."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.issue_runs.intake.looking import LONGEST_REST_S, SETTLED_S
from bot.issue_runs.intake.run_news import TOLD_EVERY_S
from database.engine.store import Store
from database.queries.forge import forge_events
from forge.webhooks.event import ForgeEvent, read_event
from tests.bot.issue_runs.intake.forge_desk import LABEL, SHOP, STEP, Desk, at, desk, row_of
from tests.forge.forge_server.server import ForgeServer
from tests.forge.forge_server.webhooks import Delivery, headers_of, signature


@pytest.fixture
async def front(store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(store, tmp_path) as made:
        yield made


async def cursor(front: Desk) -> float | None:
    async with front.store.read() as tx:
        return await forge_events.looked_until(tx, front.link.host, SHOP)


async def test_a_first_look_finds_what_was_labelled_before(front: Desk) -> None:
    number = front.forge.add_issue(SHOP, "Old", author="ana", labels=[LABEL], assignees=["ana"])
    front.forge.add_issue(SHOP, "Not ours", author="ana")
    front.forge.advance(90 * 86_400)
    await front.look()
    assert await front.run_of(number) is not None
    assert set(front.link.looked_at) == {SHOP}


async def test_issues_that_one_look_finds_are_taken_up_in_the_order_of_their_changes(front: Desk) -> None:
    for title in ("One", "Two", "Three"):
        front.forge.add_issue(SHOP, title, author="ana", labels=[LABEL], assignees=["ana"])
        front.forge.advance(1)
    await front.look()
    said = " ".join(await front.said())
    assert said.index("#1") < said.index("#2") < said.index("#3")


async def test_a_look_finds_labels_comments_and_closed_pull_requests(front: Desk) -> None:
    number = front.forge.add_issue(SHOP, "New", author="ana")
    await front.look()
    front.forge.label(SHOP, number, LABEL, by="ana")
    front.forge.assign(SHOP, number, "ana", by="ana")
    await front.look()
    run = await front.run_of(number)
    assert run is not None
    sha = front.forge.commit(SHOP, "b", {"a": "b"})
    pull = front.forge.open_pull(SHOP, title="x", body="", head="b", base="main", by="muster").number
    await front.change(run, state="frozen", pull_request=pull, pushed_sha=sha)
    front.forge.comment(SHOP, number, "Go on", by="ana")
    front.forge.add_status(SHOP, sha, "test", "failure")
    await front.look()
    assert {each.cause.partition("/")[0] for each in await front.wakes(run)} == {"comment", "checks"}
    front.forge.merge(SHOP, pull, by="ana")
    front.time[0] += 1.0
    await front.look()
    assert front.rounds.destroyed == [run.id]


async def test_a_change_within_the_second_of_a_look_is_found_by_the_next(front: Desk) -> None:
    number = front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL])
    await front.look()
    item = front.forge.item(SHOP, number)
    same = item.updated
    for _ in range(3):
        await front.look()
    front.forge.assign(SHOP, number, "ana", by="ana")
    item.updated = same
    await front.look()
    assert await front.run_of(number) is not None


async def test_a_closed_issue_is_found_though_no_look_found_anything_before(front: Desk) -> None:
    await front.look()
    run = await front.picked_up()
    front.forge.comment(SHOP, run.number, "Go on", by="ana")
    front.forge.close_item(SHOP, run.number, by="ana")
    await front.look()
    assert [each.text for each in await front.wakes(run)] == ["Go on"]


async def test_the_cursor_follows_the_forges_clock_and_not_ours(front: Desk) -> None:
    number = front.forge.add_issue(SHOP, "New", author="ana", labels=["bug"])
    await front.look()
    first = await cursor(front)
    assert first == front.forge.item(SHOP, number).updated.timestamp()
    for jump in (-10 * 86_400.0, 20 * 86_400.0):
        front.time[0] += jump
        front.forge.advance(5)
        other = front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
        await front.look()
        assert await front.run_of(other) is not None
        assert await cursor(front) == front.forge.item(SHOP, other).updated.timestamp()


@pytest.mark.parametrize("ours", [0.0, -40 * 86_400.0, 400 * 86_400.0])
async def test_a_time_in_the_future_hides_nothing_that_changes_later(front: Desk, ours: float) -> None:
    front.time[0] += ours
    lying = front.forge.add_issue(SHOP, "Lying", author="eve", labels=["bug"])
    front.forge.item(SHOP, lying).updated += timedelta(days=900)
    for _ in range(3):
        await front.look()
    front.forge.advance(600)
    run = await front.picked_up()
    lying_comment = front.forge.comment(SHOP, run.number, "From the future", by="ana")
    lying_comment.updated += timedelta(days=900)
    await front.look()
    front.forge.advance(600)
    other = front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
    front.forge.comment(SHOP, run.number, "Go on", by="ana")
    await front.look()
    assert await front.run_of(other) is not None
    assert {each.text for each in await front.wakes(run)} == {"From the future", "Go on"}


async def test_a_forge_whose_clock_was_ahead_and_is_set_right_hides_nothing(front: Desk) -> None:
    front.time[0] = front.forge.now().timestamp()
    front.forge.advance(30 * 86_400)
    run = await front.picked_up()
    front.forge.comment(SHOP, run.number, "In a month", by="ana")
    await front.look()
    front.forge.advance(-30 * 86_400)
    other = front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
    front.forge.comment(SHOP, run.number, "Today", by="ana")
    await front.look()
    assert await front.run_of(other) is not None
    assert {each.text for each in await front.wakes(run)} == {"In a month", "Today"}


async def test_times_at_the_end_of_the_calendar_stop_no_look(front: Desk) -> None:
    number = front.forge.add_issue(SHOP, "Old", author="eve", labels=["bug"])
    for year in (1000, 9999):
        front.forge.item(SHOP, number).updated = datetime(year, 1, 1, tzinfo=UTC)
        for _ in range(2):
            await front.look()
        assert front.link.trouble == {}
    other = front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
    await front.look()
    assert await front.run_of(other) is not None


@pytest.mark.parametrize("status", [404, 403])
async def test_a_pull_request_that_is_gone_keeps_no_other_from_being_looked_at(front: Desk, status: int) -> None:
    gone, run = await front.picked_up(), await front.picked_up()
    sha = front.forge.commit(SHOP, "muster/issue-2", {"a": "b"})
    number = front.forge.open_pull(SHOP, title="x", body="", head="muster/issue-2", base="main", by="muster").number
    await front.change(gone, state="frozen", pushed_sha="0" * 40, pull_request=999)
    await front.change(run, state="frozen", pushed_sha=sha, pull_request=number)
    front.forge.add_status(SHOP, sha, "test", "failure")
    front.forge.faults.answer(status, times=None, path="/pulls/999$")
    await front.look()
    assert [each.kind for each in await front.wakes(run)] == ["checks"]
    assert (f"look at {SHOP}" in front.link.trouble) == (status == 403)


async def test_a_look_that_fails_is_told_and_moves_no_cursor(front: Desk) -> None:
    front.forge.add_issue(SHOP, "New", author="ana", labels=["bug"])
    await front.look()
    before = await cursor(front)
    front.forge.advance(60)
    number = front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
    front.forge.revoke_tokens()
    await front.look()
    assert await cursor(front) == before
    assert f"look at {SHOP}" in front.link.trouble
    assert "401" in (await front.said())[0]
    async with at(front.forge, front.store, Path("unused")) as again:
        await again.look()
        assert await again.run_of(number) is not None


async def test_both_looks_and_nothing_new_cost_no_further_reads(front: Desk) -> None:
    front.forge.add_issue(SHOP, "New", author="ana", labels=[LABEL], assignees=["ana"])
    for _ in range(3):
        await front.look()
        front.time[0] += SETTLED_S
    await front.look()
    before = len(front.forge.requests)
    await front.look()
    assert [each.path for each in front.forge.requests[before:]] == [f"/repos/{SHOP}/issues"]


async def test_a_pull_request_that_does_not_change_is_read_less_often_and_one_with_a_check_at_each_look(
    front: Desk,
) -> None:
    _, pull, sha = await front.proposed()

    async def reads(looks: int) -> int:
        before = len(front.forge.requests)
        for _ in range(looks):
            front.time[0] += 60.0
            await front.looking.look()
        return sum(each.path == f"/repos/{SHOP}/pulls/{pull}" for each in front.forge.requests[before:])

    front.forge.add_status(SHOP, sha, "test", "pending")
    assert await reads(60) == 60
    front.forge.add_status(SHOP, sha, "test", "success")
    assert await reads(60) < 15
    front.forge.commit(SHOP, "main", {"shop.py": "9"})
    assert await reads(int(LONGEST_REST_S / 60)) > 0
    await front.handle()
    front.time[0] += 60.0
    await front.handle()
    assert "conflicts with `main`" in (await front.said())[-1]


# Lost, doubled and reordered deliveries.


def happenings(forge: ForgeServer, number: int) -> Sequence[Callable[[], object]]:
    return (
        lambda: forge.label(SHOP, number, LABEL, by="ana"),
        lambda: forge.assign(SHOP, number, "ana", by="ana"),
        lambda: forge.comment(SHOP, number, "first", by="ana"),
        lambda: forge.comment(SHOP, number, "second", by="eve"),
        lambda: forge.edit(SHOP, number, by="eve", title="Other"),
        lambda: forge.close_item(SHOP, number, by="eve"),
    )


def read(delivery: Delivery) -> ForgeEvent | None:
    signed = signature(delivery.hook.secret, delivery.body)
    return read_event("gitea", headers_of(delivery, signed), delivery.body)


async def outcome(store: Store, folder: Path, plan: random.Random | None) -> object:
    """What stands in the register after a day at the forge, if deliveries come as `plan` draws; None: perfectly."""
    async with desk(store, folder) as front:
        number = front.forge.add_issue(SHOP, "It fails", body="See.", author="eve")
        front.forge.add_webhook(SHOP, "http://127.0.0.1:9/nobody", secret="s" * 16)
        late: list[Delivery] = []
        for step, happening in enumerate(happenings(front.forge, number)):
            before = len(front.forge.webhooks.deliveries)
            happening()
            arrived = list(front.forge.webhooks.deliveries[before:])
            # What came before the pick-up counts as such, so that both histories have it in the same place.
            if plan is not None and step >= 2:
                copies = [each for each in arrived for _ in range(plan.choice((0, 1, 2)))]
                if plan.random() < 0.4:
                    late += copies
                    copies = []
                arrived = copies
            await deliver(front, arrived)
            if plan is not None and plan.random() < 0.3:
                await front.look()
        if plan is not None:
            plan.shuffle(late)
        await deliver(front, late)
        await front.look()
        front.time[0] += TOLD_EVERY_S
        await front.look()
        run = await front.run_of(number)
        assert run is not None
        assert await front.waiting() == 0
        assert front.link.trouble == {}
        wakes = sorted((each.cause.partition("/")[0], each.author, each.is_member, each.text)
                       for each in await front.wakes(run))  # fmt: skip
        return run.title, run.body, run.role, run.state, run.picked_by, wakes


async def deliver(front: Desk, deliveries: Sequence[Delivery]) -> None:
    events = [event for event in map(read, deliveries) if event is not None]
    async with front.store.write(STEP) as tx:
        await forge_events.add(tx, [row_of(front.link.host, each, front.time[0]) for each in events])
    await front.handle()


async def test_lost_doubled_and_reordered_deliveries_come_to_the_same(tmp_path: Path) -> None:
    async def played(name: str, plan: random.Random | None) -> object:
        store = await Store.open(f"sqlite:///{tmp_path / name / 'register.db'}")
        try:
            return await outcome(store, tmp_path, plan)
        finally:
            await store.close()

    perfect = await played("perfect", None)
    first = random.randrange(2**32)
    for seed in range(first, first + 6):
        print(f"seed {seed}")
        assert await played(f"seed-{seed}", random.Random(seed)) == perfect
