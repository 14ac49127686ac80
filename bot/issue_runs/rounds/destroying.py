"""The end of a run: its pull request was closed, so its agent and its clone are removed.

The commits stay in a git folder of their own for a while. Done again, it changes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from bot.agents.removal.service import AgentRemoval
from bot.issue_runs.rounds import text
from bot.issue_runs.rounds.kept_commits import KeptCommits
from bot.issue_runs.rounds.round_state import RoundContext, work_id
from bot.issue_runs.rounds.settle_step import withdraw_questions
from core.crash_points import declare
from core.errors import MusterError
from database.queries.agents import agents, runs
from database.queries.agents.agents import AgentRow
from database.queries.forge import issue_runs
from database.queries.forge.issue_runs import IssueRun
from fleet.errors import FleetError
from fleet.workspace import find, repository_refs

log = structlog.get_logger(__name__)

END_WORK: Final = declare("issues.end_work")
LOST: Final = declare("issues.lost")
FORGET: Final = declare("issues.forget")
DESTROY: Final = declare("issues.destroy")


@dataclass(frozen=True, slots=True)
class Destroying:
    """Removes what belongs to ended runs."""

    round: RoundContext

    async def destroy(self, run_id: str, *, keeps: bool = True) -> bool:
        """End a run and remove its agent; return whether it is done.

        Args:
            run_id: the run.
            keeps: whether the agent stays if its commits cannot be kept. It may have broken its clone.

        Raises:
            RegisterError: the register cannot be used.
        """
        services = self.round.services
        async with services.store.read() as tx:
            run = await issue_runs.get(tx, run_id)
            row = None if run is None else await agents.get(tx, run.agent)
            work = None if run is None else await runs.get(tx, work_id(run))
        if run is None or run.state == "destroyed":
            return True
        if work is not None and work.state in runs.OPEN:
            async with services.store.write(END_WORK) as tx:
                await services.runs.decide(tx, work, "stopped", "Its pull request was closed.")
            services.runs.after(work)
        is_ours = row is None or row.thread_key == run.thread_key
        if is_ours and not (await self._removed(run, row, keeps=keeps) and await self._forgotten(run)):
            return False
        kept = KeptCommits(self.round.ground(run), run)
        tip = await asyncio.to_thread(kept.tip)
        now = services.clock()
        async with services.store.write(DESTROY) as tx:
            await issue_runs.change(tx, run.id, only=issue_runs.ALIVE, state="destroyed", active_at=now, ended_at=now)
            await withdraw_questions(tx, services, run, "The run is over.")
            if tip is not None and tip != run.pushed_sha:
                words = text.kept(run, kept.place, kept.branch, self.round.link.settings.keep_commits)
                await self.round.tell(tx, run, f"{run.round}/kept", words)
        services.delivery.wake()
        log.info("round.destroyed", run=run.id, agent=run.agent)
        return True

    async def _removed(self, run: IssueRun, row: AgentRow | None, *, keeps: bool) -> bool:
        """End the agent and delete its clone, whose commits are taken over first. It may not have been launched yet."""
        services = self.round.services
        try:
            if row is not None:
                await services.agents.kill(row, discard=False)
            await self._kept(run, keeps=keeps)
            await asyncio.to_thread(self.round.ground(run).clone.remove, discard=True)
        except (FleetError, OSError) as error:
            log.warning("round.not_destroyed", run=run.id, agent=run.agent, reason=str(error))
            return False
        return True

    async def _kept(self, run: IssueRun, *, keeps: bool) -> None:
        try:
            await asyncio.to_thread(KeptCommits(self.round.ground(run), run).keep)
        except (FleetError, OSError) as error:
            if keeps:
                raise
            log.warning("round.commits_lost", run=run.id, agent=run.agent, reason=str(error))
            async with self.round.services.store.write(LOST) as tx:
                await self.round.tell(
                    tx, run, f"{run.round}/lost", text.lost(run, str(error), self.round.services.redact)
                )

    async def _forgotten(self, run: IssueRun) -> bool:
        """Delete the agent from the register, and then its private folder."""
        services = self.round.services
        async with services.store.write(FORGET) as tx:
            await agents.forget(tx, run.agent)
        if not await AgentRemoval(services).delete_folder(run.agent):
            folder = services.paths.agent_folder(run.agent)
            log.warning("round.folder_not_deleted", run=run.id, folder=str(folder))
            return False
        return True

    def forget_commits(self, run: IssueRun) -> None:
        """Let go of the commits of a run that ended long ago. Blocking."""
        KeptCommits(self.round.ground(run), run).forget()
        # Earlier versions kept them in the copy of the repository.
        repository = find(self.round.ground(run).mirror.place)
        if repository is None:
            return
        for name in (repository_refs.kept(run.agent), f"refs/heads/muster/{run.agent}"):
            at = repository_refs.commit(repository, name)
            if at is not None:
                try:
                    repository_refs.forget(repository, name, at)
                except MusterError as error:
                    log.warning("round.commits_stay", run=run.id, reason=str(error))
