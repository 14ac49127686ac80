"""`kill -9` at any step of a round: one pull request, one comment, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.config.paths import Paths
from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Message, OpenThread, Priority
from connectors.delivery import outbox
from core.crash_points import declare
from database.engine.store import Store
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from fleet.sim.provider import server as provider
from tests import waiting
from tests.forge.forge_server.server import ForgeServer
from tests.system.installation import LIMIT, Premises

SHOP, RUN = "acme/shop", "5e7a1c"
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
        return {"FORGE_TOKEN": self.token}

    async def queue(self) -> None:
        """Add the run of an issue to the register, while nothing runs."""
        body = "[[commit: shop.py def price(): return 2]] [[say: done]]"
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
        await store.close()

    async def frozen(self) -> IssueRun:
        """Wait until the round is over."""
        store = await Store.open(self.paths.register_url)
        try:
            async with asyncio.timeout(2 * LIMIT):
                while True:
                    async with store.read() as tx:
                        run = await issue_runs.get(tx, RUN)
                    if run is not None and run.state in ("frozen", "failed"):
                        return run
                    await asyncio.sleep(0.05)
        finally:
            await store.close()


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
                "issues.begin.after",
                "forge.order.after",
                "issues.work.before",
                "issues.work.after",
                "runs.begin.after",
                "runs.end.after",
                "publishing.create.before",
                "publishing.fetch.after",
                "issues.check.after",
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


@pytest.mark.parametrize(
    "crash",
    [
        "forge.take_in.before",
        "forge.take_in.after",
        pytest.param("forge.look.before", marks=pytest.mark.slow),
        pytest.param("forge.look.after", marks=pytest.mark.slow),
    ],
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
