"""Automatic continuation of agents that stopped at a limit, one after the other.

The transaction that copies the egress's report also records that an agent met a limit, so the record survives a crash.
The decision comes later, from the state of the register. It asks whether the agent has stopped, when its windows open,
and whether somebody has acted meanwhile. One message tells the agent to go on. Its id is derived from the continuation,
so retries never send it twice.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.syntax import command_line
from bot.egress_client.held_agents import closed_by_people
from bot.pacing import next_opening
from bot.pacing.runaway_guard import is_paused
from bot.pacing.wait_text import ways
from bot.pacing.window_services import WindowServices
from bot.pacing.window_status import PaceSnapshot
from bot.text import markdown, timestamps
from budget.windows import window_key
from budget.windows.pace_admission import Waits
from budget.windows.work_draw import is_of_family
from core.crash_points import declare
from database.queries import tasks
from database.queries.agents import agents, auto_resume
from database.queries.agents.agents import AgentRow
from database.queries.agents.auto_resume import Continuation
from database.queries.spending import usage_ledger
from database.queries.spending.usage_ledger import QuotaRow
from egress.ledger.model import PACE, Action, LedgerEntry
from fleet.control.task_attempt_ids import task_of
from fleet.roster.drift import ENDED
from fleet.supervision.restart_policy import asked_for

log = structlog.get_logger(__name__)

WAITS = declare("continuing.waits")
GOES_ON = declare("continuing.goes_on")

#: Sender of messages to agents if no person sends them.
MUSTER: Final = "muster"
#: Tolerance in seconds between records of the egress and the agent host, which write at different times.
_BEFORE_S = 10.0
#: Seconds after which an agent that met a limit outside a turn counts as not stopped.
_NOT_STOPPED_S = 120.0
#: Shortest and longest pause in seconds if the end of a limit is unknown; each further check doubles the pause.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 600.0, 6 * 3_600.0
#: Period in seconds: each continuation within it before a new stop doubles the pause.
_SAME_TROUBLE_S = 2 * LONGEST_PAUSE_S
#: Period in seconds: an agent that was continued within it before it stopped at its pace is not continued at once.
_LATELY_S = 3_600.0
#: Seconds by which two times may differ and still count as the same.
_SAME_S = 60.0
#: Pattern in the detail of an announced continuation: the number of checks so far.
_LOOKED = re.compile(r"looked ([0-9]{1,9}) times")
#: Status of a window whose requests the provider rejects (docs of both providers).
_REJECTED = "rejected"


@dataclass(slots=True)
class AutoResume:
    """Automatic continuation of one host's agents."""

    services: WindowServices
    _next: float = 0.0
    """Earliest time of the next continuation, in seconds since the epoch."""

    # --- what was met -------------------------------------------------------------------------------------------

    async def met_limit(self, tx: AsyncConnection, row: AgentRow, key: str, action: Action) -> None:
        """Record that an agent met a limit of ours, in the transaction that copies the egress's report."""
        scope = str(action.detail.get("scope") or "")
        ahead = action.detail.get("why") == PACE
        opens = action.detail.get("opens_at") if ahead else None
        resume_at = float(opens) if isinstance(opens, int | float) and math.isfinite(opens) else None
        await self._met(tx, row, cause=f"{key}/{row.name}", scope=scope, at=action.at, resume_at=resume_at, ahead=ahead)

    async def met_provider(self, tx: AsyncConnection, entries: Iterable[LedgerEntry]) -> None:
        """Record rejections by a provider (status 429), in the transaction that copies them.

        The caller has already recorded what the provider reported of its windows.
        """
        last = {entry.agent: entry for entry in entries if entry.status == 429}
        if not last:
            return
        quotas = await usage_ledger.quotas(tx)
        for name, entry in last.items():
            closed = [
                each
                for each in quotas
                if each.account == entry.account
                and is_of_family(each.window, entry.model or entry.model_asked)
                and _is_closed(each, entry.ended_at)
            ]
            row = await agents.get(tx, name)
            if not closed or row is None:
                continue  # it was about that request, and not about the account
            # Of several windows that are closed the latest reset counts (docs of Anthropic's subscriptions).
            window = max(closed, key=lambda each: each.reset_at or 0.0)
            scope = window_key.of_quota(entry.account, window.window)
            await self._met(tx, row, cause=f"{entry.id}/429", scope=scope, at=entry.ended_at, resume_at=window.reset_at)

    async def _met(
        self,
        tx: AsyncConnection,
        row: AgentRow,
        *,
        cause: str,
        scope: str,
        at: float,
        resume_at: float | None = None,
        ahead: bool = False,
    ) -> None:
        if row.started_at is not None and at < row.started_at:
            return
        for waiting in await auto_resume.waiting(tx, agent=row.name):
            if asked_for(waiting.launch_id) != asked_for(row.launch_id):
                continue
            later = resume_at is not None and (waiting.resume_at is None or resume_at > waiting.resume_at)
            if later or (scope and not waiting.scope):
                times = {"resume_at": resume_at} if later else {}
                await auto_resume.change(tx, waiting.id, scope=scope or waiting.scope, **times)
            return
        if row.wanted != "running":
            return  # whoever wanted that decides how it goes on
        new = Continuation(
            id=hashlib.blake2s(f"continue/{cause}".encode(), digest_size=8).hexdigest(),
            agent=row.name,
            launch_id=row.launch_id,
            scope=scope,
            stopped_at=at,
            resume_at=resume_at,
            state="waiting",
            detail=auto_resume.AHEAD if ahead else None,
        )
        await auto_resume.add(tx, new)

    # --- what happens to it -------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Process every waiting continuation. A job calls this every few seconds.

        Raises:
            RegisterError: the register cannot be used.
        """
        async with self.services.store.read() as tx:
            waiting = await auto_resume.waiting(tx)
        if not waiting:
            return
        snapshot = await self.services.pace.snapshot()
        closed = await closed_by_people(self.services)
        for each in waiting:
            # If an agent's egress is closed, the person who closed it must first open it again.
            await self._see_to(each, snapshot, held=closed is None or each.agent in closed)

    async def _see_to(self, each: Continuation, snapshot: PaceSnapshot, *, held: bool) -> None:
        now = self.services.clock()
        async with self.services.store.read() as tx:
            row = await agents.get(tx, each.agent)
            if row is not None and not self.services.agents.is_ours(row):
                return  # its own Muster sees to it when it leads again
            why_not = await self._why_not(tx, row, each, now)
            held = held or await is_paused(tx, each.agent)
        if why_not is not None:
            await self._drop(each, why_not)
            return
        if row is None or self._is_busy(row):
            return
        if each.is_ahead:
            await self._keep_pace(row, each, snapshot, held=held)
            return
        at = each.resume_at
        if at is None:
            if _is_for_good(snapshot, each.scope):
                await self._drop(each, "the limit has no window that resets")
                return
            async with self.services.store.read() as tx:
                at = await self._resets_at(tx, row, each, snapshot)
        if now < at or each.resume_at is None:
            await self._wait(row, each, at)
            return
        async with self.services.store.read() as tx:
            later = await self._still_held(tx, row, snapshot)
        if later is not None:
            pause = _pause(_tries(each))
            await self._wait(row, each, max(later, now + pause) if later <= now else later, tries=_tries(each) + 1)
        elif not held:
            await self._take_turn(row, each)

    def _is_busy(self, row: AgentRow) -> bool:
        """Return whether the agent is in a turn, or about to begin or end one; the limit may not have stopped it."""
        if self.services.agents.in_turn(row.name):
            return True
        return row.wanted == "frozen" and row.state not in ENDED and row.state != "frozen"

    async def _why_not(self, tx: AsyncConnection, row: AgentRow | None, each: Continuation, now: float) -> str | None:
        """Return why the agent does not go on automatically, or None if nothing is known to prevent it."""
        if row is None:
            return "it is no more"
        if asked_for(row.launch_id) != asked_for(each.launch_id) or row.wanted == "stopped":
            return "it was stopped or relaunched"
        if not self.is_on(row.name):
            return "auto_continue is off"
        if row.wanted == "frozen":
            return None
        stopped = await auto_resume.turn_ended(tx, row.name, each.stopped_at - _BEFORE_S)
        if stopped is None and not self.services.agents.in_turn(row.name) and now - each.stopped_at > _NOT_STOPPED_S:
            return "it was in no turn"
        if await auto_resume.went_on(tx, row.name, each.stopped_at):
            return "it went on by itself"
        if stopped is not None and await _is_queued(tx, stopped):
            return "its task is in the queue"
        return None

    def is_on(self, name: str) -> bool:
        """Return whether an agent goes on automatically. The roster entry takes precedence over muster.yaml."""
        entry = self.services.roster.entry(name)
        own = None if entry is None else entry.auto_continue
        return self.services.settings.pacing.auto_continue if own is None else own

    async def _resets_at(self, tx: AsyncConnection, row: AgentRow, each: Continuation, snapshot: PaceSnapshot) -> float:
        """Return when the agent's windows open. If that is unknown, return a time after a pause."""
        held = await self._still_held(tx, row, snapshot, scope=each.scope or None)
        now = self.services.clock()
        if held is not None and held > now:
            return held
        tries = await auto_resume.told_since(tx, each.agent, each.stopped_at - _SAME_TROUBLE_S)
        return now + _pause(tries)

    async def _still_held(
        self, tx: AsyncConnection, row: AgentRow, snapshot: PaceSnapshot, *, scope: str | None = None
    ) -> float | None:
        """Return when the windows have capacity: None means now, and the snapshot's own time means unknown."""
        standings = await next_opening.windows_of(self.services, tx, row, snapshot)
        if scope is not None and (until := next_opening.spent_until(standings, scope)) is not None:
            return until
        waits = next_opening.in_the_way(standings, snapshot)
        return None if waits is None else waits.at if waits.at is not None else snapshot.now

    # --- ahead of its pace --------------------------------------------------------------------------------------

    async def _keep_pace(self, row: AgentRow, each: Continuation, snapshot: PaceSnapshot, *, held: bool) -> None:
        """Continue an agent that was ahead of its pace once a turn may begin, by its pace or by an authorization."""
        now = self.services.clock()
        async with self.services.store.read() as tx:
            standings = await next_opening.windows_of(self.services, tx, row, snapshot)
            told = await auto_resume.told_since(tx, each.agent, each.stopped_at - _LATELY_S)
        # An agent that stopped again right after a continuation waits longer, so that it does not retry endlessly.
        earliest = each.stopped_at + _pause(told - 1) if told else 0.0
        waits = await next_opening.of_a_turn(self.services, row, standings, snapshot)
        if waits is None and now >= earliest:
            if not held:
                await self._take_turn(row, each)
            return
        at = max(earliest, now if waits is None or waits.at is None else waits.at)
        if at <= now:
            at = each.resume_at if each.resume_at is not None and each.resume_at > now else now + FIRST_PAUSE_S
        known = _tells(each) and each.resume_at is not None and abs(at - each.resume_at) < _SAME_S
        if not known:
            await self._wait(row, each, at, tries=_tries(each) + 1 if _tells(each) else None, waits=waits)

    async def _take_turn(self, row: AgentRow, each: Continuation) -> None:
        """Continue the agent if the stagger allows it now."""
        now, stagger = self.services.clock(), self.services.settings.pacing.stagger
        if now < self._next <= now + stagger:
            # A time further away means that the clock was set back since.
            return
        self._next = now + stagger
        if each.is_ahead:
            # The egress must know the available capacity before the agent asks for it.
            await self.services.pace.redraw()
            await self.services.pace.push()
        await self._go_on(row, each)

    # --- acting -------------------------------------------------------------------------------------------------

    async def _wait(
        self,
        row: AgentRow,
        each: Continuation,
        at: float,
        *,
        tries: int | None = None,
        waits: Waits | None = None,
    ) -> None:
        """Record when the agent goes on, and announce it once."""
        journal_effects = self.services.agents.journal_effects
        key = f"go-on/{each.id}"
        if each.resume_at == at and each.detail is not None and tries is None and not each.is_ahead:
            return
        detail = f"looked {tries if tries is not None else _tries(each)} times"
        if each.is_ahead:
            detail = f"{auto_resume.AHEAD}, {detail}"
        async with self.services.store.write(WAITS) as tx:
            if not await auto_resume.change(tx, each.id, resume_at=at, detail=detail):
                return
            if tries is None:
                scope = f" ({markdown.code(markdown.one_line(each.scope, 80))})" if each.scope else ""
                keep = command_line(f"stop {row.name}")
                zone = self.services.settings.timezone
                when, leave = f"{journal_effects.time_of_day(at)}", ""
                stopped = "stopped at a limit"
                if each.is_ahead:
                    stopped = "is too far ahead of its pace"
                    when = f"{timestamps.shown(at, zone, self.services.clock())} ({zone.key})"
                    leave = (
                        f" To let it go on now, an admin writes {ways(waits.leave)}." if waits and waits.leave else ""
                    )
                await journal_effects.note(
                    tx,
                    row,
                    key,
                    f"⏸ It {stopped}{scope}. It goes on by itself at about {when}, unless somebody writes to it first; "
                    f"{keep} keeps it from that.{leave}",
                )
        self.services.delivery.wake()

    async def _go_on(self, row: AgentRow, each: Continuation) -> None:
        scope = f" ({each.scope})" if each.scope else ""
        over = "There is room at your pace again" if each.is_ahead else "The limit that stopped you is over"
        text = f"{over}{scope}. Go on where you stopped."
        said = "There is room at its pace again" if each.is_ahead else "The limit is over"
        agents_ = self.services.agents
        async with self.services.store.write(GOES_ON) as tx:
            now_row = await agents.get(tx, row.name)
            if now_row is None or asked_for(now_row.launch_id) != asked_for(each.launch_id):
                return
            if not await auto_resume.change(tx, each.id, state="done", detail="told to go on"):
                return
            stopped = await auto_resume.turn_ended(tx, row.name, each.stopped_at - _BEFORE_S)
            in_turn = stopped is not None and not await _is_queued(tx, stopped)
            if now_row.wanted == "frozen":
                await agents_.desired_states.resume(tx, now_row, run_id=f"continue-{each.id}", by=MUSTER)
            if in_turn:
                await agents_.send(tx, now_row, text, message_id=f"go-on-{each.id}", by=MUSTER)
            await agents_.journal_effects.note(tx, now_row, f"go-on/{each.id}/now", f"▶ {said}: it goes on.")
        log.info("agent.goes_on", agent=row.name, continuation=each.id, scope=each.scope)
        agents_.look_again(row.name)
        agents_.bring_mail(row.name)
        self.services.delivery.wake()

    async def _drop(self, each: Continuation, why: str) -> None:
        async with self.services.store.write(WAITS) as tx:
            await auto_resume.change(tx, each.id, state="dropped", detail=why)
        log.info("agent.does_not_go_on", agent=each.agent, continuation=each.id, reason=why)


async def _is_queued(tx: AsyncConnection, message: str) -> bool:
    """Return whether the queue decides about the message's task, by starting it again or not at all."""
    task = task_of(message)
    found = None if task is None else await tasks.get(tx, task)
    return found is not None and (found.state in ("queued", "cancelled", "done") or found.message != message)


def _is_closed(quota: QuotaRow, at: float) -> bool:
    """Return whether a window has nothing left and its reset lies in the future."""
    if quota.reset_at is None or quota.reset_at <= at:
        return False
    over = quota.used is not None and quota.used >= 1.0
    return over or quota.remaining == 0 or (quota.status or "").casefold() == _REJECTED


def _is_for_good(snapshot: PaceSnapshot, scope: str) -> bool:
    """Return whether the limit holds until a person changes it."""
    if scope.startswith("launch:"):
        return True
    windows = [each.window for each in snapshot.standings.values() if each.window.scope == scope]
    met = [each for each in windows if each.is_used_up]
    return bool(met) and any(each.resets_at is None and each.length is None for each in met)


def _tells(each: Continuation) -> bool:
    """Return whether the time of the continuation has been announced."""
    return _LOOKED.search(each.detail or "") is not None


def _tries(each: Continuation) -> int:
    found = _LOOKED.search(each.detail or "")
    return 0 if found is None else int(found[1])


def _pause(tries: int) -> float:
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 20)))
