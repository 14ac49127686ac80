"""The watchdog of issue runs: an agent of which nothing was heard for long is taken for lost.

Time in which somebody else is waited for does not count: a person, the pace, a limit, or the forge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import structlog

from bot.issue_runs.rounds.round_state import RoundContext, work_id
from bot.text import markdown
from core.crash_points import declare
from database.queries.agents import agents, auto_resume, runs
from database.queries.agents.runs import AgentRun
from database.queries.chat import approvals
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun

log = structlog.get_logger(__name__)

SILENT: Final = declare("issues.silent")


@dataclass(frozen=True, kw_only=True, slots=True)
class SilenceFacts:
    """What is known of a run's agent."""

    work: AgentRun | None
    event_at: float | None
    """When its agent did something last, as far as known."""
    heard_at: float
    """When something else happened to the run: a wake, an operation of its agent, the begin of the round."""
    is_waiting: bool
    """A person or a limit is waited for."""


def silent_for(facts: SilenceFacts, now: float) -> float:
    """Return for how many seconds a run is silent; 0 if it is not to be heard of now. Pure."""
    work = facts.work
    if work is None or work.state != "running" or work.ending is not None or facts.is_waiting:
        return 0.0
    heard = (facts.event_at, facts.heard_at, work.started_at)
    return max(0.0, now - max(at for at in heard if at is not None))


@dataclass(slots=True)
class SilenceWatch:
    """Ends the work of silent agents."""

    round: RoundContext

    async def look(self, run: IssueRun) -> None:
        """End the work of a run if its agent is silent for longer than muster.yaml says.

        Raises:
            RegisterError: the register cannot be used.
        """
        services = self.round.services
        limit = self.round.link.settings.silence
        now = services.clock()
        if run.state != "running" or now - run.active_at < limit:
            return
        async with services.store.read() as tx:
            work = await runs.get(tx, work_id(run))
            row = await agents.get(tx, run.agent)
            asks = await approvals.in_states(tx, ["pending", "answering"], agent=run.agent)
            stopped = await auto_resume.waiting(tx, agent=run.agent)
            wakes = await issue_runs.wakes(tx, run.id)
        event_at = None
        if row is not None:
            status = (await services.agents.view_of(row.name)).status
            event_at = None if status is None else (status.event_at or status.turn_started_at)
        facts = SilenceFacts(
            work=work,
            event_at=event_at,
            heard_at=max((run.active_at, *(wake.at for wake in wakes))),
            is_waiting=bool(asks or stopped),
        )
        if work is None or silent_for(facts, now) < limit:
            return
        log.warning("round.silent", run=run.id, agent=run.agent)
        async with services.store.write(SILENT) as tx:
            await services.runs.decide(tx, work, "timed_out", f"Nothing was heard of it for {markdown.span(limit)}.")
        services.runs.after(work)
