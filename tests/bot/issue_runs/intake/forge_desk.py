"""The intake with a real forge server and a real register. Only chat and rounds are recorded."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.forge.settings import ForgeBlock
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.intake.looking import Looking
from bot.issue_runs.intake.pickups import PickUps
from bot.issue_runs.intake.service import Intake
from bot.issue_runs.intake.troubles import Troubles
from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import Composer
from connectors.contract.messages import Capabilities, Message, OpenThread
from connectors.delivery import outbox as rows
from core.crash_points import declare
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.forge import forge_events, forge_orders, issue_runs
from database.queries.forge.forge_events import ForgeEventRow
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import IssueRun, IssueWake
from database.schema import outbox
from forge.clients.address import ForgeAddress
from forge.clients.http_options import HttpOptions
from forge.clients.opening import open_client
from forge.clients.retries import HttpLimits
from forge.targeting import PickUpRules
from forge.webhooks.event import ForgeEvent
from forge.webhooks.listener import WebhookListener
from forge.webhooks.signature import ForgeKind
from tests.forge.forge_server.server import ForgeServer

SHOP = "acme/shop"
SECRET = "a-secret-of-the-webhook"
LABEL = "muster:coder"
STEP = declare("tests.forge_desk")


@dataclass
class RecordedRounds:
    """What is asked of the rounds (`RoundsPort`)."""

    destroyed: list[str] = field(default_factory=list)
    reopened: list[str] = field(default_factory=list)
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1

    def look_again(self, run_id: str) -> None:
        del run_id

    async def begin(self, tx: AsyncConnection, run: IssueRun, *, most: int | None) -> bool:
        del tx, run, most
        return False

    async def destroy(self, run_id: str) -> None:
        self.destroyed.append(run_id)

    async def reopen(self, run_id: str) -> None:
        self.reopened.append(run_id)


@dataclass
class FixedSource:
    """What is configured (`PickUpSource`)."""

    taken: frozenset[str] = frozenset()

    async def rules(self) -> PickUpRules:
        return PickUpRules(
            organization="acme",
            targets=frozenset({"coder"}),
            sandboxes=frozenset({"bubblewrap", "webdev"}),
            default_sandboxes=("bubblewrap",),
        )

    def sandbox_problem(self, sandboxes: Sequence[str]) -> str | None:
        return None if len(sandboxes) < 2 else "two at once do not go together."

    async def names(self, tx: AsyncConnection) -> frozenset[str]:
        del tx
        return self.taken


@dataclass
class Desk:
    """One installation in front of a forge."""

    forge: ForgeServer
    store: Store
    link: ForgeLink
    rounds: RecordedRounds
    source: FixedSource
    intake: Intake
    looking: Looking
    orders: list[str]
    time: list[float]

    async def handle(self) -> None:
        """Handle all events, as often as there are any that can be handled now."""
        await self.intake.handle()

    async def look(self) -> None:
        """Look at the forge, and handle what was found."""
        await self.looking.look()
        await self.intake.handle()

    async def event(self, number: int | None = None, *, sha: str | None = None, delivery: str = "d-1") -> None:
        """Write an event, as the listener does, and handle it."""
        await self.note(number, sha=sha, delivery=delivery)
        await self.intake.handle()

    async def note(self, number: int | None = None, *, sha: str | None = None, delivery: str | None = None) -> None:
        """Write an event."""
        row = ForgeEventRow(
            forge=self.link.host, delivery=delivery or secrets.token_hex(6), name="issues", repository=SHOP,
            number=number, sha=sha, received_at=self.time[0],
        )  # fmt: skip
        async with self.store.write(STEP) as tx:
            await forge_events.add(tx, [row])

    async def run_of(self, number: int) -> IssueRun | None:
        async with self.store.read() as tx:
            return await issue_runs.of_issue(tx, self.link.host, SHOP, number)

    async def picked_up(self) -> IssueRun:
        """Have an issue picked up."""
        number = self.forge.add_issue(SHOP, "It fails", body="See.", author="ana", labels=[LABEL], assignees=["ana"])
        await self.event(number, delivery=f"pick-{number}")
        run = await self.run_of(number)
        assert run is not None
        return run

    async def proposed(self, files: Mapping[str, str] | None = None) -> tuple[IssueRun, int, str]:
        """Have an issue picked up, and its pull request opened; return the run, its number, and the pushed commit."""
        run = await self.picked_up()
        branch = f"muster/issue-{run.number}"
        sha = self.forge.commit(SHOP, branch, files or {"shop.py": "def price():\n    return 2\n"}, by="muster")
        pull = self.forge.open_pull(SHOP, title="x", body="", head=branch, base="main", by="muster").number
        values = {"branch": branch, "base_branch": "main", "pull_request": pull, "pushed_sha": sha}
        await self.change(run, state="frozen", **values)
        found = await self.run_of(run.number)
        assert found is not None
        return found, pull, sha

    async def change(self, run: IssueRun, **values: object) -> None:
        async with self.store.write(STEP) as tx:
            await issue_runs.change(tx, run.id, only=[run.state], **values)

    async def wakes(self, run: IssueRun) -> list[IssueWake]:
        async with self.store.read() as tx:
            return await issue_runs.wakes(tx, run.id)

    async def waiting(self) -> int:
        async with self.store.read() as tx:
            return await forge_events.count_waiting(tx, self.link.host)

    async def said(self) -> list[str]:
        """All that was said in chat, in order."""
        return await said_in(self.store)

    async def all_orders(self) -> list[ForgeOrder]:
        async with self.store.read() as tx:
            found = [await forge_orders.get(tx, key) for key in dict.fromkeys(self.orders)]
        return [each for each in found if each is not None]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[WebhookListener]:
        """Take webhooks of the shop, and write them down; `handle` handles them."""

        async def write(events: Sequence[ForgeEvent]) -> None:
            async with self.store.write(STEP) as tx:
                await forge_events.add(tx, [row_of(self.link.host, each, self.time[0]) for each in events])

        kind = self.link.settings.kind
        listener = WebhookListener(kind, SECRET, self.link.repositories, write, counts=self.link.counts)
        await listener.start()
        host, port = listener.address
        self.forge.add_webhook(SHOP, f"http://{host}:{port}/webhook", secret=SECRET, kind=kind)
        try:
            yield listener
        finally:
            await listener.stop()


async def said_in(store: Store) -> list[str]:
    """All that was said in chat, in order."""
    async with store.read() as tx:
        keys = list(await tx.scalars(outbox.select().with_only_columns(outbox.c.key).order_by(outbox.c.seq)))
        found = [await rows.get(tx, key) for key in keys]
    texts = []
    for each in found:
        assert each is not None
        content = each.outbound.content
        content = content.message if isinstance(content, OpenThread) else content
        if isinstance(content, Message):
            texts.append(content.text)
    return texts


def row_of(host: str, event: ForgeEvent, now: float) -> ForgeEventRow:
    return ForgeEventRow(
        forge=host, delivery=event.delivery, name=event.name, repository=str(event.repository), number=event.number,
        sha=event.sha, received_at=now,
    )  # fmt: skip


@asynccontextmanager
async def desk(store: Store, folder: Path, *, login: str = "muster", kind: ForgeKind = "gitea") -> AsyncIterator[Desk]:
    """A desk in front of a forge with the organization `acme` of `ana` and `muster`, its repository, and `eve`."""
    async with ForgeServer() as forge:
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_user("eve")
        forge.add_repository(SHOP, files={"README.md": "A shop.\n"})
        async with at(forge, store, folder, login=login, kind=kind) as made:
            yield made


@asynccontextmanager
async def at(
    forge: ForgeServer, store: Store, folder: Path, *, login: str = "muster", kind: ForgeKind = "gitea"
) -> AsyncIterator[Desk]:
    """A desk in front of a forge that there is."""
    block = ForgeBlock.model_validate(
        {"kind": kind, "url": forge.url, "token": "env:T", "organization": "acme", "repositories": [SHOP]}
    )

    async def no_pause(seconds: float) -> None:
        del seconds
        await asyncio.sleep(0)

    options = HttpOptions(limits=HttpLimits(request_s=5.0, attempts=2), pause=no_pause)
    address = ForgeAddress.parse(forge.url)
    client = open_client(kind, address, forge.add_token(login), options=options)
    link = ForgeLink(block, address.host, client, "t", b"k" * 32, folder)
    time = [1_800_000_000.0]

    def clock() -> float:
        return time[0]

    masker = SecretMasker(known=frozenset(), extra=())
    channel = AgentChannel(Composer(folder), masker, lambda _: Capabilities(), clock, str, "!")

    def room() -> tuple[str, str]:
        return "memory", "room"

    def nothing() -> None:
        pass

    orders: list[str] = []
    rounds, source = RecordedRounds(), FixedSource()
    troubles = Troubles(store, link, channel, room, nothing, clock)
    monotonic: Callable[[], float] = clock
    intake = Intake(
        store=store, link=link, channel=channel, source=source,
        pickups=PickUps(link, channel, room, source.names, clock),
        troubles=troubles, rounds=rounds, ordered=orders.append, wake_delivery=nothing, clock=clock,
        rng=lambda: 0.0, monotonic=monotonic,
    )  # fmt: skip
    looking = Looking(store, link, intake, troubles, clock, monotonic)
    try:
        yield Desk(forge, store, link, rounds, source, intake, looking, orders, time)
    finally:
        await client.close()
