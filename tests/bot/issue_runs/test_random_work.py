"""Weeks at a forge that are drawn at random: whatever people, the network and the forge do, some things always hold.

A seed is printed with each play, and plays the same again but for what happens at the same time: MUSTER_SEED=N.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from bot.issue_runs.rounds.settle_step import question_id
from database.engine.store import Store
from database.queries.agents import agents
from database.queries.chat import questions
from database.queries.forge import forge_events, forge_orders, issue_runs
from database.queries.forge.issue_runs import ACTIVE, IssueRun, IssueWake
from forge.provenance import markers
from forge.webhooks.event import ForgeEvent, read_event
from tests import soak
from tests.bot.issue_runs.workshop import LABEL, SHOP, STEP, PlayedTurn, Workshop, workshop
from tests.forge.forge_server.webhooks import Delivery, headers_of, signature
from tests.forge.forge_server.world import Item

RUNS, PER_RUN, PER_DAY, CHECKS = 2, 6, 3, 2
_FORGE = f"runs: {RUNS}\n  wakes: {{per_run: {PER_RUN}, per_day: {PER_DAY}, failed_checks: {CHECKS}}}"
_PEOPLE: Final = ("ana", "ana", "ana", "bob", "eve", "robot", "muster")
_DAY: Final = 86_400.0
#: A number that no issue has.
_FORGED: Final = 9_999
_FIXED: Final = 17


@dataclass
class RandomWork:
    """A forge at which things happen."""

    shop: Workshop
    chance: random.Random
    qualified: set[int] = field(default_factory=set)
    """Issues that were as an issue has to be to be picked up, at some time."""
    refused: set[int] = field(default_factory=set)
    """Issues that asked for it as they must not."""
    decided: Counter[str] = field(default_factory=Counter)
    """How often a person had a run go on."""
    late: list[Delivery] = field(default_factory=list)
    _delivered: int = 0

    # --- what people do -----------------------------------------------------------------------------------------

    def issues(self) -> list[Item]:
        return [item for item in self.shop.forge.repository(SHOP).items.values() if item.pull is None]

    def pulls(self) -> list[Item]:
        return [item for item in self.shop.forge.repository(SHOP).items.values() if item.pull is not None]

    def happen(self) -> None:
        """Let something happen at the forge."""
        forge, chance = self.shop.forge, self.chance
        by = chance.choice(_PEOPLE)
        if len(self.issues()) < 2 or (len(self.issues()) < 12 and chance.random() < 0.2):
            labels = chance.choice(((LABEL,), (LABEL,), (LABEL,), (), ("muster:nobody",)))
            assignees = chance.choice((("ana",), ("ana",), ("bob", "eve"), ("eve",), ()))
            forge.add_issue(SHOP, "It fails", body="See.", author=by, labels=labels, assignees=assignees)
            return
        item = chance.choice(self.issues())
        target = chance.choice((item, *self.pulls()))
        if chance.random() < 0.05:
            target.updated += timedelta(days=chance.randint(1, 900))
        match chance.randrange(12):
            case 0:
                label = chance.choice((LABEL, "bug", "muster:nobody"))
                (forge.unlabel if label in item.labels else forge.label)(SHOP, item.number, label, by=by)
            case 1:
                who = chance.choice(("ana", "eve", "muster"))
                (forge.unassign if who in item.assignees else forge.assign)(SHOP, item.number, who, by=by)
            case 2:
                forge.edit(SHOP, target.number, by=by, title=f"Title {chance.random()}")
            case 3:
                (forge.reopen if item.closed else forge.close_item)(SHOP, item.number, by=by)
            case 4 if target.remarks:
                forge.edit_comment(SHOP, chance.choice(target.remarks).id, f"Edited {chance.random()}", by=by)
            case 5:
                for count in range(chance.randint(20, 120)):
                    forge.comment(SHOP, target.number, f"Storm {count}", by=chance.choice(_PEOPLE))
            case 6 | 7 if self.pulls():
                self._decide_about(chance.choice(self.pulls()), by)
            case 8 if self.pulls():
                pull = chance.choice(self.pulls()).pull
                assert pull is not None
                forge.add_status(SHOP, pull.head_sha, "test", chance.choice(("failure", "pending", "success")))
            case _:
                forge.comment(SHOP, target.number, f"Say {chance.random()}", by=by)

    def _decide_about(self, item: Item, by: str) -> None:
        forge, chance = self.shop.forge, self.chance
        assert item.pull is not None
        if item.pull.merged is not None:
            return
        if item.closed is not None:
            forge.reopen(SHOP, item.number, by=by)
        elif chance.random() < 0.3:
            forge.review(SHOP, item.number, "Look here.", by=chance.choice(("ana", "eve")))
        elif chance.random() < 0.5:
            forge.merge(SHOP, item.number, by=by)
        else:
            forge.close_item(SHOP, item.number, by=by)

    def note(self) -> None:
        """Remember which issues are as they have to be."""
        for item in self.issues():
            asked = {each for each in item.labels if each.startswith("muster:")}
            if item.closed is None and {"ana", "bob"} & set(item.assignees):
                if asked == {LABEL}:
                    self.qualified.add(item.number)
                elif asked:
                    self.refused.add(item.number)

    async def decide(self) -> None:
        """Have an operator let something go on."""
        shop = self.shop
        waiting = [run for run in await shop.all_runs() if run.state in ("failed", "frozen")]
        if not waiting:
            return
        run = self.chance.choice(waiting)
        async with shop.store.write(STEP) as tx:
            asked = await questions.get(tx, question_id(issue_runs.USED_UP, run))
            if asked is not None and asked.state == "pending":
                await shop.process.services.questions.answer(tx, asked, "go", by="memory:@ana", through=None)
            elif run.state == "failed":
                cause = f"retry/{self.chance.random()}"
                wake = IssueWake(
                    run=run.id, cause=cause, kind="retry", author="ana", is_member=True, text="", at=shop.now
                )
                await issue_runs.add_wake(tx, wake)
        self.decided[run.id] += 1

    # --- what the network and the forge do ----------------------------------------------------------------------

    async def deliver(self, *, all_: bool = False) -> None:
        """Bring what webhooks tell: some of it is lost, doubled, late, or forged."""
        made, chance = self.shop.forge.webhooks.deliveries, self.chance
        new, self._delivered = made[self._delivered :], len(made)
        arrived: list[Delivery] = []
        for each in new:
            copies = [each] * chance.choice((0, 1, 1, 2))
            (self.late if chance.random() < 0.3 else arrived).extend(copies)
        if all_ or chance.random() < 0.2:
            arrived += self.late
            self.late = []
        chance.shuffle(arrived)
        events = [event for each in arrived if (event := _read(each)) is not None]
        found = [(event.number, event.sha, event.delivery) for event in events]
        if chance.random() < 0.2:
            forged = chance.choice((_FORGED, *(item.number for item in self.issues())))
            found.append((forged, None, f"forged-{chance.random()}"))
        await self.shop.events(found)

    def fail(self) -> None:
        """Have the forge, or the way there, fail from now on."""
        faults, chance = self.shop.forge.faults, self.chance
        few = chance.randint(1, 20)
        chance.choice(
            (
                lambda: faults.answer(500, times=None),
                lambda: faults.answer(401, times=None),
                lambda: faults.answer(500, times=None, path="/members/"),
                lambda: faults.answer(303, times=None, path="/members/"),
                lambda: faults.answer(500, times=None, path="git-receive-pack", method="POST"),
                lambda: faults.answer(422, times=None, path="/pulls$", method="POST"),
                lambda: faults.answer(403, times=None, path="/comments$", method="POST"),
                lambda: faults.limit_requests(3_600, times=None),
                lambda: faults.drop(times=few),
                lambda: faults.truncate(times=few),
                lambda: faults.garbage(times=few),
                lambda: faults.lose_response(times=few, method="POST"),
                lambda: faults.lose_response(times=1, path="/comments$", method="POST"),
                lambda: faults.lose_response(times=1, path="/pulls$", method="POST"),
            )
        )()

    def turn(self, run: IssueRun) -> PlayedTurn:
        """Return what an agent does in a round."""
        chance = self.chance
        return PlayedTurn(
            commits=chance.random() < 0.85,
            signal=chance.choice(("done", "done", "done", "blocked", "failed", None)),
            ending=chance.choice(("done",) * 8 + ("failed", "limit", "stopped", None)),
        )

    async def work(self, working: Callable[[], Awaitable[None]]) -> None:
        """Have Muster work, and maybe die."""
        await (self.killed(working) if self.chance.random() < 0.35 else working())

    async def killed(self, working: Callable[[], Awaitable[None]]) -> None:
        """Have Muster work, kill it on the way, and begin it again: anywhere, or when the forge has what it wrote."""
        shop, chance, seen = self.shop, self.chance, len(self.shop.forge.requests)
        steps, writes = int(10 ** chance.uniform(0, 3.7)), chance.choice((0, 0, 1, 2, 3))
        task = asyncio.ensure_future(working())
        while not task.done():
            await asyncio.sleep(0)
            steps -= 1
            if writes:
                if sum(each.method != "GET" for each in shop.forge.requests[seen:]) >= writes:
                    break
            elif steps <= 0:
                break
        await shop.kill()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await shop.start()

    # --- time ---------------------------------------------------------------------------------------------------

    async def stretch(self) -> None:
        """Let hours or days pass in which much happens and fails, and then some in which nothing does."""
        shop, chance = self.shop, self.chance
        for _ in range(chance.randint(3, 8)):
            if chance.random() < 0.3:
                self.fail()
            for _ in range(chance.randint(1, 6)):
                self.happen()
                self.note()
            await self.deliver()
            await self.work(chance.choice((shop.settle, shop.settle, shop.look)))
            if chance.random() < 0.25:
                await self.decide()
            if chance.random() < 0.3:
                shop.forge.faults.end()
            seconds = chance.choice((1.0, 60.0, 700.0, 4_000.0, 30_000.0, 2 * _DAY))
            await self.work(partial(shop.advance, seconds))
        shop.forge.faults.end()
        await self.deliver(all_=True)
        for seconds in (60.0, 400.0, 1_900.0, 1_900.0, 3_700.0, 3_700.0):
            await shop.advance(seconds)
            await shop.look()

    # --- what holds ---------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Find out whether all is as it has to be while nothing happens."""
        shop = self.shop
        found = await shop.all_runs()
        numbers = [run.number for run in found]
        assert shop.most_at_work <= RUNS
        assert len(numbers) == len(set(numbers))
        assert set(numbers) <= self.qualified, "a run of an issue that never qualified"
        for item in self.issues():
            asked = {each for each in item.labels if each.startswith("muster:")}
            if item.closed is None and asked == {LABEL} and {"ana", "bob"} & set(item.assignees):
                assert item.number in numbers, f"#{item.number} was not picked up"
        for run in found:
            await self._check_run(run)
        await self._check_posts(found)
        async with shop.store.read() as tx:
            waiting = await forge_events.waiting_groups(tx, found[0].forge, limit=100) if found else []
            due = [await forge_orders.get(tx, key) for key in await forge_orders.open_keys(tx)]
            asked_now = [each.id for each in await questions.pending(tx)]
        assert {each.number for each in waiting} <= {_FORGED}, waiting
        assert due == []
        kinds = ("issue run", issue_runs.USED_UP)
        current = {question_id(kind, run) for run in found for kind in kinds if run.state in ("frozen", "failed")}
        assert set(asked_now) <= current, "a question about what is over"

    async def _check_run(self, run: IssueRun) -> None:
        shop = self.shop
        pulls = shop.pulls(run)
        assert sum(each.closed is None for each in pulls) <= 1, f"{run} has several open pull requests"
        assert {each.number for each in pulls} == ({run.pull_request} - {None}), run
        assert run.state not in (*ACTIVE, "queued"), f"{run} does not go on"
        async with shop.store.read() as tx:
            row = await agents.get(tx, run.agent)
            wakes = await issue_runs.wakes(tx, run.id)
            asked = await questions.get(tx, question_id(issue_runs.USED_UP, run))
        if any(each.closed is not None for each in pulls):
            assert run.state == "destroyed", run
            assert row is None
            for folder in (shop.paths.workspace(run.agent), shop.paths.agent_folder(run.agent)):
                assert not folder.exists(), folder
        else:
            assert run.state != "destroyed", run
            if any(each.round is None and each.is_member and each.kind == "comment" for each in wakes):
                assert asked is not None, f"{run} was forgotten"
                assert asked.state == "pending"
        times = [at for run_id, at in shop.began if run_id == run.id]
        most = CHECKS + self.decided[run.id] + 1
        assert len(times) <= PER_RUN + most
        assert max((sum(at <= each < at + _DAY for each in times) for at in times), default=0) <= PER_DAY + most

    async def _check_posts(self, found: list[IssueRun]) -> None:
        allowed = {number for run in found for number in (run.number, run.pull_request)} | self.refused
        keys: Counter[str | None] = Counter()
        for item in self.shop.forge.repository(SHOP).items.values():
            # People say something by our account, too.
            ours = [each for each in item.remarks if each.author == "muster" and "<!-- muster:" in each.body]
            keys.update(markers.key_of(each.body, b"k" * 32) for each in ours)
            assert not ours or item.number in allowed, f"#{item.number} is out of scope"
        assert None not in keys
        assert [key for key, count in keys.items() if count > 1] == [], "a comment stands twice"


def _read(delivery: Delivery) -> ForgeEvent | None:
    return read_event("gitea", headers_of(delivery, signature(delivery.hook.secret, delivery.body)), delivery.body)


async def play(folder: Path, store: Store, seed: int, *, stretches: int) -> None:
    print(f"seed {seed}")
    async with workshop(folder, store, more=_FORGE) as shop:
        shop.forge.add_webhook(SHOP, "http://127.0.0.1:9/nobody", secret="s" * 16)
        work = RandomWork(shop, random.Random(seed))
        shop.turn = work.turn
        for number in range(stretches):
            await work.stretch()
            print(f"stretch {number}: {Counter(run.state for run in await shop.all_runs())}, {len(shop.began)} rounds")
            await work.check()


@pytest.mark.parametrize("seed", [_FIXED, None])
async def test_a_few_days_drawn_at_random(tmp_path: Path, store: Store, seed: int | None) -> None:
    await play(tmp_path, store, int(soak.seed()) if seed is None else seed, stretches=2)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
async def test_weeks_drawn_at_random(tmp_path: Path) -> None:
    chance, until = random.Random(soak.seed()), time.monotonic() + soak.share()
    number = 0
    while number == 0 or time.monotonic() < until:
        number += 1
        folder = tmp_path / str(number)
        store = await Store.open(f"sqlite:///{folder / 'register.db'}")
        try:
            await play(folder, store, chance.randrange(2**32), stretches=10)
        finally:
            await store.close()
