"""A fake Discord, and a register with a delivery and our connector before it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from connectors.contract.messages import Batch, Health, Inbound
from connectors.delivery import inbox
from connectors.delivery.service import Delivery
from connectors.discord import gateway_session
from connectors.discord.connector import DiscordConnector
from connectors.discord.read_cursor import ReadCursor
from connectors.discord.settings import DiscordSettings
from database import schema
from tests.connectors.delivery.fake_room import STEP, Office
from tests.connectors.delivery.fake_room import opened as office_opened
from tests.connectors.discord.fake_server_state import World
from tests.connectors.discord.server import serving


@dataclass
class Desk:
    """A fake Discord and an office that speaks there."""

    world: World
    api: str
    folder: Path
    office: Office

    def connector(self, **settings: Any) -> DiscordConnector:
        """A new one, as after a restart of Muster; what it keeps is in the same folder."""
        return connector(self.world, self.api, self.folder, **settings)

    @contextlib.asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[Delivery]:
        """Deliver for the length of the block."""
        made = self.connector(**settings)
        async with self.office.open({"discord": made}) as delivery:
            async with asyncio.timeout(20):
                await made.connected()
            yield delivery

    @contextlib.asynccontextmanager
    async def office_without_waiting(self, **settings: Any) -> AsyncIterator[None]:
        """Deliver where the connector is not expected to come up."""
        async with self.office.store.write(STEP) as tx:
            await inbox.accept(tx, "discord", Batch(events=(), cursor=ReadCursor(floor=0).encode()), 1.0)
        async with self.office.open({"discord": self.connector(**settings)}):
            yield

    async def cursor(self) -> str:
        """How far was read, as the register has it."""
        async with self.office.store.read() as tx:
            found = await inbox.cursor(tx, "discord")
        assert found is not None
        return found

    async def arrived(self) -> list[Inbound]:
        """What is in the inbox, in the order in which it came."""
        async with self.office.store.read() as tx:
            rows = await tx.execute(select(schema.inbox).order_by(schema.inbox.c.seq))
            return [inbox.Arrival.from_row(row).inbound for row in rows]

    @property
    def room(self) -> str:
        return str(self.world.channel.id)

    async def health(self, true: Callable[[Health], bool]) -> Health:
        """Wait until the health says so."""
        assert self.office.delivery is not None
        async with asyncio.timeout(20):
            while True:
                found = (await self.office.delivery.health())["discord"]
                if true(found):
                    return found
                await asyncio.sleep(0.02)


def connector(world: World, api: str, folder: Path, **settings: Any) -> DiscordConnector:
    """A connector to a fake Discord."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text("t0ken")
    given = {"token": f"file:{folder / 'token'}", "guild": world.guild, "channel": world.channel.id, "api": api}
    services = {key: settings.pop(key) for key in ("commands", "may_read", "clock") if key in settings}
    return DiscordConnector("discord", DiscordSettings.model_validate(given | settings), folder, **services)


@pytest.fixture(autouse=True)
def no_pause_before_identifying(monkeypatch: pytest.MonkeyPatch) -> None:
    """discord.py waits five seconds before each identification but the first."""

    async def at_once(_: object, shard_id: int | None, *, initial: bool = False) -> None:
        pass

    monkeypatch.setattr(gateway_session.GatewaySession, "before_identify_hook", at_once)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with serving() as (world, api), office_opened(f"sqlite:///{tmp_path / 'register.db'}") as office:
        office.name = "discord"
        yield Desk(world=world, api=api, folder=tmp_path / "discord", office=office)
        assert not world.loud, "the bot pings nobody, in whatever way it speaks"
