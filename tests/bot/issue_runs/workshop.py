"""Intake, rounds, orders and register as they are, in front of a forge. Agents, their clones and time are played.

So weeks pass in seconds. The process can be killed and begun again at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import Questions
from bot.config.loader import load
from bot.config.paths import Paths
from bot.issue_runs.agent_tools.writes import IssueWrites
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake import notices
from bot.issue_runs.intake.looking import Looking
from bot.issue_runs.intake.pickups import PickUps
from bot.issue_runs.intake.service import Intake
from bot.issue_runs.intake.troubles import Troubles
from bot.issue_runs.rounds.posting_steps import RecordStep
from bot.issue_runs.rounds.publish_step import PublishStep
from bot.issue_runs.rounds.round_state import RoundContext
from bot.issue_runs.rounds.service import Rounds
from bot.issue_runs.rounds.workspace import EarlierWork, RunGround
from bot.issue_runs.services import IssueServices
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import Composer
from connectors.contract.messages import Capabilities
from core.crash_points import declare
from core.redaction import SecretMasker
from database import schema
from database.engine.store import Store, insert_once
from database.queries.agents import runs
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun, RunEnding
from database.queries.forge import forge_events, forge_orders, issue_runs
from database.queries.forge.forge_events import ForgeEventRow
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import ACTIVE, ALIVE, IssueRun
from fleet.workspace import Workspaces
from fleet.workspace.clone_record import CloneRecord
from forge.clients.address import ForgeAddress
from forge.clients.http_options import HttpOptions
from forge.clients.opening import open_client
from forge.clients.retries import HttpLimits
from forge.model.errors import ForgeAway
from forge.runs.order_book import ActAgain, Acted
from forge.runs.round import PublishResult
from tests.bot.issue_runs.intake.forge_desk import FixedSource, said_in
from tests.forge.forge_server.server import ForgeServer
from tests.forge.forge_server.world import Item

SHOP, LABEL = "acme/shop", "muster:coder"
STEP = declare("tests.workshop")
#: Seconds of real time until nothing happens any more.
LIMIT = 120.0
_SETTINGS = """\
connectors: {{memory: {{fleet_room: room}}}}
operators: {{'memory:@ana': admin}}
forge:
  kind: gitea
  url: {url}
  token: env:FORGE_TOKEN
  organization: acme
  repositories: [acme/shop]
  sandbox: bubblewrap
  {more}
"""


@dataclass(frozen=True)
class PlayedTurn:
    """What an agent does in a round."""

    commits: bool = True
    signal: Literal["done", "blocked", "failed"] | None = "done"
    ending: RunEnding | None = "done"
    """None: nothing is heard of it any more."""


@dataclass
class PlayedAgents:
    """Works as agents do, in their folders (`bot.runs.ports.RunsPort`)."""

    shop: Workshop
    on_ended: list[Callable[[AgentRun], None]] = field(default_factory=list)

    def wake(self) -> None:
        pass

    def after(self, work: AgentRun) -> None:
        pass

    async def decide(self, tx: AsyncConnection, work: AgentRun, ending: RunEnding, detail: str | None) -> bool:
        return await runs.end_begun(tx, work.id, ending, detail=detail, turn_ended_at=self.shop.now)

    async def work(self) -> bool:
        """Take the next step of each agent; return whether there was any."""
        async with self.shop.store.read() as tx:
            found = await runs.open_ones(tx)
        self.shop.most_at_work = max(self.shop.most_at_work, len(found))
        steps = [await self._step(work) for work in found]
        return any(steps)

    async def _step(self, work: AgentRun) -> bool:
        async with self.shop.store.read() as tx:
            run = await issue_runs.get(tx, work.id.rpartition("-")[0])
        assert run is not None
        ending, place = work.ending, self.shop.paths.workspace(work.agent)
        if ending is None and work.state == "queued" and await self._begin(work, run):
            turn = self.shop.turn(run)
            if turn.commits and place.exists():
                (place / work.id).touch()
            if turn.signal is not None:
                async with self.shop.store.write(STEP) as tx:
                    signal = {"status": turn.signal, "summary": f"Round {run.round}."}
                    await issue_runs.change(tx, run.id, only=["running"], signal=signal)
            ending = turn.ending
        if ending is None:
            return False
        async with self.shop.store.write(STEP) as tx:
            values = {"state": ending, "answer": "I did it.", "ended_at": self.shop.now}
            await runs.change(tx, work.id, only=runs.OPEN, **values)
        for told in self.on_ended:
            told(work)
        return True

    async def _begin(self, work: AgentRun, run: IssueRun) -> bool:
        row = AgentRow(
            name=work.agent, role=work.role, runtime="sim", model=None, sandbox="bubblewrap",
            workspace=str(self.shop.paths.workspace(work.agent)), wanted="frozen", at_once=False, keep_session=True,
            state="frozen", detail=None, launch_id=f"run-{work.id}", launched_by="forge:ana", connector="memory",
            room="room", thread_key=run.thread_key, started_at=self.shop.now, stopped_at=None,
        )  # fmt: skip
        async with self.shop.store.write(STEP) as tx:
            current = await runs.get(tx, work.id)
            if current is None or current.ending is not None or current.state != "queued":
                return False
            await insert_once(tx, schema.agents, **row.columns())
            await runs.change(tx, work.id, only=["queued"], state="running", started_at=self.shop.now)
        self.shop.began.append((run.id, self.shop.now))
        return True


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedGround(RunGround):
    """A folder in place of a clone: each file is a commit."""

    def prepare(self, branch: str, *, sandboxed: bool, pushed: EarlierWork | None = None) -> str | None:
        for folder in (self.clone.place, self.clone.folder):
            folder.mkdir(parents=True, exist_ok=True)
        CloneRecord(source=self.link.folder, sandboxed=True, base=None, began_on=None).save(self.clone.folder)
        return None


@dataclass(frozen=True, slots=True)
class PlayedContext(RoundContext):
    def ground(self, run: IssueRun) -> RunGround:
        return PlayedGround.of(self.link, self.services.planner.workspaces, run)


@dataclass(frozen=True, slots=True)
class PlayedPublish(PublishStep):
    """Pushes what agents committed, without git: the checks of commits have tests of their own."""

    shop: Workshop

    async def act(self, run: IssueRun) -> Acted:
        forge, store = self.shop.forge, self.round.services.store
        async with store.write(STEP) as tx:
            await issue_runs.change(tx, run.id, only=ACTIVE, state="checking")
        if forge.faults.for_request("POST", f"/{SHOP}.git/git-receive-pack") is not None:
            raise ForgeAway("The branch could not be pushed.")
        place = self.shop.paths.workspace(run.agent)
        committed = sorted(
            (each.name for each in place.glob(f"{run.id}-*")), key=lambda name: int(name.partition("-")[2])
        )
        found = [{"kind": "empty", "sentence": "The agent committed nothing."}]
        result, values = PublishResult.REFUSED, dict[str, Any](findings=found)
        if committed:
            branch = f"muster/issue-{run.number}-it-fails"
            sha = self.shop.pushed.get(committed[-1])
            if sha is None:
                files = {f"{run.number}/{name}": name for name in committed}
                sha = self.shop.pushed[committed[-1]] = forge.commit(SHOP, branch, files, by="muster")
            is_known = sha == run.pushed_sha and run.pull_request is not None
            result = PublishResult.UNCHANGED if is_known else PublishResult.PUSHED
            values = {"findings": None, "branch": branch, "pushed_sha": sha}

        async def also(tx: AsyncConnection) -> None:
            await issue_runs.change(tx, run.id, only=ACTIVE, active_at=self.shop.now, **values)

        return Acted(result.value, also)


@dataclass
class Process:
    """One life of Muster."""

    rounds: Rounds
    intake: Intake
    looking: Looking
    agents: PlayedAgents
    link: ForgeLink
    services: IssueServices
    task: asyncio.Task[None]


@dataclass
class Workshop:
    """What tests hold on to."""

    forge: ForgeServer
    store: Store
    paths: Paths
    token: str
    now: float
    turn: Callable[[IssueRun], PlayedTurn] = lambda _: PlayedTurn()
    began: list[tuple[str, float]] = field(default_factory=list)
    """Each work of an agent: whose, and when."""
    pushed: dict[str, str] = field(default_factory=dict)
    """What was pushed after which work."""
    most_at_work: int = 0
    """How many agents were at work at one time."""
    acting: int = 0
    """Orders that are acted on just now."""
    _process: Process | None = None

    @property
    def process(self) -> Process:
        assert self._process is not None, "it does not run"
        return self._process

    def clock(self) -> float:
        return self.now

    # --- the process --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin a process."""
        settings = load(self.paths)
        assert settings.forge is not None
        address = ForgeAddress.parse(self.forge.url)
        options = HttpOptions(limits=HttpLimits(request_s=10.0, attempts=2), pause=_no_pause, clock=self.clock)
        client = open_client("gitea", address, self.token, options=options)
        folder = self.paths.repositories / address.host.replace(":", "-")
        link = ForgeLink(settings.forge, address.host, client, self.token, b"k" * 32, folder)
        masker = SecretMasker(known=frozenset(), extra=())
        channel = AgentChannel(Composer(self.paths.outgoing), masker, lambda _: Capabilities(), self.clock, str, "!")
        source, agents = FixedSource(), PlayedAgents(self)
        services = cast(
            "IssueServices",
            SimpleNamespace(
                store=self.store, clock=self.clock, paths=self.paths, settings=settings, forge=link, redact=masker,
                environ={"FORGE_TOKEN": self.token}, runs=agents, delivery=SimpleNamespace(wake=_nothing),
                agents=SimpleNamespace(journal_effects=channel, kill=_killed, view_of=_unseen, dismiss=_dismissed),
                dispatcher=SimpleNamespace(cost_of=_unknown_cost), main_room=lambda _: ("memory", "room"),
                planner=SimpleNamespace(
                    workspaces=Workspaces(
                        own=self.paths.workspace, folder=self.paths.agent_folder, hidden=(),
                        repositories=self.paths.repositories,
                    ),
                    sandbox_kind=lambda _: "bubblewrap", profiles={},
                    read_roster=lambda: SimpleNamespace(agents=[], get=lambda _: None),
                ),
            ),
        )  # fmt: skip
        services.questions = Questions(services)
        writes, context = IssueWrites(services), PlayedContext(services, link)

        async def other(order: ForgeOrder) -> Acted | ActAgain:
            return await (writes.act(order) if order.kind.startswith("tool_") else notices.act(link, order))

        signing = self.paths.signing_key
        rounds = Rounds(context, PlayedPublish(context, b"s" * 32, self), RecordStep(context, signing), other)
        services.rounds, services.orders = rounds, rounds.book
        rounds.book.act, rounds.book.rng = self._counted(rounds), lambda: 0.0
        troubles = Troubles(self.store, link, channel, _room, _nothing, self.clock)
        intake = Intake(
            store=self.store, link=link, channel=channel, source=source,
            pickups=PickUps(link, channel, _room, source.names, self.clock), troubles=troubles, rounds=rounds,
            ordered=rounds.book.wake, wake_delivery=_nothing, clock=self.clock, rng=lambda: 0.0, monotonic=self.clock,
        )  # fmt: skip
        services.intake = intake
        looking = Looking(self.store, link, intake, troubles, self.clock, self.clock)
        task = asyncio.create_task(rounds.run())
        self._process = Process(rounds, intake, looking, agents, link, services, task)

    async def kill(self) -> None:
        """End the process wherever it is. What it had not written is lost."""
        process, self._process = self.process, None
        process.task.cancel()
        await asyncio.gather(process.task, return_exceptions=True)
        await process.link.client.close()

    def _counted(self, rounds: Rounds) -> Callable[[ForgeOrder], Any]:
        async def act(order: ForgeOrder) -> Acted | ActAgain:
            self.acting += 1
            try:
                return await rounds.act(order)
            finally:
                self.acting -= 1

        return act

    # --- time ---------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Let happen whatever can happen now."""
        async with asyncio.timeout(LIMIT):
            while True:
                process = self.process
                process.rounds.book.wake("")
                await process.intake.handle()
                await process.rounds.look()
                if not await process.agents.work() and not await self._is_busy():
                    return
                await asyncio.sleep(0.005)

    async def _is_busy(self) -> bool:
        async with self.store.read() as tx:
            if self.acting or await forge_orders.due(tx, self.now, limit=1):
                return True
            for run in await issue_runs.in_states(tx, ACTIVE):
                orders = await forge_orders.of_run(tx, run.id)
                steps = [each for each in orders if each.state == "open" and each.key.startswith(f"{run.id}/")]
                work = await runs.get(tx, f"{run.id}-{run.round}")
                has_ended = work is not None and work.state not in runs.OPEN
                if not steps or (has_ended and any(each.detail == "Its agent works." for each in steps)):
                    return True  # its next step is not ordered yet, or not looked at again
        return False

    async def advance(self, seconds: float) -> None:
        """Let time pass, and what is due then happen."""
        self.now += seconds
        self.forge.advance(seconds)
        await self.settle()

    async def look(self) -> None:
        """Look at the forge, as Muster does at times."""
        await self.process.looking.look()
        await self.settle()

    # --- what there is ------------------------------------------------------------------------------------------

    def issue(self, title: str = "It fails", **values: Any) -> int:
        """Open an issue that is to be picked up."""
        given = {"author": "ana", "labels": [LABEL], "assignees": ["ana"], **values}
        return self.forge.add_issue(SHOP, title, body="See.", **given)

    async def event(self, number: int | None, sha: str | None = None) -> None:
        """Write an event, as the listener does."""
        await self.events([(number, sha, f"d-{time.monotonic_ns()}")])

    async def events(self, found: Sequence[tuple[int | None, str | None, str]]) -> None:
        host = self.forge.url.removeprefix("http://")
        rows = [
            ForgeEventRow(
                forge=host, delivery=delivery, name="issues", repository=SHOP, number=number, sha=sha,
                received_at=self.now,
            )
            for number, sha, delivery in found
        ]  # fmt: skip
        async with self.store.write(STEP) as tx:
            await forge_events.add(tx, rows)

    async def run_of(self, number: int) -> IssueRun:
        found = {run.number: run for run in await self.all_runs()}
        return found[number]

    async def all_runs(self) -> list[IssueRun]:
        async with self.store.read() as tx:
            return await issue_runs.in_states(tx, [*ALIVE, "destroyed"])

    async def change(self, run: IssueRun, **values: object) -> None:
        async with self.store.write(STEP) as tx:
            await issue_runs.change(tx, run.id, only=[*ALIVE, "destroyed"], **values)

    def pulls(self, run: IssueRun) -> list[Item]:
        """The pull requests of a run's branches."""
        begin = f"muster/issue-{run.number}-"
        items = self.forge.repository(SHOP).items.values()
        return [each for each in items if each.pull is not None and each.pull.head_branch.startswith(begin)]

    async def said(self) -> list[str]:
        """The texts of all messages in chat, in order."""
        return await said_in(self.store)


def _nothing() -> None:
    pass


def _room() -> tuple[str, str]:
    return "memory", "room"


async def _no_pause(seconds: float) -> None:
    del seconds
    await asyncio.sleep(0)


async def _unknown_cost(**_: object) -> None:
    return None


async def _killed(row: AgentRow, *, discard: bool) -> bool:
    return False


async def _dismissed(name: str) -> bool:
    return True


async def _unseen(name: str) -> SimpleNamespace:
    return SimpleNamespace(status=None)


@contextlib.asynccontextmanager
async def workshop(folder: Path, store: Store, *, more: str = "runs: 3") -> AsyncIterator[Workshop]:
    """A forge and Muster in front of it.

    Args:
        folder: of the installation.
        store: an empty register.
        more: added to the block `forge`.
    """
    paths = Paths.of({"MUSTER_HOME": str(folder), "HOME": str(folder)})
    paths.prepare()
    async with ForgeServer() as forge:
        forge.add_org("acme", members=("ana", "bob", "muster"))
        forge.add_user("eve")
        forge.add_user("robot", is_bot=True)
        forge.add_repository(SHOP, files={"README.md": "A shop.\n"})
        paths.muster_yaml.write_text(_SETTINGS.format(url=forge.url, more=more))
        made = Workshop(forge, store, paths, forge.add_token("muster"), forge.now().timestamp())
        await made.start()
        try:
            yield made
        finally:
            await made.kill()
