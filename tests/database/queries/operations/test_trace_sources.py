"""Rows for traces are found once they ended, whatever the order in which they end."""

from __future__ import annotations

from sqlalchemy import delete, insert, update

from core.crash_points import declare
from database.engine.store import Store
from database.queries.operations import trace_positions, trace_sources
from database.queries.operations.trace_sources import INBOX
from database.queries.spending import usage_ledger
from database.queries.spending.usage_ledger import Copied
from database.schema import command_runs, inbox
from tests.database.queries.operations.test_restored_backup import some
from tests.database.queries.rows import row

STEP = declare("tests.trace_sources")
NOON = 1_800_000_000.0


async def test_an_event_that_ends_late_is_found_then(store: Store) -> None:
    async with store.write(STEP) as tx:
        for number in range(1, 5):
            body = {"type": "text", "text": "words"}
            await tx.execute(insert(inbox).values(some(inbox, f"${number}", state="new", body=body, sent_at=NOON)))
        found = await trace_sources.events(tx, after=0, limit=10)
        assert [(event.event_id, event.kind, event.ended) for event in found.rows] == [
            (f"${number}", "text", False) for number in range(1, 5)
        ]
        places = [event.place for event in found.rows]
        assert (found.until, found.is_full) == (places[-1], False)
        await trace_positions.wait_for(tx, INBOX, places)
        await trace_positions.wait_for(tx, INBOX, places)  # a second time changes nothing
    async with store.write(STEP) as tx:
        await tx.execute(update(inbox).where(inbox.c.seq == places[2]).values(state="done", handled_at=NOON))
        await tx.execute(delete(inbox).where(inbox.c.seq == places[0]))
        found = await trace_sources.events(tx, after=places[-1], limit=10)
        assert [event.place for event in found.rows] == [places[2]]
        assert (found.gone, found.until) == ((places[0],), None)
        await trace_positions.settle(tx, INBOX, [places[0], places[2]])
        assert (await trace_sources.events(tx, after=places[-1], limit=10)).rows == ()


async def test_a_page_that_is_full_says_so(store: Store) -> None:
    async with store.write(STEP) as tx:
        for number in range(3):
            await tx.execute(insert(inbox).values(some(inbox, f"${number}", state="done", sent_at=NOON)))
        found = await trace_sources.events(tx, after=0, limit=2)
        assert found.is_full
        assert found.until is not None
        assert not (await trace_sources.events(tx, after=found.until, limit=2)).is_full


async def test_requests_are_those_of_one_ledger(store: Store) -> None:
    async with store.write(STEP) as tx:
        await usage_ledger.add(tx, [row(1), row(2), row(3, id="two-3", ledger="two")])
        await usage_ledger.move(tx, Copied(ledger="one", entries=2), NOON)
        assert await trace_sources.ledgers(tx) == ["ledger/one"]
        assert (await trace_sources.ends(tx))["ledger/one"] == 2
        await trace_positions.wait_for(tx, "ledger/one", [1, 3])
        found = await trace_sources.requests(tx, "ledger/one", after=1, limit=10)
        assert [request.id for request in found.rows] == ["one-1", "one-2"]
        assert found.gone == (3,)


async def test_a_run_has_its_code_and_nothing_that_was_said(store: Store) -> None:
    async with store.write(STEP) as tx:
        reply = {"text": "words", "code": "agent.unknown"}
        for name, state in (("ended", "refused"), ("going", "running")):
            values = some(command_runs, name, state=state, reply=reply, arguments={"words": "words"})
            await tx.execute(insert(command_runs).values(values))
        found = await trace_sources.runs(tx, ["ended", "going", "nobody"])
        assert {name: run.code for name, run in found.items()} == {"ended": "agent.unknown"}
        assert "words" not in str(found)
        assert await trace_sources.known_runs(tx, ["ended", "going", "nobody"]) == {"ended", "going"}
