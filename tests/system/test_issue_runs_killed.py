"""`kill -9` at any step of a round: one pull request, one comment, and nothing is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from bot.config.paths import Paths
from bot.issue_runs.rounds.service import DESTROY
from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Message, OpenThread, Priority
from connectors.delivery import outbox
from core.crash_points import declare
from database import schema
from database.engine.store import Store
from database.queries.agents import agents, runs
from database.queries.agents.agents import AgentRow
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import IssueRun
from fleet.sim.provider import server as provider
from tests import waiting
from tests.crash.deaths import both
from tests.forge.forge_server.server import ForgeServer
from tests.system.installation import LIMIT, Premises

SHOP, RUN = "acme/shop", "5e7a1c"
PRICE = "[[commit: shop.py def price(): return 2]]"
SECRET = "a-secret-of-the-webhook"
#: Which places are passed while an issue is picked up, in a round, when its pull request is closed, and otherwise.
PICKING_UP = both("forge.take_in", "forge.look")
ROUND = both("issues.begin", "issues.work", "issues.check")
CLOSING = both("issues.order", "issues.end_work", "issues.forget", "issues.destroy")
RECEIVING = both("forge.receive")
TROUBLE = both("forge.tell_trouble")
REFUSED = both("issues.tell")
RENAMED = both("issues.name")
SILENT = both("issues.silent")
LOST = both("issues.lost")
_WRITE = declare("tests.issue_runs_killed")
_SETTINGS = """\
connectors:
  terminal: {}
agents: {runtime: sim, sandbox: bubblewrap}
approvals: {preset: sandboxed}
accounts:
  sim: {provider: anthropic, base_url: 'MODELS', credential: 'env:SIM_KEY'}
forge:
  kind: gitea
  url: FORGE
  token: env:FORGE_TOKEN
  organization: acme
  repositories: [acme/shop]
  mode: poll
  sandbox: bubblewrap
"""


@dataclass(slots=True, kw_only=True)
class ForgePremises(Premises):
    """An installation beside a forge."""

    forge: ForgeServer
    token: str

    def secrets(self) -> Mapping[str, str]:
        return {"FORGE_TOKEN": self.token, "WEBHOOK_SECRET": SECRET}

    def set_up(self, more: str) -> None:
        """Add lines to the block `forge`, while nothing runs."""
        file = self.paths.muster_yaml
        file.write_text(f"{file.read_text().rstrip()}\n{more}")

    async def queue(self, body: str = f"{PRICE} [[say: done]]", *, agent: AgentRow | None = None) -> None:
        """Add the run of an issue to the register, and an agent, while nothing runs."""
        number = self.forge.add_issue(SHOP, "Raise the price", body=body, author="ana", labels=("muster:coder",))
        run = IssueRun(
            id=RUN,
            forge=self.forge.url.removeprefix("http://"),
            repository=SHOP,
            number=number,
            title="Raise the price",
            body=body,
            role="coder",
            sandboxes=["bubblewrap"],
            picked_by="ana",
            picked_how="label",
            agent="coder17",
            connector="terminal",
            room="main",
            thread_key="o/issue-17",
            state="queued",
            created_at=1.0,
            active_at=1.0,
        )
        store = await Store.open(self.paths.register_url)
        async with store.write(_WRITE) as tx:
            opener = OpenThread(title="Raise the price", message=Message(text="An issue."))
            place = MessagePlace("terminal", conversation="main")
            await outbox.put(tx, place.outbound(run.thread_key, opener, Priority.REPLY), 1.0)
            await issue_runs.add(tx, run)
            if agent is not None:
                await agents.add(tx, agent)
        await store.close()

    @asynccontextmanager
    async def register(self) -> AsyncIterator[Store]:
        """The register, beside whatever runs."""
        store = await Store.open(self.paths.register_url)
        try:
            yield store
        finally:
            await store.close()

    async def frozen(self) -> IssueRun:
        """Wait until the round is over."""
        return await self.run(lambda run: run.state in ("frozen", "failed"))

    async def run(self, holds: Callable[[IssueRun], bool]) -> IssueRun:
        """Wait until the row of the run is so."""
        async with self.register() as store, asyncio.timeout(3 * LIMIT):
            while True:
                async with store.read() as tx:
                    run = await issue_runs.get(tx, RUN)
                if run is not None and holds(run):
                    return run
                await asyncio.sleep(0.05)

    async def said(self, words: str) -> int:
        """How many messages have these words."""
        async with self.register() as store, store.read() as tx:
            contents = (await tx.execute(select(schema.outbox.c.content))).scalars().all()
        return sum(words in str(content) for content in contents)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[ForgePremises]:
    """An installation with a terminal room and a forge; nothing runs."""
    paths = Paths.of({"MUSTER_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})
    paths.prepare()
    async with provider.running() as models, ForgeServer() as forge:
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_repository(SHOP, files={"README.md": "A shop.\n", "shop.py": "def price():\n    return 1\n"})
        paths.muster_yaml.write_text(_SETTINGS.replace("MODELS", models.url).replace("FORGE\n", f"{forge.url}\n"))
        made = ForgePremises(
            folder=tmp_path, models=models, paths=paths, kind="terminal", forge=forge, token=forge.add_token("muster")
        )
        try:
            yield made
        finally:
            await made.close()


@pytest.mark.parametrize(
    "crash",
    [
        # Done at the forge, and not recorded: the push, the pull request, the comment.
        "forge.done.before:3",
        "forge.done.before:4",
        "forge.done.before:5",
        *(
            pytest.param(place, marks=pytest.mark.slow)
            for place in (
                *ROUND,
                "forge.order.after",
                "runs.begin.after",
                "runs.end.after",
                "publishing.create.before",
                "publishing.fetch.after",
                "forge.order.after:3",
                "forge.done.after:3",
                "forge.done.after:6",
            )
        ),
    ],
)
async def test_a_round_goes_on_and_does_nothing_twice(home: ForgePremises, crash: str) -> None:
    await home.queue()
    async with home.revived([crash]) as deaths:
        await waiting.until(lambda: bool(deaths), limit=2 * LIMIT)
        run = await home.frozen()
    assert run.state == "frozen", run
    pulls = [item for item in home.forge.repository(SHOP).items.values() if item.pull is not None]
    (item,) = pulls
    assert item.pull is not None
    assert run.pushed_sha == item.pull.head_sha
    assert len(item.remarks) == 1
    branches = [ref for ref in home.forge.repository(SHOP).git.refs() if ref.startswith("refs/heads/muster/")]
    assert len(branches) == 1
    assert deaths == [crash]


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["issues.work.before", "forge.done.before:3", "forge.done.before:4"])
async def test_a_fork_is_made_and_proposed_once(home: ForgePremises, crash: str) -> None:
    home.set_up("  pushes: {fork: true}\n")
    await home.queue()
    async with home.revived([crash]) as deaths:
        await waiting.until(lambda: bool(deaths), limit=2 * LIMIT)
        run = await home.frozen()
    assert run.state == "frozen", run
    (pull,) = (item.pull for item in home.forge.repository(SHOP).items.values() if item.pull is not None)
    assert (pull.head_repository, pull.head_sha) == ("muster/shop", run.pushed_sha)
    made = [each for each in home.forge.requests if (each.method, each.path) == ("POST", f"/repos/{SHOP}/forks")]
    assert len(made) == 1
    assert deaths == [crash]


@pytest.mark.parametrize(
    "crash", [PICKING_UP[0], *(pytest.param(place, marks=pytest.mark.slow) for place in PICKING_UP[1:])]
)
async def test_an_issue_is_picked_up_once_and_a_refusal_posted_once(home: ForgePremises, crash: str) -> None:
    labels = ("muster:coder",)
    number = home.forge.add_issue(SHOP, "Raise", body="[[say: done]]", author="ana", labels=labels, assignees=("ana",))
    wrong = home.forge.add_issue(SHOP, "Else", author="ana", labels=("muster:nobody",), assignees=("ana",))
    host = home.forge.url.removeprefix("http://")
    async with home.revived([crash]) as deaths:
        await waiting.until(lambda: bool(deaths), limit=2 * LIMIT)
        await waiting.until(lambda: bool(home.forge.item(SHOP, wrong).remarks), limit=2 * LIMIT)
        store = await Store.open(home.paths.register_url)
        try:
            async with asyncio.timeout(2 * LIMIT):
                while True:
                    async with store.read() as tx:
                        run = await issue_runs.of_issue(tx, host, SHOP, number)
                        opener = None if run is None else await outbox.get(tx, run.thread_key)
                    if opener is not None:
                        break
                    await asyncio.sleep(0.05)
            async with store.read() as tx:
                assert len(await issue_runs.newest(tx, limit=9)) == 1
        finally:
            await store.close()
    assert len(home.forge.item(SHOP, wrong).remarks) == 1
    assert deaths == [crash]


@pytest.mark.slow
async def test_a_run_whose_pull_request_is_closed_is_gone_once(home: ForgePremises) -> None:
    """Its agent works again when that happens. It is killed from outside first, so that the next life is armed."""
    home.set_up("  poll: 5s\n")
    await home.queue()
    async with home.revived(["", *CLOSING]) as deaths:
        await home.frozen()
        (item,) = (each for each in home.forge.repository(SHOP).items.values() if each.pull is not None)
        home.forge.comment(SHOP, item.number, "[[wait: never]]", by="ana")
        await home.run(lambda run: run.round == 2 and run.state == "running")
        async with home.register() as store, asyncio.timeout(LIMIT):
            work = None
            while work is None or work.state != "running":
                await asyncio.sleep(0.05)
                async with store.read() as tx:
                    work = await runs.get(tx, f"{RUN}-2")
        home.strike()
        await waiting.until(lambda: deaths, limit=LIMIT)
        home.forge.close_item(SHOP, item.number, by="ana")
        await waiting.until(lambda: len(deaths) > len(CLOSING), limit=3 * LIMIT)
        run = await home.run(lambda run: run.state == "destroyed")
    assert deaths == ["", *CLOSING]
    assert run.pull_state == "closed"
    async with home.register() as store, store.read() as tx:
        assert await agents.get(tx, run.agent) is None
    assert not home.paths.agent_folder(run.agent).exists()
    assert not home.paths.workspace(run.agent).exists()


@pytest.mark.slow
async def test_what_a_webhook_told_counts_once(home: ForgePremises) -> None:
    """What was not written is found by the first look; what was is handled later."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home.set_up(f"  webhooks: {{listen: '127.0.0.1:{port}', secret: 'env:WEBHOOK_SECRET'}}\n")
    text = home.paths.muster_yaml.read_text()
    home.paths.muster_yaml.write_text(text.replace("mode: poll", "mode: webhook"))
    home.forge.add_webhook(SHOP, f"http://127.0.0.1:{port}/webhook", secret=SECRET)
    number = home.forge.add_issue(SHOP, "Raise", body="[[say: done]]", author="ana", labels=("muster:coder",))
    host = home.forge.url.removeprefix("http://")
    async with home.revived(RECEIVING) as deaths, home.register() as store:
        await _listens(port)
        home.forge.assign(SHOP, number, "ana", by="ana")
        async with asyncio.timeout(2 * LIMIT):
            while True:
                async with store.read() as tx:
                    run = await issue_runs.of_issue(tx, host, SHOP, number)
                if run is not None and deaths:
                    break
                await asyncio.sleep(0.05)
        await _listens(port)
        remark = home.forge.comment(SHOP, number, "Nobody asked me.", by="eve")
        async with asyncio.timeout(2 * LIMIT):
            while True:
                async with store.read() as tx:
                    wakes = await issue_runs.wakes(tx, run.id)
                if wakes and len(deaths) == 2:
                    break
                await asyncio.sleep(0.05)
        async with store.read() as tx:
            assert len(await issue_runs.newest(tx, limit=9)) == 1
    assert deaths == list(RECEIVING)
    assert [wake.cause for wake in wakes] == [f"comment/{remark.id}"]


async def _listens(port: int) -> None:
    """Wait until webhooks can arrive."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


@pytest.mark.slow
async def test_trouble_with_the_forge_is_told_once(home: ForgePremises) -> None:
    home.forge.faults.answer(403, times=None, path="/repos/acme/shop/issues$")
    async with home.revived(TROUBLE) as deaths:
        await waiting.until(lambda: len(deaths) == 2, limit=2 * LIMIT)
        async with home.register() as store, store.read() as tx:
            keys = (await tx.execute(select(schema.outbox.c.key))).scalars().all()
    assert deaths == list(TROUBLE)
    # An hour may end meanwhile, and then it is told once more.
    told = [key for key in keys if key.startswith("forge/trouble/")]
    assert told
    assert len({key.rpartition("/")[0] for key in told}) == 1


@pytest.mark.slow
async def test_that_the_forge_refuses_a_step_is_told_once(home: ForgePremises) -> None:
    fault = home.forge.faults.answer(403, times=None, path="/repos/acme/shop/pulls$", method="POST")
    await home.queue()
    async with home.revived(REFUSED) as deaths:
        await waiting.until(lambda: len(deaths) == 2, limit=2 * LIMIT)
        fault.end()
        run = await home.frozen()
        assert await home.said("refuse") == 1
    assert deaths == list(REFUSED)
    assert run.state == "frozen", run
    assert len([item for item in home.forge.repository(SHOP).items.values() if item.pull is not None]) == 1


@pytest.mark.slow
async def test_a_run_whose_agents_name_was_taken_gets_another_once(home: ForgePremises) -> None:
    other = AgentRow(
        name="coder17",
        role="coder",
        runtime="sim",
        model=None,
        sandbox="bubblewrap",
        workspace="",
        wanted="stopped",
        at_once=False,
        keep_session=True,
        state="stopped",
        detail=None,
        launch_id="l1",
        launched_by="terminal:ana",
        connector="terminal",
        room="main",
        thread_key="o/another",
        started_at=None,
        stopped_at=1.0,
    )
    await home.queue(agent=other)
    async with home.revived(RENAMED) as deaths:
        await waiting.until(lambda: len(deaths) == 2, limit=2 * LIMIT)
        run = await home.frozen()
    assert deaths == list(RENAMED)
    assert run.state == "frozen", run
    assert run.agent != other.name
    async with home.register() as store, store.read() as tx:
        assert {row.name for row in await agents.every(tx)} == {other.name, run.agent}


@pytest.mark.slow
async def test_the_work_of_a_silent_agent_is_ended_once(home: ForgePremises) -> None:
    home.set_up("  silence: 60s\n")
    await home.queue(f"{PRICE} [[wait: never]]")
    async with home.revived(SILENT) as deaths:
        run = await home.frozen()
    assert deaths == list(SILENT)
    assert run.state == "frozen", run
    assert len([item for item in home.forge.repository(SHOP).items.values() if item.pull is not None]) == 1


@pytest.mark.slow
async def test_that_commits_of_a_broken_clone_are_lost_is_told_once(home: ForgePremises) -> None:
    """Its run was over for long: after some hours nobody waits for the commits any more."""

    async def order() -> None:
        async with home.register() as store, store.write(_WRITE) as tx:
            key = f"{RUN}/{DESTROY}/1"
            await forge_orders.add(tx, ForgeOrder(key=key, run=RUN, kind=DESTROY, input={}, try_at=1.0, created_at=1.0))

    await home.queue(f"{PRICE} [[run: find .git/objects -type f -delete]] [[say: done]]")
    async with home.revived(["", *LOST], pause=order) as deaths:
        await home.frozen()
        home.strike()
        await home.run(lambda run: run.state == "destroyed")
        assert await home.said("could not be kept") == 1
    assert deaths == ["", *LOST]
    assert not home.paths.workspace("coder17").exists()
