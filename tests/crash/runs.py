"""A run begins once, its prompt reaches its agent once, and it ends once, as what it was first decided to end as."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from sqlalchemy import select

from bot.agents.journal.projection import Receipt
from bot.runs import beginning
from bot.runs.model import RunSettings
from bot.runs.service import Runs
from bot.text.errors import UserError
from core.crash_points import declare
from database.queries.agents import agent_messages, agents, runs
from database.queries.agents.runs import AgentRun
from database.schema import outbox as outbox_table
from tests.crash.deaths import Subject, both
from tests.crash.topics import NOON, Desk

STEP = declare("tests.runs")
ANSWERED, LATE = "0000aaaa", "0000bbbb"


class Office(Desk):
    """A desk where runs are begun and ended."""

    async def ready(self, folder: Path, now: float) -> Office:
        """Open it, with the runs that somebody asked for."""
        await self.open(folder, now)
        (folder / "ready").touch()
        self.runs = self.services.runs = Runs(self.services)

        async def withdraw(tx: object, message: object, *, end: bool) -> bool:
            del tx, message, end
            return True

        async def cost_of(**_: object) -> SimpleNamespace:
            return SimpleNamespace(tokens=20_000.0, usd=0.1)

        self.services.dispatcher = SimpleNamespace(wake=lambda: None, cost_of=cost_of)  # type: ignore[assignment]
        self.services.agents.withdraw = withdraw  # type: ignore[method-assign,assignment]
        self.services.roster = SimpleNamespace(entry=lambda _: None)  # type: ignore[assignment]
        async with self.store.write(STEP) as tx:
            for run_id, deadline in ((ANSWERED, None), (LATE, NOON + 50)):
                run = AgentRun(
                    id=run_id, source="cli", agent=f"run-{run_id}", role="coder", prompt=f"mend {run_id}",
                    settings=RunSettings(asked={"sandbox": "none", "workspace": str(folder)}).to_json(),
                    asked_by="memory:@ana", connector="memory", room="room", state="queued",
                    message=f"run-{run_id}-prompt", deadline=deadline, created_at=NOON,
                )  # fmt: skip
                await runs.add(tx, run)
        return self

    async def heard_of(self, run_id: str, *states: str) -> None:
        """Follow the journal of a run's agent to where its turn has come so far."""
        channel = self.channel
        object.__setattr__(channel, "told", self.runs.receipt)
        for state in states:
            async with self.store.write(STEP) as tx:
                row = await agents.get(tx, f"run-{run_id}")
                assert row is not None
                await channel.carry_out(tx, row, Receipt(f"run-{run_id}-prompt", state, "t1"))


async def lived(folder: Path) -> None:
    """Two runs wait for room, begin, and end: one with its answer, and one as its time is over."""
    office = await Office().ready(folder, NOON)

    async def full(*_: object, **__: object) -> None:
        raise UserError("all accounts are in use", code="account.full")

    with patch.object(beginning, "settle", full):
        await office.runs.look()
    await office.store.close()

    office = await Office().ready(folder, NOON + 40)
    await office.runs.look()
    await office.heard_of(ANSWERED, "journaled", "accepted", "finished")
    await office.heard_of(LATE, "journaled", "accepted")
    await office.runs.look()
    await office.store.close()

    office = await Office().ready(folder, NOON + 60)
    await office.runs.look()
    await office.heard_of(LATE, "cancelled")
    await office.runs.look()
    await office.store.close()


async def ended_once(folder: Path) -> None:
    office = await Office().ready(folder, NOON + 100)
    async with office.store.read() as tx:
        found = {run.id: run for run in await runs.last_ended(tx, limit=10)}
        assert {run_id: run.state for run_id, run in found.items()} == {ANSWERED: "done", LATE: "timed_out"}
        every = await agents.every(tx)
        assert [(row.name, row.wanted) for row in every] == [(f"run-{each}", "frozen") for each in (ANSWERED, LATE)]
        said = await agent_messages.in_states(tx, ["finished"])
        assert sorted(each.text for each in said) == [f"mend {each}" for each in (ANSWERED, LATE)]
        rows = (await tx.execute(select(outbox_table.c.content))).all()
    await office.store.close()
    for sign in (f"Run `{ANSWERED}` is done", f"Run `{LATE}` timed out"):
        assert sum(sign in str(content) for (content,) in rows) == 1, sign


PLACES = both("runs.hold", "runs.begin", "runs.stop", "runs.end")
#: Each process dies at one of them, and at all of them one after the other.
RUNS = Subject(script=lived, invariant=ended_once, walks=[PLACES, *((place,) for place in PLACES)])
