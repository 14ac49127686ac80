"""The record of a run for its posts at the forge: gathered from the register, then made. The making is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from bot.issue_runs.services import IssueServices
from database.queries.agents import agents, runs
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from database.queries.forge.issue_runs import IssueRun
from fleet.sandbox.profiles import JOINS
from forge.provenance import naming
from forge.provenance.operation_lines import read_line
from forge.provenance.record import (
    ProvenanceRecord,
    RecordedApproval,
    RunEnding,
    SecretScan,
)

_CENT: Final = Decimal("0.000001")


@dataclass(frozen=True, kw_only=True, slots=True)
class GatheredRun:
    """What the register knows of one round."""

    run: IssueRun
    round: int
    work: AgentRun | None
    agent: AgentRow | None
    answered: Sequence[Approval] = ()
    names: Mapping[str, str]
    """Public names of people, by identity."""
    is_pushed: bool


async def gather(
    services: IssueServices, run: IssueRun, work: AgentRun | None, *, names: Mapping[str, str]
) -> GatheredRun:
    """Read what the record of the current round says.

    Raises:
        RegisterError: the register cannot be read.
    """
    async with services.store.read() as tx:
        agent = await agents.get(tx, run.agent)
        since = run.created_at if work is None else (work.started_at or work.created_at)
        asked = [each for each in await approvals.asked_since(tx, since, 50) if each.agent == run.agent]
        current = None if work is None else await runs.get(tx, work.id)
    return GatheredRun(
        run=run,
        round=run.round,
        work=current,
        agent=agent,
        answered=[each for each in asked if each.answer is not None],
        names=names,
        is_pushed=run.pushed_sha is not None,
    )


def record_of(gathered: GatheredRun) -> ProvenanceRecord:
    """Return the record of a round."""
    run, work, agent = gathered.run, gathered.work, gathered.agent
    began = run.created_at if work is None else (work.started_at or work.created_at)
    ended = None if work is None else work.turn_ended_at or work.ended_at
    models = () if agent is None else tuple(filter(None, (agent.model_answering or agent.model,)))
    usd = None if work is None or work.usd is None else Decimal(work.usd).quantize(_CENT)
    sandboxes = tuple(run.sandboxes) if agent is None else tuple(agent.sandbox.split(JOINS))
    return ProvenanceRecord(
        agent=run.agent,
        role=run.role,
        runtime="unknown" if agent is None else agent.runtime,
        models=models,
        sandboxes=sandboxes,
        run=f"{run.id}/{gathered.round}",
        started=datetime.fromtimestamp(began, UTC),
        duration_s=None if ended is None else max(0, int(ended - began)),
        tokens_actual=None if work is None or work.tokens is None else int(work.tokens),
        cost_actual=usd,
        # Nothing is pushed that the search found something in, or that it did not search.
        secret_scan=SecretScan.CLEAN if gathered.is_pushed else SecretScan.NOT_RUN,
        ending=RunEnding.SIGNALLED if run.signal is not None else RunEnding.WATCHDOG,
        operations=tuple(filter(None, map(read_line, run.operations))),
        approvals=tuple(_approval(each, gathered.names) for each in gathered.answered),
    )


def _approval(approval: Approval, names: Mapping[str, str]) -> RecordedApproval:
    by = str((approval.answer or {}).get("by", ""))
    return RecordedApproval(request=approval.title, by=naming.public_name(by, names))
