"""Of a chat system that is out of reach the others are told once, over restarts too, and when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select

from bot.messaging.agent_channel import AgentChannel
from bot.messaging.composer import Composer, MessagePlace
from bot.monitoring.connector_outages import PATIENCE_S, ConnectorOutages
from connectors.contract.messages import Capabilities, Health
from database import schema
from database.engine.store import Store
from tests.crash.deaths import die_at

ROOMS = (
    MessagePlace("matrix", conversation="!a"),
    MessagePlace("discord", conversation="1"),
    MessagePlace("terminal", conversation="fleet"),
)
WELL = Health(kind="memory", reachable=True, authenticated=True, last_seen=1.0, detail="fine")
REVOKED = Health(kind="memory", reachable=True, authenticated=False, last_seen=1.0, detail="The `token` is @ana's.")
LOST = Health(kind="memory", reachable=False, authenticated=True, last_seen=1.0, detail="No route.")
BROKEN = Health(kind="memory", reachable=None, authenticated=None, last_seen=None, detail="It fails to import.")
CLOSED = Health(kind="tmux", reachable=False, authenticated=True, last_seen=1.0, detail="The pane was closed.")


@dataclass
class Connectors:
    """What `ConnectorOutages` asks of the delivery, and the time."""

    known: dict[str, Health] = field(default_factory=lambda: dict.fromkeys(("matrix", "discord", "terminal"), WELL))
    now: float = 1_000_000.0

    async def health(self) -> dict[str, Health]:
        return self.known

    def wake(self) -> None:
        pass


@dataclass
class Desk:
    store: Store
    folder: Path
    connectors: Connectors = field(default_factory=Connectors)

    def begin(self) -> None:
        """As Muster does when it is started."""
        self.outages = ConnectorOutages(
            store=self.store,
            delivery=self.connectors,  # type: ignore[arg-type]
            channel=AgentChannel(
                speaker=Composer(self.folder),
                redaction=str,  # type: ignore[arg-type]
                capabilities=lambda _: Capabilities(),
                clock=lambda: self.connectors.now,
                time_of_day=str,
                prefix="!",
            ),
            rooms=ROOMS,
        )

    async def after(self, seconds: float, **changes: Health) -> list[tuple[str, str]]:
        """Look now, and again so much later. All that was told so far: connector and text."""
        self.connectors.known |= changes
        await self.outages.look()
        self.connectors.now += seconds
        await self.outages.look()
        return await told(self.store)


async def told(store: Store) -> list[tuple[str, str]]:
    async with store.read() as tx:
        rows = await tx.execute(
            select(schema.outbox.c.connector, schema.outbox.c.content).order_by(schema.outbox.c.seq)
        )
        return [(row.connector, row.content["text"]) for row in rows]


@pytest.fixture
async def desk(register_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    store = await Store.open(register_url)
    made = Desk(store, tmp_path)
    made.begin()
    yield made
    await store.close()


async def test_the_others_hear_of_it_once_and_when_it_is_back(desk: Desk) -> None:
    assert await desk.after(PATIENCE_S - 1, matrix=REVOKED) == []
    said = await desk.after(1)
    assert [name for name, _ in said] == ["discord", "terminal"]
    assert said[0][1] == (
        "🟠 The connector **matrix** is out: ``The `token` is @ana's.`` Messages to it wait; `!health` shows its state."
    )
    desk.begin()
    assert len(await desk.after(2 * PATIENCE_S, matrix=LOST)) == 2
    said = await desk.after(60, matrix=WELL)
    assert said[2:] == [
        (name, "✔ The connector **matrix** is there again, after 15 min.") for name in ("matrix", "discord", "terminal")
    ]
    assert len(await desk.after(2 * PATIENCE_S)) == 5


async def test_a_short_one_is_nobodys_concern(desk: Desk) -> None:
    assert await desk.after(PATIENCE_S - 1, matrix=LOST) == []
    assert await desk.after(1, matrix=WELL) == []
    assert await desk.after(PATIENCE_S - 1, matrix=LOST) == []


async def test_where_nobody_could_be_told_it_is_told_later(desk: Desk) -> None:
    assert await desk.after(PATIENCE_S, matrix=LOST, discord=LOST, terminal=LOST) == []
    said = await desk.after(60, discord=WELL, matrix=BROKEN)
    assert [(name, "**matrix** is out" in text or "**terminal** is out" in text) for name, text in said] == [
        ("discord", True),
        ("discord", True),
    ]


async def test_one_that_cannot_even_be_made_is_out(desk: Desk) -> None:
    said = await desk.after(PATIENCE_S, matrix=BROKEN)
    assert len(said) == 2
    assert "It fails to import." in said[0][1]


async def test_who_closes_a_pane_of_theirs_knows(desk: Desk) -> None:
    assert await desk.after(PATIENCE_S, terminal=CLOSED) == []


async def test_one_that_is_configured_no_more_is_forgotten(desk: Desk) -> None:
    assert len(await desk.after(PATIENCE_S, matrix=LOST)) == 2
    desk.begin()
    del desk.connectors.known["matrix"]
    assert len(await desk.after(60)) == 2
    assert [name for name, _ in (await desk.after(PATIENCE_S, matrix=LOST))[2:]] == ["discord", "terminal"]


def test_killed_at_this_place_an_outage_is_told_once(tmp_path: Path) -> None:
    async def act(health: Health) -> list[tuple[str, str]]:
        desk = Desk(await Store.open(f"sqlite:///{tmp_path}/register.db"), tmp_path)
        desk.begin()
        said = await desk.after(PATIENCE_S, matrix=health)
        await desk.store.close()
        return said

    for health, count in ((LOST, 2), (WELL, 5)):
        for side in ("before", "after"):
            die_at(f"outage.tell.{side}", lambda health=health: asyncio.run(act(health)))  # type: ignore[misc]
        assert len(asyncio.run(act(health))) == count
