"""The tools of an agent that works on an issue, with a real register and a forge on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.config.loader import load
from bot.config.paths import Paths
from bot.issue_runs.agent_tools.calls import IssueTools
from bot.issue_runs.agent_tools.writes import IssueWrites
from bot.issue_runs.forge_link import ForgeLink
from bot.issue_runs.services import IssueServices
from bot.setup.launch_planner import planner
from core.crash_points import declare
from core.redaction import SecretMasker
from database.engine.store import Store
from database.queries.agents.agents import AgentRow
from database.queries.agents.tool_calls import ToolCallRow
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from database.queries.operations import audit_log
from forge.clients.address import ForgeAddress
from forge.clients.http_options import HttpOptions
from forge.clients.opening import open_client
from forge.clients.retries import HttpLimits
from forge.runs.order_book import OrderBook

SHOP = "acme/shop"
SECRET = b"a secret for markers"
STEP = declare("test.step")
_SETTINGS = """\
connectors: {{terminal: {{}}}}
forge: {{kind: {kind}, url: '{url}', token: 'env:FORGE', organization: acme, repositories: [acme/shop]}}
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What an agent was told."""

    text: str
    ok: bool


@dataclass(slots=True)
class Rounds:
    """Notes whose round is looked at again."""

    looked: list[str] = field(default_factory=list)

    def wake(self) -> None:
        pass

    def look_again(self, run_id: str) -> None:
        self.looked.append(run_id)

    async def begin(self, tx: AsyncConnection, run: IssueRun, *, most: int | None) -> bool:
        del tx, run, most
        return False

    async def destroy(self, run_id: str) -> None:
        del run_id

    async def reopen(self, run_id: str) -> None:
        del run_id


@dataclass(slots=True)
class Thread:
    """Notes what is said in agents' threads."""

    said: dict[str, str] = field(default_factory=dict)

    async def note(self, tx: AsyncConnection, row: AgentRow, key: str, text: str) -> None:
        self.said[key] = text


def link_to(url: str, token: str, kind: Literal["gitea", "github"], folder: Path) -> ForgeLink:
    """Return the forge of an installation that is made in a folder. Its requests do not wait long."""
    paths = _paths(folder)
    paths.prepare()
    paths.muster_yaml.write_text(_SETTINGS.format(kind=kind, url=url))
    settings = load(paths).forge
    assert settings is not None
    address = ForgeAddress.parse(url)
    limits = HttpLimits(request_s=5, attempts=1, first_pause_s=0.01, longest_pause_s=0.01, longest_wait_s=0)
    client = open_client(kind, address, token, options=HttpOptions(limits=limits))
    return ForgeLink(settings, address.host, client, token, SECRET, folder)


def _paths(folder: Path) -> Paths:
    return Paths.of({"MUSTER_HOME": str(folder), "HOME": str(folder)})


@dataclass(slots=True)
class Desk:
    """What a test holds on to."""

    store: Store
    link: ForgeLink
    services: IssueServices
    tools: IssueTools
    book: OrderBook
    rounds: Rounds
    thread: Thread
    now: float = 1_000.0
    """The time that only goes forward, by which calls wait."""
    _count: int = 0

    async def run(self, number: int = 1, **values: Any) -> IssueRun:
        """Add a run whose agent is at work."""
        given: dict[str, Any] = {
            "id": f"run-{number}", "forge": self.link.host, "repository": SHOP, "number": number, "title": "It fails",
            "body": "", "role": "coder", "sandboxes": ["bubblewrap"], "picked_by": "ana", "picked_how": "label",
            "agent": f"issue-{number}", "connector": "memory", "room": "room", "thread_key": f"t{number}",
            "state": "running", "created_at": time.time(), "active_at": time.time(),
        }  # fmt: skip
        run = IssueRun(**{**given, **values})
        async with self.store.write(STEP) as tx:
            assert await issue_runs.add(tx, run)
        return run

    async def known(self, run: IssueRun) -> IssueRun:
        """Return a run as it stands."""
        async with self.store.read() as tx:
            found = await issue_runs.get(tx, run.id)
        assert found is not None
        return found

    async def change(self, run: IssueRun, **values: object) -> None:
        """Change a run behind everybody's back."""
        async with self.store.write(STEP) as tx:
            await issue_runs.change(tx, run.id, only=(*issue_runs.ALIVE, "destroyed"), **values)

    def ask(self, run: IssueRun, tool: str, /, **arguments: object) -> ToolCallRow:
        """Return a new call of a run's agent."""
        self._count += 1
        call = f"k{self._count:024}"
        now = time.time()
        return ToolCallRow(
            id=call, agent=run.agent, call=call, tool=tool, arguments=arguments, queued=True, state="pending",
            asked_at=now, updated_at=now,
        )  # fmt: skip

    async def once(self, call: ToolCallRow) -> Told | None:
        """Deal with a call once; None: it waits."""
        told: list[Told] = []

        async def answer(tx: AsyncConnection, text: str, ok: bool) -> None:
            told.append(Told(text, ok))

        row = cast("AgentRow", SimpleNamespace(name=call.agent))
        await self.tools.deal(call, row, answer)
        return told[0] if told else None

    async def answered(self, call: ToolCallRow) -> Told:
        """Deal with a call until it is answered."""
        async with asyncio.timeout(30):
            while (told := await self.once(call)) is None:
                await asyncio.sleep(0.01)
        return told

    async def call(self, run: IssueRun, tool: str, /, **arguments: object) -> Told:
        """Call a tool."""
        return await self.answered(self.ask(run, tool, **arguments))

    async def audit(self) -> list[tuple[str, str, str]]:
        """Return who did what with which outcome."""
        async with self.store.read() as tx:
            lines = await audit_log.since(tx, 0, limit=1000)
        return [(line.identity, line.action, line.outcome) for line in lines]


async def _unknown_cost(**_: object) -> None:
    """Project nothing, as while no run is known that a cost could be learned from."""


@contextlib.asynccontextmanager
async def desk_at(store: Store, link: ForgeLink, *, acting: bool = True) -> AsyncIterator[Desk]:
    """The tools in the installation of a link, and beside them what acts on the orders."""
    rounds, thread, paths = Rounds(), Thread(), _paths(link.folder)
    settings = load(paths)
    services = cast(
        "IssueServices",
        SimpleNamespace(
            store=store, clock=time.time, forge=link, rounds=rounds,
            redact=SecretMasker(frozenset({"hunter2-hunter2"})),
            agents=SimpleNamespace(journal_effects=thread),
            settings=settings, planner=planner(paths, settings, {}, with_way=False), paths=paths,
            dispatcher=SimpleNamespace(cost_of=_unknown_cost),
        ),
    )  # fmt: skip
    book = OrderBook(store, IssueWrites(services).act, time.time, rng=lambda: 0.0)
    services.orders = book
    desk = Desk(store, link, services, IssueTools(services, clock=lambda: desk.now), book, rounds, thread)
    task = asyncio.create_task(book.run()) if acting else None
    try:
        yield desk
    finally:
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await link.client.close()
