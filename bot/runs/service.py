"""The running part of runs: it begins and ends them, whatever becomes of those who asked for them.

Everything that must survive is in the register. A run is *queued* until one transaction launches its agent, and has an
`ending` from the transaction that records the end of its turn, or that cancels it. The last transaction ends it and
freezes its agent. Each happens once, in whichever process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal.projection import frozen_as
from bot.pacing.window_loader import weigh
from bot.runs import beginning
from bot.runs import text as run_text
from bot.runs.answer import AnswerReader
from bot.runs.model import BeginRun, EndRun, SettleRun, ending_of, is_limit, next_step
from bot.runs.services import RunServices
from bot.tasks.settlement import is_counted
from budget.tokens import Weights
from core.async_waits import set_within
from core.crash_points import declare
from core.errors import MusterError, RegisterError, is_away
from database.queries.agents import agent_messages, agents, auto_resume, runs
from database.queries.agents.agent_messages import UNDERWAY
from database.queries.agents.agents import AgentRow
from database.queries.agents.runs import AgentRun, RunEnding
from database.queries.spending import usage_queries

log = structlog.get_logger(__name__)

STOP = declare("runs.stop")
END = declare("runs.end")

#: Seconds between two looks while runs are open, and at most between looks for deadlines.
LOOK_EVERY_S: Final = 1.0
#: The minimum time between two looks; seconds.
_LEAST_S: Final = 0.2
#: Characters of an answer that are kept in the register.
LONGEST_ANSWER: Final = 20_000
#: The egress and the agent host share a clock, but write their rows at different times. Seconds.
_APART_S: Final = 10.0


@dataclass(slots=True)
class Runs:
    """Begins and ends runs (`bot.runs.ports.RunsPort`)."""

    services: RunServices
    on_ended: list[Callable[[AgentRun], None]] = field(default_factory=list)
    """Called with each run that ended, after the commit. A crash may prevent the call."""
    _due: asyncio.Event = field(default_factory=asyncio.Event)
    _are_open: bool = True
    """Whether there may be runs that have not ended."""
    _again_at: dict[str, float] = field(default_factory=dict)
    """When runs are looked at again of which a step failed in a way that nobody foresaw."""

    def wake(self) -> None:
        """Look for runs that begin or end now."""
        self._are_open = True
        self._due.set()

    def heard(self) -> None:
        """Look soon after news of an agent, if there are runs."""
        if self._are_open:
            self._due.set()

    async def run(self) -> None:
        """Keep all runs going, until cancelled."""
        while True:
            self._due.clear()
            try:
                await self.look()
            except RegisterError as error:
                log.info("runs.not_looked_at", reason=str(error))
                await self.services.store.rest(1.0)
            except Exception as error:
                if not is_away(error):
                    log.exception("runs.failed")
                self._are_open = True
            await asyncio.sleep(_LEAST_S)
            await set_within(self._due, LOOK_EVERY_S if self._are_open else None)

    async def look(self) -> None:
        """Take the next step of each run that has not ended. One whose step fails keeps no other from its own.

        Raises:
            RegisterError: the register cannot be used.
        """
        async with self.services.store.read() as tx:
            found = await runs.open_ones(tx)
        self._are_open = bool(found)
        now = self.services.clock()
        open_ids = {run.id for run in found}
        self._again_at = {run_id: at for run_id, at in self._again_at.items() if run_id in open_ids and at > now}
        for run in found:
            if run.id in self._again_at:
                continue
            try:
                await self._step(run)
            except RegisterError:
                raise
            except Exception as error:
                if is_away(error):
                    raise
                log.exception("run.failed", run=run.id, agent=run.agent)
                self._again_at[run.id] = now + beginning.TRY_AGAIN_S

    async def _step(self, run: AgentRun) -> None:
        async with self.services.store.read() as tx:
            row = await agents.get(tx, run.agent) if run.resumes or run.state == "running" else None
            message = await agent_messages.get(tx, run.message)
        if row is not None and not self.services.agents.is_ours(row):
            return  # its own Muster sees to it when it leads again
        match next_step(run, row, message, self.services.clock()):
            case BeginRun():
                await self._begin(run)
            case EndRun(ending="timed_out") if await asyncio.to_thread(self._has_answered, run):
                pass  # its turn ended while nobody read its journal, which tells how
            case EndRun(ending=ending, detail=detail):
                await self.end(run, ending, detail)
            case SettleRun():
                await self._settle(run)

    async def _begin(self, run: AgentRun) -> None:
        try:
            if await beginning.begin(self.services, run):
                log.info("run.begun", run=run.id, agent=run.agent)
        except RegisterError:
            raise
        except (MusterError, OSError) as error:
            log.warning("run.not_begun", run=run.id, agent=run.agent, reason=str(error))
            await self.end(run, "failed", str(error))

    # --- ending -------------------------------------------------------------------------------------------------

    async def receipt(self, tx: AsyncConnection, row: AgentRow, message: str, state: str, detail: str | None) -> None:
        """Take up the new state of a message, in the transaction that records it."""
        if (ending := ending_of(state, detail, row)) is None or (run := await runs.of_message(tx, message)) is None:
            return
        await runs.end_begun(tx, run.id, ending[0], detail=ending[1], turn_ended_at=self.services.clock())
        self.wake()

    async def end(self, run: AgentRun, ending: RunEnding, detail: str | None) -> None:
        """Record how a run ends, and cancel its turn if it is in one."""
        async with self.services.store.write(STOP) as tx:
            await self.decide(tx, run, ending, detail)
        self.after(run)

    async def decide(self, tx: AsyncConnection, run: AgentRun, ending: RunEnding, detail: str | None) -> bool:
        """Record the same in the transaction of the decision; `after` follows the commit.

        Returns:
            False if the run has ended, or its end is known.
        """
        services = self.services
        now = services.clock()
        if not await runs.end_begun(tx, run.id, ending, detail=detail, turn_ended_at=now):
            return False
        current = await runs.get(tx, run.id)
        row = await agents.get(tx, run.agent)
        if current is None or current.state != "running" or row is None:
            return True
        message = await agent_messages.get(tx, run.message)
        if message is not None and message.state in UNDERWAY:
            await services.agents.withdraw(tx, message, end=True)
            if row.wanted == "running":
                await services.agents.desired_states.freeze(tx, row, now=True)
                await auto_resume.drop(tx, row.name, "its run ended")
        return True

    def after(self, run: AgentRun) -> None:
        """Act on a decision after its commit."""
        self._again_at.pop(run.id, None)
        self.services.agents.look_again(run.agent)
        self.services.agents.bring_mail(run.agent)
        self.wake()

    async def _settle(self, run: AgentRun) -> None:
        """Count what a run used, end it, and freeze its agent, unless somebody else wrote to the agent meanwhile."""
        services = self.services
        began = run.started_at is not None
        counted = await is_counted(services, run.turn_ended_at or 0.0) if began else "unknown"
        if counted == "not yet":
            return
        answer = await asyncio.to_thread(self._answer, run) if began else None
        async with services.store.write(END) as tx:
            current = await runs.get(tx, run.id)
            if current is None or current.ending is None or current.state not in runs.OPEN:
                return
            ended = await self._ended(tx, current, answer, counted == "all")
            values = {name: getattr(ended, name) for name in ("state", "detail", "answer", "tokens", "usd", "ended_at")}
            if not await runs.change(tx, run.id, only=runs.OPEN, **values):
                return
            row = await agents.get(tx, run.agent) if began else None
            if row is not None:
                await self._let_go(tx, ended, row)
        log.info("run.ended", run=run.id, agent=run.agent, state=ended.state)
        if runs.is_round(run.id):
            services.dispatcher.learned_more()
        services.agents.look_again(run.agent)
        services.delivery.wake()
        for told in self.on_ended:
            told(run)

    async def _ended(self, tx: AsyncConnection, run: AgentRun, answer: str | None, whole: bool) -> AgentRun:
        assert run.ending is not None
        state, detail = run.ending, run.detail
        tokens = usd = None
        if run.started_at is not None:
            met = await auto_resume.met_since(tx, run.agent, run.started_at - _APART_S)
            if is_limit(state, met=met is not None):
                state = "limit"
                detail = detail or (f"The limit {met.scope} was met." if met is not None else None)
            used = await usage_queries.used(tx, f"agent:{run.agent}", run.started_at)
            if whole or used.requests:
                weights = Weights.of(self.services.settings.budgets.weights)
                tokens, usd = float(weigh(used, weights)), None if used.unpriced else used.usd
        now = self.services.clock()
        return replace(run, state=state, detail=detail, answer=answer, tokens=tokens, usd=usd, ended_at=now)

    async def _let_go(self, tx: AsyncConnection, run: AgentRun, row: AgentRow) -> None:
        services = self.services
        going = await agent_messages.in_states(tx, UNDERWAY, agent=row.name, limit=2)
        freezes = row.wanted == "running" and not any(each.id != run.message for each in going)
        if freezes:
            await services.agents.desired_states.freeze(tx, row, now=False)
        await auto_resume.drop(tx, row.name, "its run ended")
        # Under the event's own name, it is the note about the event, whichever process reads that in the journal.
        key = frozen_as(row.name, row.launch_id) if freezes else f"run/{run.id}/over"
        told = run_text.over(run, frozen=freezes or row.wanted == "frozen", redact=services.redact)
        await services.agents.journal_effects.note(tx, row, key, told)

    def _has_answered(self, run: AgentRun) -> bool:
        """Return whether the turn has ended, as the journal has it. Blocking."""
        return run.started_at is not None and self._read(run).is_over

    def _answer(self, run: AgentRun) -> str:
        """Return the beginning of the answer. Blocking."""
        text = self._read(run).text_so_far(ended=True)
        return text if len(text) <= LONGEST_ANSWER else f"{text[:LONGEST_ANSWER]}…"

    def _read(self, run: AgentRun) -> AnswerReader:
        reader = AnswerReader(self.services.paths.agent_folder(run.agent), run.message, self.services.redact)
        with contextlib.suppress(OSError):
            reader.read()
        return reader
