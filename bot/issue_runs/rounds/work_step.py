"""The step *work*: the agent of a run gets a prompt, and its turn is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.issue_runs.rounds import places, prompts, text
from bot.issue_runs.rounds.push_place import push_place
from bot.issue_runs.rounds.round_state import RoundContext, in_git_thread, order_key, work_id
from bot.issue_runs.rounds.workspace import EarlierWork
from bot.issue_runs.turn_facts import read_facts
from bot.runs import beginning
from bot.runs.model import RunSettings, asked_by_name
from core.crash_points import declare
from database.queries.agents import agents, runs, tool_calls
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun
from database.queries.forge import forge_orders, issue_runs
from database.queries.forge.issue_runs import IssueRun, IssueWake
from fleet.errors import FleetError
from fleet.sandbox.profiles import JOINS
from forge.model.errors import ForgeAway, ForgeError
from forge.model.references import RepositoryName
from forge.runs.order_book import ActAgain, Acted
from forge.runs.round import RoundStep, WorkResult

NAME: Final = declare("issues.name")
WORK: Final = declare("issues.work")

_RESULTS: Final = {
    "done": None,
    # What the watchdog ends.
    "timed_out": None,
    "failed": WorkResult.FAILED,
    "stopped": WorkResult.STOPPED,
    "limit": WorkResult.LIMITED,
}
#: Seconds until a signal is dealt with that came at the end of a turn.
_SIGNAL_S: Final = 1.0
#: Seconds until a place is looked for again, after others began meanwhile.
_PLACE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class WorkStep:
    """Begins the agent's work of a round, and tells its outcome."""

    round: RoundContext

    async def act(self, run: IssueRun) -> Acted | ActAgain:
        """Go on with the step.

        Raises:
            ForgeAway: the forge does not respond.
            RegisterError: the register cannot be used.
        """
        services = self.round.services
        async with services.store.read() as tx:
            work = await self.round.work_of(tx, run)
            wakes = [wake for wake in await issue_runs.wakes(tx, run.id) if wake.round == run.round]
            signals = work is not None and await _signals(tx, run)
            before = await _before(tx, run) if wakes and all(wake.kind == "retry" for wake in wakes) else None
        if work is None:
            if before in (WorkResult.SIGNALLED, WorkResult.SILENT):
                return Acted(_signalled(run).value)
            return await self._begin(run)
        if work.state in runs.OPEN:
            return ActAgain("Its agent works.")
        if signals:
            return ActAgain("Its agent signals.", _SIGNAL_S)
        gone = work.state == "failed" and await asyncio.to_thread(self._is_gone, work)
        return _outcome(run, work, is_gone=gone)

    def _is_gone(self, work: AgentRun) -> bool:
        """Return whether the agent's host or runtime died in its turn, and did not come back. Blocking."""
        folder = self.round.services.paths.agent_folder(work.agent)
        return read_facts(folder, work.message, work.turn_ended_at or work.ended_at).is_cut

    async def _begin(self, run: IssueRun) -> Acted | ActAgain:
        services = self.round.services
        try:
            async with services.store.read() as tx:
                row = await agents.get(tx, run.agent)
            resumes = run.round > 1 and row is not None and row.wanted == "frozen"
            if row is not None and row.thread_key != run.thread_key:
                run = await self._renamed(run)
                row, resumes = None, False
            run = run if resumes else await self._ground(run, row)
            async with services.store.read() as tx:
                summary = await _summary(tx, run)
                wakes = await _unread(tx, run, resumes=resumes)
            if run.base_branch is not None and any(wake.kind == "conflict" for wake in wakes):
                # What the agent is to rebase onto has to be in the copy that it fetches from.
                await in_git_thread(partial(self.round.ground(run).update, run.base_branch))
            named = {} if resumes else await asyncio.to_thread(self._named, run)
        except ForgeAway:
            raise
        except (ForgeError, FleetError) as error:
            return _ended(run.id, WorkResult.FAILED, str(error))
        if resumes:
            prompt = prompts.again(run, wakes)
        else:
            prompt = prompts.first(run) if run.round == 1 else prompts.for_new_agent(run, wakes, summary)
        async with services.store.write(WORK) as tx:
            if not await places.has_one(tx, run) and await places.taken(tx) >= self.round.link.settings.runs:
                return ActAgain("It waits for a place.", _PLACE_S)
            await runs.add(tx, self._work(run, prompt, named, resumes=resumes))
            values = {"base_branch": run.base_branch, "base_sha": run.base_sha, "active_at": services.clock()}
            await issue_runs.change(tx, run.id, only=["running"], **values)
            if wakes:
                await self.round.tell(tx, run, f"{run.round}/woken", text.woken(run, wakes))
        services.runs.wake()
        return ActAgain("Its agent works.")

    async def _renamed(self, run: IssueRun) -> IssueRun:
        """Give the run another agent: somebody launched one of this name meanwhile."""
        services = self.round.services
        roster = await asyncio.to_thread(services.planner.read_roster)
        async with services.store.write(NAME) as tx:
            name = await beginning.fresh_name(tx, services, run.agent, [entry.name for entry in roster.agents])
            await issue_runs.change(tx, run.id, only=["running"], agent=name)
        return replace(run, agent=name)

    async def _ground(self, run: IssueRun, row: AgentRow | None) -> IssueRun:
        """Make the clone of an agent that has not begun."""
        link, ground = self.round.link, self.round.ground(run)
        base = run.base_branch
        if base is None:
            base = (await link.client.repository(RepositoryName.parse(run.repository))).default_branch
        # A fork that cannot be made is told before the agent works.
        place = await push_place(link, run)
        pushed = None
        if run.branch is not None and run.pushed_sha is not None:
            pushed = EarlierWork(place=place, branch=run.branch, sha=run.pushed_sha)
        sandboxed = self.round.services.planner.sandbox_kind(JOINS.join(run.sandboxes)) != "none"
        sha = run.base_sha
        if row is None or not ground.clone.place.exists():
            sha = await in_git_thread(partial(ground.prepare, base, sandboxed=sandboxed, pushed=pushed))
        return replace(run, base_branch=base, base_sha=sha)

    def _named(self, run: IssueRun) -> dict[str, str]:
        """Return what the name in the label asks for. Blocking."""
        return asked_by_name(run.role, self.round.services.planner.read_roster().get(run.role))

    def _work(self, run: IssueRun, prompt: str, named: Mapping[str, str], *, resumes: bool) -> AgentRun:
        reference = run.reference
        asked = {
            **named,
            "sandbox": JOINS.join(run.sandboxes),
            "workspace": str(self.round.ground(run).mirror.place),
        }
        settings = RunSettings(asked={} if resumes else asked, thread=run.thread_key)
        ident = work_id(run)
        return AgentRun(
            id=ident,
            source=run.forge,
            reference=reference if run.round == 1 else f"{reference} round {run.round}",
            agent=run.agent,
            role=run.role,
            prompt=prompt,
            settings=settings.to_json(),
            resumes=resumes,
            asked_by=run.picked_by if ":" in run.picked_by else f"forge:{run.picked_by}",
            connector=run.connector,
            room=run.room,
            state="queued",
            message=f"run-{ident}-prompt",
            created_at=self.round.services.clock(),
        )


async def _before(tx: AsyncConnection, run: IssueRun) -> str | None:
    """Return how the work of the round before ended; None if it was not done."""
    order = await forge_orders.get(tx, order_key(run.id, run.round - 1, RoundStep.WORK))
    return None if order is None or order.outcome is None else str(order.outcome["is"])


async def _unread(tx: AsyncConnection, run: IssueRun, *, resumes: bool) -> list[IssueWake]:
    """Return why the run goes on, with what earlier rounds could not bring to the agent that works now.

    Args:
        tx: a transaction.
        run: the run.
        resumes: the agent goes on with its conversation, so it knows the prompts that it got.
    """
    first = run.round
    while first > 1:
        work = await runs.get(tx, f"{run.id}-{first - 1}")
        if work is not None and (work.started_at is not None if resumes else work.state == "done"):
            break
        first -= 1
    return [wake for wake in await issue_runs.wakes(tx, run.id) if wake.round is not None and wake.round >= first]


async def _signals(tx: AsyncConnection, run: IssueRun) -> bool:
    """Return whether the agent signalled at the end of its turn, and that was not dealt with yet."""
    waiting = await tool_calls.open_calls(tx)
    return any((each.agent, each.tool, each.state) == (run.agent, "signal_done", "pending") for each in waiting)


async def _summary(tx: AsyncConnection, run: IssueRun) -> str:
    """Return what the agent said of its work last."""
    if run.signal is not None:
        return str(run.signal.get("summary", ""))
    for number in range(run.round - 1, 0, -1):
        work = await runs.get(tx, f"{run.id}-{number}")
        if work is not None and work.answer:
            return work.answer
    return ""


def _signalled(run: IssueRun) -> WorkResult:
    return WorkResult.SIGNALLED if run.signal is not None else WorkResult.SILENT


def _outcome(run: IssueRun, work: AgentRun, *, is_gone: bool) -> Acted:
    """Return what the work came to. What an agent committed before it died counts as that of a silent one."""
    result = _RESULTS[work.state]
    if result is None or (result is WorkResult.FAILED and (is_gone or run.signal is not None)):
        return Acted(_signalled(run).value)
    return _ended(run.id, result, work.detail or f"Its agent's work ended: {work.state}.")


def _ended(run_id: str, result: WorkResult, why: str) -> Acted:
    """Return that the work ended otherwise than by the agent, with the reason for the run's row."""

    async def also(tx: AsyncConnection) -> None:
        await issue_runs.change(tx, run_id, only=issue_runs.ACTIVE, detail=why)

    return Acted(result.value, also)
