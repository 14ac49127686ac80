"""An orchestrator beside a forge with real git, both on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bot.messaging.composer import MessagePlace
from connectors.contract.messages import Message, OpenThread, Priority
from connectors.delivery import outbox
from core.crash_points import declare
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun, IssueWake
from tests.bot.orchestrator import ROOM, House, house
from tests.forge.forge_server.own_authority import certified
from tests.forge.forge_server.server import ForgeServer
from tests.forge.forge_server.world import Item, Pull

SHOP = "acme/shop"
RUN = "5e7a1c"
_WRITE = declare("tests.forge_house")
_SETTINGS = """\
agents: {{runtime: {runtime}, sandbox: bubblewrap}}
approvals: {{preset: sandboxed}}
forge:
  kind: {kind}
  url: {url}
  token: env:FORGE_TOKEN
  organization: acme
  repositories: [acme/shop]
  mode: poll
  poll: 5s
  sandbox: bubblewrap
  pushes: {pushes}
"""


@dataclass(slots=True)
class ForgeHouse:
    """What tests hold on to."""

    home: House
    forge: ForgeServer
    host: str

    async def queue(self, body: str, *, title: str = "Raise the price", **values: object) -> IssueRun:
        """Open an issue, and queue the run that a pick-up makes of it."""
        number = self.forge.add_issue(SHOP, title, body=body, author="ana", labels=("muster:coder",))
        now = self.home.clock()
        made = IssueRun(
            id=RUN,
            forge=self.host,
            repository=SHOP,
            number=number,
            title=title,
            body=body,
            role="coder",
            sandboxes=["bubblewrap"],
            picked_by="ana",
            picked_how="label",
            agent="coder17",
            connector="memory",
            room=ROOM,
            thread_key="o/issue-17",
            state="queued",
            created_at=now,
            active_at=now,
        )
        run = dataclasses.replace(made, **values)  # type: ignore[arg-type]
        store = self.home.orchestrator.store
        async with store.write(_WRITE) as tx:
            opener = OpenThread(title=title, message=Message(text="An issue."))
            place = MessagePlace(run.connector, conversation=run.room)
            await outbox.put(tx, place.outbound(run.thread_key, opener, Priority.REPLY), now)
            await issue_runs.add(tx, run)
        self.wake()
        return run

    def wake(self) -> None:
        self.home.orchestrator.services.delivery.wake()
        self.home.orchestrator.services.rounds.wake()

    async def run(self, run_id: str = RUN) -> IssueRun:
        async with self.home.orchestrator.store.read() as tx:
            found = await issue_runs.get(tx, run_id)
        assert found is not None
        return found

    async def change(self, **values: Any) -> None:
        """Change the row, as tools of the agent or the intake do."""
        async with self.home.orchestrator.store.write(_WRITE) as tx:
            await issue_runs.change(tx, RUN, only=(*issue_runs.ALIVE, "destroyed"), **values)
        self.wake()

    async def signal(self, summary: str = "It is done.") -> None:
        """Signal that the work is done, as the agent's tool does."""
        await self.change(signal={"status": "done", "summary": summary})

    async def wake_by(self, text: str, *, cause: str = "comment/1", kind: str = "comment", member: bool = True) -> None:
        """Add a reason to go on, as the intake does."""
        wake = IssueWake(
            run=RUN,
            cause=cause,
            kind=kind,  # type: ignore[arg-type]
            author="ana" if member else "eve",
            is_member=member,
            text=text,
            at=self.home.clock(),
        )
        async with self.home.orchestrator.store.write(_WRITE) as tx:
            await issue_runs.add_wake(tx, wake)
        self.wake()

    async def work(self, number: int = 1) -> AgentRun | None:
        """The agent's work of a round."""
        async with self.home.orchestrator.store.read() as tx:
            return await runs.get(tx, f"{RUN}-{number}")

    async def until(self, holds: Callable[[IssueRun], bool], *, limit: float = 60) -> IssueRun:
        """Wait until the row of the run is so."""
        async with asyncio.timeout(limit):
            while not holds(run := await self.run()):
                await asyncio.sleep(0.02)
        return run

    async def until_run(self, run_id: str, holds: Callable[[IssueRun], bool]) -> None:
        """Wait until the row of another run is so."""
        async with asyncio.timeout(60):
            while not holds(await self.run(run_id)):
                await asyncio.sleep(0.02)

    async def settled(self, number: int = 1) -> IssueRun:
        """Wait until a round is over."""
        return await self.until(lambda run: run.round == number and run.state in ("frozen", "failed"))

    async def at_work(self, number: int = 1) -> AgentRun:
        """Wait until the agent works."""
        async with asyncio.timeout(60):
            while (work := await self.work(number)) is None or work.state != "running":
                await asyncio.sleep(0.02)
        return work

    async def committed(self) -> None:
        """Wait until the agent committed something that is not at the forge."""
        branch = self.home.paths.workspace("coder17") / ".git" / "refs" / "heads" / "muster" / "coder17"
        base = self.forge.repository(SHOP).git.sha("refs/heads/main")
        async with asyncio.timeout(60):
            while not branch.exists() or branch.read_text().strip() in ("", base):
                await asyncio.sleep(0.02)

    async def until_of(self, number: int, holds: Callable[[IssueRun], bool], *, limit: float = 90) -> IssueRun:
        """Wait until an issue that was picked up has a run that is so."""
        async with asyncio.timeout(limit):
            while True:
                async with self.home.orchestrator.store.read() as tx:
                    run = await issue_runs.of_issue(tx, self.host, SHOP, number)
                if run is not None and holds(run):
                    return run
                await asyncio.sleep(0.05)

    def speak_in_room(self) -> None:
        """Have threads of pick-ups open in the room of tests."""
        file = self.home.paths.muster_yaml
        file.write_text(file.read_text().replace("memory: {}", "memory: {fleet_room: room}"))

    async def thread(self) -> str:
        """The conversation of the run's thread."""
        return await self.home.opened_by("o/issue-17")

    def pulls(self) -> list[tuple[Item, Pull]]:
        """The pull requests at the forge."""
        items = self.forge.repository(SHOP).items.values()
        return [(item, item.pull) for item in items if item.pull is not None]

    def changed(self) -> str:
        """The diff of the only pull request."""
        ((_, pull),) = self.pulls()
        return self.forge.repository(SHOP).git.diff(pull.base_sha, pull.head_sha)


@contextlib.asynccontextmanager
async def forge_house(
    folder: Path,
    *,
    clock: Callable[[], float] = time.time,
    kind: str = "gitea",
    runtime: str = "sim",
    register: str | None = None,
    pushes: str = "{}",
    is_certified: bool = False,
) -> AsyncIterator[ForgeHouse]:
    """A forge, and an installation in `folder` that is set up for it.

    Args:
        folder: of the installation.
        clock: of everything but the agents' own processes.
        kind: which forge it is.
        runtime: of the agents.
        register: the address of the register; None: a file in the folder.
        pushes: the block of muster.yaml, in YAML.
        is_certified: whether the forge has TLS, by an authority of its own.
    """
    tls, ca_file = certified(folder / "authority") if is_certified else (None, None)
    async with ForgeServer(tls=tls) as server:
        server.add_org("acme", members=("ana", "muster"))
        server.add_user("eve")
        server.add_repository(SHOP, files={"README.md": "A shop.\n", "shop.py": "def price():\n    return 1\n"})
        token = server.add_token("muster")
        settings = _SETTINGS.format(url=server.url, kind=kind, runtime=runtime, pushes=pushes)
        if ca_file is not None:
            settings += f"  ca_file: {ca_file}\n"
        if register is not None:
            settings += f"register:\n  url: {register}\n"
        async with house(folder, settings=settings, clock=clock) as home:
            home.environ["FORGE_TOKEN"] = token
            yield ForgeHouse(home, server, server.url.partition("://")[2])
