"""What posts reports, on a real register with a clock that tests set; what it says is read from the outbox.

Nothing is drawn unless a test asks for it: a process for each picture would take longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

from sqlalchemy import insert, select

from bot.agents.service import Agents
from bot.auth.permissions import Operators
from bot.commands.registry import CommandTable
from bot.config.loader import load
from bot.config.paths import Paths
from bot.figures.model import Figure
from bot.messaging.composer import Composer
from bot.messaging.event_hub import EventHub
from bot.messaging.fleet_port import AgentView
from bot.pacing.service import PaceService
from bot.pacing.window_status import PaceSnapshot
from bot.reports.poster import Reports
from bot.reports.services import ReportServices
from budget.windows.even_spread_line import EvenSpreadLine, Window
from budget.windows.pace_admission import PacePolicy, WindowState
from connectors.contract.messages import Capabilities, File, Message
from connectors.delivery import outbox
from connectors.delivery.service import Delivery
from core.crash_points import declare
from database import schema
from database.engine.store import Store
from database.queries.operations import report_schedules
from database.queries.operations.report_schedules import ScheduleRow
from database.queries.spending import usage_ledger
from scheduler.jobs import Jobs
from tests.database.queries import rows

SETUP = declare("test.newsroom")

ZONE = ZoneInfo("Europe/Vienna")
ROOM = "!fleet:example.org"
SETTINGS = f"""\
connectors:
  matrix: {{homeserver: 'http://localhost:1', user: '@muster:example.org', password: 'env:P', fleet_room: '{ROOM}'}}
timezone: {ZONE.key}
"""


def at(text: str, zone: ZoneInfo = ZONE) -> float:
    """A moment, as a clock on the wall of the operator shows it: ``2026-11-23 09:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


class NoAgents:
    """A fleet that has none."""

    async def view(self) -> tuple[AgentView, ...]:
        return ()


@dataclass
class Board:
    """The pace, as a test sets it."""

    standings: dict[str, WindowState] = field(default_factory=dict)
    now: float = 0.0

    def put(self, window: Window) -> None:
        begin = window.begins_at or 0.0
        line = EvenSpreadLine(
            window=window.key,
            drawn_at=begin,
            drawn_used=0.0,
            limit=window.limit,
            resets_at=window.resets_at,
            cause="first",
        )
        self.standings[window.key] = WindowState(window=window, line=line)

    async def snapshot(self) -> PaceSnapshot:
        return PaceSnapshot(now=self.now, policy=PacePolicy(zone=ZONE), standings=dict(self.standings))


@dataclass
class Canvas:
    """Draws nothing, unless a test says what comes of it."""

    png: bytes | None = None
    text: str | None = None
    figures: list[Figure] = field(default_factory=list)

    async def picture(self, figure: Figure) -> bytes | None:
        self.figures.append(figure)
        return self.png

    async def letters(self, figure: Figure) -> str | None:
        self.figures.append(figure)
        return self.text


@dataclass
class Newsroom:
    """One process that posts; made again, it is another one on the same register."""

    store: Store
    folder: Path
    settings: str = ""
    started_at: float = 0.0
    files: bool = True
    now: float = 0.0
    board: Board = field(default_factory=Board)
    canvas: Canvas = field(default_factory=Canvas)
    reports: Any = None
    services: Any = None

    def __post_init__(self) -> None:
        paths = Paths.of({"MUSTER_HOME": str(self.folder), "HOME": str(self.folder)})
        paths.prepare()
        paths.muster_yaml.write_text(SETTINGS + self.settings)
        self.now = self.now or self.started_at
        self.services = ReportServices(
            clock=lambda: self.now,
            store=self.store,
            table=CommandTable(),
            operators=Operators(self.store, {}),
            events=EventHub(),
            started_at=self.started_at,
            capabilities=lambda _: Capabilities(files=self.files, html=True),
            settings=load(paths),
            main_room=lambda _: ("matrix", ROOM),
            paths=paths,
            pace=cast("PaceService", self.board),
            jobs=Jobs((), lambda: self.now),
            agents=cast("Agents", NoAgents()),
            delivery=cast("Delivery", SimpleNamespace(wake=lambda: None)),
        )
        self.reports = Reports(
            services=self.services, speaker=Composer(paths.outgoing), painter=self.canvas, folder=paths.outgoing
        )

    async def sweep(self, moment: str | float) -> None:
        """Look at what is due, as if it were then."""
        self.now = self.board.now = at(moment) if isinstance(moment, str) else moment
        await self.reports.sweep(self.now)

    async def posted(self) -> list[str]:
        """The texts of all that was posted, in order."""
        return [each.text for each in await self.said() if isinstance(each, Message)]

    async def pictures(self) -> list[File]:
        return [each for each in await self.said() if isinstance(each, File)]

    async def said(self) -> Sequence[Any]:
        async with self.store.read() as tx:
            keys = (await tx.execute(select(schema.outbox.c.key).order_by(schema.outbox.c.seq))).scalars().all()
            return [row.outbound.content for key in keys if (row := await outbox.get(tx, key)) is not None]

    async def schedule(self, kind: str, cron: str, *, set_at: str, zone: ZoneInfo = ZONE) -> None:
        """What `schedule set` does."""
        async with self.store.write(SETUP) as tx:
            row = ScheduleRow(kind=kind, cron=cron, zone=zone.key, set_by="matrix:@ana", set_at=at(set_at))
            await report_schedules.put(tx, row)

    async def spend(self, seq: int, moment: str, **said: Any) -> None:
        """A request that ended then."""
        ended = at(moment)
        async with self.store.write(SETUP) as tx:
            await usage_ledger.add(tx, [rows.row(seq, started_at=ended - 1, ended_at=ended, **said)])

    async def insert(self, table: Any, **values: Any) -> None:
        async with self.store.write(SETUP) as tx:
            await tx.execute(insert(table), [values])


def window(key: str = "account:main/7d", **said: Any) -> Window:
    """A week's quota from Monday the 23rd of November 2026, of which 40 percent are used."""
    begin = at("2026-11-23 00:00")
    plain: dict[str, Any] = {
        "key": key,
        "scope": key.split("/")[0],
        "unit": "share",
        "limit": 1.0,
        "begins_at": begin,
        "resets_at": begin + 7 * 86_400,
        "length_s": 7 * 86_400.0,
        "certainty": "provider",
        "used": 0.4,
        "used_at": begin,
    }
    return Window(**plain | said)
