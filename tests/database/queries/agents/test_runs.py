"""A run is there once, ends once, and is forgotten long after it ended."""

from __future__ import annotations

from dataclasses import replace

from core.crash_points import declare
from database.engine.store import Store
from database.queries.agents import runs
from database.queries.agents.runs import AgentRun, run_of

STEP = declare("tests.run-rows")
NOW = 1_800_000_000.0
RUN = AgentRun(
    id="1a2b3c4d", source="github.com", reference="owner/repo#17", agent="coder", role="coder", prompt="mend 'it' #1",
    settings={"asked": {}}, color="cyan", asked_by="local:ana", connector="memory", room="room", state="queued",
    message="run-1a2b3c4d-prompt", created_at=NOW,
)  # fmt: skip


async def test_a_reference_has_one_run_and_runs_without_one_are_many(store: Store) -> None:
    async with store.write(STEP) as tx:
        assert await runs.add(tx, RUN)
        assert not await runs.add(tx, replace(RUN, id="9f8e7d6c"))
        for run_id in ("00000001", "00000002"):
            assert await runs.add(tx, replace(RUN, id=run_id, reference=None, color=None, created_at=NOW + 1))
        assert await runs.add(tx, replace(RUN, id="00000003", source="codeberg.org"))
    async with store.read() as tx:
        assert await runs.get(tx, RUN.id) == RUN
        assert len(await runs.open_ones(tx, agent="coder")) == 4
        assert [each.id for each in await runs.begins_with(tx, "0000000", limit=2)] == ["00000001", "00000002"]
        assert await runs.colors(tx, [RUN.id, "00000001", "none"]) == {RUN.id: "cyan"}


async def test_it_ends_as_what_was_decided_first(store: Store) -> None:
    async with store.write(STEP) as tx:
        await runs.add(tx, RUN)
        assert await runs.end_begun(tx, RUN.id, "timed_out", detail="Its time was over.")
        assert not await runs.end_begun(tx, RUN.id, "done")
        assert await runs.change(tx, RUN.id, only=runs.OPEN, state="timed_out", ended_at=NOW)
        assert not await runs.change(tx, RUN.id, only=runs.OPEN, state="done")
        assert not await runs.end_begun(tx, RUN.id, "stopped")
    async with store.write(STEP) as tx:
        assert await runs.open_ones(tx) == []
        (run,) = await runs.last_ended(tx, limit=5)
        assert (run.state, run.ending, run.detail) == ("timed_out", "timed_out", "Its time was over.")
        assert await runs.forget(tx, NOW) == 0
        assert await runs.forget(tx, NOW + 1) == 1


def test_a_launch_tells_its_run() -> None:
    assert run_of("run-1a2b3c4d") == run_of("run-1a2b3c4d-try-2") == "1a2b3c4d"
    assert run_of("5f1c") is None
