"""The watchdog of issue runs: an agent of which nothing was heard for long is taken for lost.

Time in which somebody else is waited for does not count: a person, the pace, a limit, or the forge.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
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

#: For how long an agent's tools may not answer, and how often they are tried.
_PATIENCE_S: Final = 90.0
_PAUSE_S: Final = 20.0
_CONNECT_S: Final = 5.0


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


def tools_gone(answered: float | None, now: float) -> bool:
    """Return whether tools that answered at a time are taken for lost. Those that never did may not exist. Pure."""
    return answered is not None and now - answered >= _PATIENCE_S


@dataclass(slots=True)
class SilenceWatch:
    """Ends the work of silent agents, and of agents that can no longer say that they are done."""

    round: RoundContext
    _answered: dict[str, float] = field(default_factory=dict)
    """When the tools of a run's agent answered last. An agent may have none, such as one on pi."""

    async def look(self, run: IssueRun) -> None:
        """End the work of a run if its agent is silent for longer than muster.yaml says.

        Raises:
            RegisterError: the register cannot be used.
        """
        services = self.round.services
        limit = self.round.link.settings.silence
        now = services.clock()
        if run.state != "running":
            self._answered.pop(run.id, None)
            return
        if await self._lacks_tools(run, now):
            await self._end(run, "Its tools do not answer any more, so it could not say that it is done.")
            return
        if now - run.active_at < limit:
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
        if silent_for(facts, now) >= limit:
            await self._end(run, f"Nothing was heard of it for {markdown.span(limit)}.")

    async def _lacks_tools(self, run: IssueRun, now: float) -> bool:
        """Return whether the agent works, and its tools answered before, and do not for a while."""
        services = self.round.services
        async with services.store.read() as tx:
            work = await runs.get(tx, work_id(run))
            row = await agents.get(tx, run.agent)
        works = work is not None and work.state == "running" and work.ending is None
        # A host that is away is restarted, which is somebody else's part.
        if not works or row is None or (await services.agents.view_of(row.name)).status is None:
            self._answered.pop(run.id, None)
            return False
        answered = self._answered.get(run.id)
        if answered is not None and now - answered < _PAUSE_S:
            return False
        if await _answers(services.paths.tools_socket(run.agent)):
            self._answered[run.id] = now
            return False
        return tools_gone(answered, now)

    async def _end(self, run: IssueRun, why: str) -> None:
        services = self.round.services
        async with services.store.read() as tx:
            work = await runs.get(tx, work_id(run))
        if work is None:
            return
        log.warning("round.silent", run=run.id, agent=run.agent, reason=why)
        async with services.store.write(SILENT) as tx:
            await services.runs.decide(tx, work, "timed_out", why)
        services.runs.after(work)


async def _answers(path: Path) -> bool:
    """Return whether somebody listens at a socket."""
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_unix_connection(path)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
