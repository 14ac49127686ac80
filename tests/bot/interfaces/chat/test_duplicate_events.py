"""Two connectors that are in one room read everything twice, and it counts once."""

from __future__ import annotations

from bot.config.schema import ConnectorSettings
from bot.interfaces.chat.duplicate_events import DuplicateEvents
from connectors.contract.connector_registry import NoSettings
from connectors.contract.messages import Batch, Inbound, Text
from connectors.delivery import inbox
from connectors.delivery.inbox import Arrival
from connectors.matrix.settings import MatrixSettings
from core.crash_points import declare
from database.engine.store import Store

STEP = declare("tests.overlap")


def matrix(name: str, room: str | None = None) -> ConnectorSettings:
    settings = MatrixSettings.model_construct(user=f"@{name}:x")
    return ConnectorSettings(name=name, kind="matrix", settings=settings, fleet_room=room)


def said(event: str, room: str, sender: str = "@ana:x", parent: str | None = None) -> Inbound:
    return Inbound(
        connector="?",
        event_id=event,
        conversation=room,
        parent=parent,
        sender=sender,
        sent_at=1.0,
        body=Text(text="x"),
    )


async def test_what_two_read_is_one_connectors_business(store: Store) -> None:
    terminal = ConnectorSettings(name="terminal", kind="terminal", settings=NoSettings())
    overlap = DuplicateEvents.of(
        (matrix("day", "#fleet:x"), matrix("night", "!night"), terminal),
        lambda _, room: room.replace("#fleet:x", "!fleet"),
    )
    events = (
        said("$1", "!fleet"),
        said("$2", "!night/thread", parent="!night"),
        said("$3", "!elsewhere"),
        said("$4", "!elsewhere", sender="@day:x"),
    )
    async with store.write(STEP) as tx:
        for name in ("night", "day", "terminal"):
            await inbox.accept(tx, name, Batch(events=events, cursor=None), 1.0)
    async with store.read() as tx:
        arrivals = [Arrival.from_row(row) for row in await inbox.unhandled(tx, after=0)]
        found = {(each.inbound.connector, each.inbound.event_id): await overlap.why_not(tx, each) for each in arrivals}
    assert found == {
        ("night", "$1"): "day reads this room",
        ("day", "$1"): None,
        ("night", "$2"): None,
        ("day", "$2"): "night reads this room",
        ("night", "$3"): None,
        ("day", "$3"): "night read it already",
        ("night", "$4"): "said by Muster itself",
        ("day", "$4"): "said by Muster itself",
        **{("terminal", event.event_id): None for event in events},
    }
