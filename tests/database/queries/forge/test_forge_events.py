"""Events of a forge are written once, however often and in whatever groups they come."""

from __future__ import annotations

import random

from core.crash_points import declare
from database.engine.store import Store
from database.queries.forge import forge_events
from database.queries.forge.forge_events import ForgeEventRow

STEP = declare("tests.forge_events")


def event(number: int, *, forge: str = "git.example") -> ForgeEventRow:
    return ForgeEventRow(
        forge=forge, delivery=f"d-{number}", name="issues", repository="acme/app", number=number, sha=None,
        received_at=1.0,
    )  # fmt: skip


async def test_a_delivery_counts_once_in_whatever_groups_it_comes(store: Store, chance: random.Random) -> None:
    seen: set[str] = set()
    for _ in range(6):
        group = [event(chance.randrange(900)) for _ in range(chance.choice([0, 1, 2, 512]))]
        new = {each.delivery for each in group} - seen
        async with store.write(STEP) as tx:
            assert await forge_events.add(tx, group) == len(new)
        seen |= new
    async with store.write(STEP) as tx:
        assert await forge_events.add(tx, [event(1, forge="other.example")]) == 1
    async with store.read() as tx:
        assert await forge_events.count_waiting(tx, "git.example") == len(seen)
        assert {each.delivery for each in await forge_events.waiting(tx, limit=9_999)} == seen | {"d-1"}
