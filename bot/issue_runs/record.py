"""The record of a run, from what the register knows."""

from __future__ import annotations

from datetime import UTC, datetime

from bot.issue_runs.services import IssueServices
from database.queries.agents import agents
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from forge.provenance.operation_lines import read_line
from forge.provenance.record import ProvenanceRecord, RunEnding


async def record_of(services: IssueServices, run: IssueRun) -> ProvenanceRecord:
    """Return the record of a run as it stands."""
    async with services.store.read() as tx:
        run = await issue_runs.get(tx, run.id) or run
        row = await agents.get(tx, run.agent)
    if run.state in ("queued", "running") and run.signal is None:
        ending = RunEnding.WORKING
    else:
        ending = RunEnding.WATCHDOG if run.signal is None else RunEnding.SIGNALLED
    return ProvenanceRecord(
        agent=run.agent,
        role=run.role,
        runtime="unknown" if row is None else row.runtime,
        models=() if row is None else tuple(filter(None, (row.model_answering or row.model,))),
        sandboxes=tuple(run.sandboxes),
        run=run.id,
        started=datetime.fromtimestamp(run.created_at, UTC),
        duration_s=max(0, int(services.clock() - run.created_at)),
        ending=ending,
        operations=tuple(filter(None, map(read_line, run.operations))),
    )
