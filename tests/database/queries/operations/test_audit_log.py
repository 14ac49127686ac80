"""The audit is read by time and by what was done."""

from __future__ import annotations

from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import audit_log

STEP = declare("test.audit_log")
NOON = 1_700_000_000.0


async def test_lines_about_some_actions_are_read_newest_first(store: Store) -> None:
    async with store.write(STEP) as tx:
        for number, action in enumerate(("limit", "cutoff", "launch", "limit", "restore")):
            await audit_log.add(
                tx, key=f"k{number}", at=NOON + number, identity="egress", door="egress", action=action, outcome="done"
            )
    async with store.read() as tx:
        found = await audit_log.of_actions(tx, ("limit", "restore"), NOON + 1, limit=10)
        last = await audit_log.of_actions(tx, ("limit", "restore"), NOON, limit=1)
        none = await audit_log.of_actions(tx, (), NOON, limit=10)
    assert [(each.action, each.at) for each in found] == [("restore", NOON + 4), ("limit", NOON + 3)]
    assert [each.action for each in last] == ["restore"]
    assert none == []
