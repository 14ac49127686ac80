"""Runaway guard: pauses agents that spend much without a visible result, and asks operators.

It counts an agent's use since the agent's last visible result. A result is a commit in its workspace, a closed task, a
report, an operator's answer or message, or a start by a person. Consecutive reports count once, since an agent can
write one at any time (`database.queries.agents.last_results.note`). Only one question about an agent waits at a time.
Each run applies the consequences (closed egress, canceled turn, reopened egress) until they are in effect, even after a
crash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import QuestionChoice
from bot.approvals.services import ApprovalServices
from bot.commands.syntax import command_line
from bot.egress_client.client import denial_of
from bot.egress_client.ledger_import import weighed
from bot.text import markdown
from bot.text.errors import UserError
from budget import amounts
from core.crash_points import declare
from core.errors import MusterError
from database.queries.agents import agent_messages, agents, auto_resume, last_results
from database.queries.agents.agents import AgentRow
from database.queries.agents.last_results import VisibleResult
from database.queries.chat import questions
from database.queries.chat.questions import Question
from database.queries.spending import usage_queries

log = structlog.get_logger(__name__)

RUNAWAY = declare("runaway.paused")
FOLLOWED = declare("runaway.followed")

#: Kind of question, and prefix of the ids of our denials.
KIND: Final = "runaway"
#: Actor in the egress's records when Muster closes or opens an agent's egress.
MUSTER: Final = "muster"
#: Recorded answer if an operator wrote to the agent; the agent then needs no further message.
SPOKEN: Final = "spoken"
#: Seconds for which answers are followed up.
_FOLLOW_S = 3_600.0

CHOICES: Final = (
    QuestionChoice("✅", "go", "let it go on, and count from zero"),
    QuestionChoice("❄️", "freeze", "freeze it, with its conversation"),
    QuestionChoice("⏹", "stop", "stop it"),
)
_RESULTS: Final = {
    "commit": "a commit",
    "task": "a closed task",
    "report": "a report",
    "answer": "an operator's answer",
    "launch": "its start",
}
#: Results that a person causes; they answer the question as well.
_SEEN_TO: Final = ("answer", "launch")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunawayLimit:
    """The most that may be spent between two visible results; None for no limit in that unit."""

    tokens: float | None = None
    """Weighted tokens."""
    usd: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SpentSinceResult:
    tokens: float
    """Weighted tokens."""
    usd: float
    """US dollars, without requests of unknown price."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunawayFound:
    """An exceeded limit."""

    unit: Literal["tokens", "usd"]
    spent: float
    limit: float


def breaker(spent: SpentSinceResult, limit: RunawayLimit) -> RunawayFound | None:
    """Return the exceeded limit if an agent must be paused, or None.

    Args:
        spent: the spending since the last visible result.
        limit: `pacing.runaway` of muster.yaml.
    """
    if limit.tokens is not None and spent.tokens > limit.tokens:
        return RunawayFound(unit="tokens", spent=spent.tokens, limit=limit.tokens)
    if limit.usd is not None and spent.usd > limit.usd:
        return RunawayFound(unit="usd", spent=spent.usd, limit=limit.usd)
    return None


async def is_paused(tx: AsyncConnection, agent: str) -> bool:
    """Return whether an agent waits for an operator's answer."""
    asked = await questions.pending(tx, kind=KIND, agent=agent)
    return bool(asked) and not _is_seen_to(asked[-1], await last_results.get(tx, agent))


def is_ours(denial_id: object) -> bool:
    """Return whether the runaway guard issued a denial."""
    return str(denial_id or "").startswith(f"{KIND}/")


@dataclass(slots=True)
class RunawayGuard:
    """Runaway guard for one host's agents."""

    services: ApprovalServices

    def __post_init__(self) -> None:
        self.services.questions.on(KIND, self.take, self.follow)

    # --- looking ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Pause agents that ran away, and process those already paused. A job calls this every few seconds.

        Raises:
            RegisterError: the register cannot be used.
        """
        await self._settle_clock()
        async with self.services.store.read() as tx:
            there = await agents.every(tx)
            others = {row.name for row in there if not self.services.agents.is_ours(row)}
            rows = {row.name: row for row in there if row.wanted == "running" and row.name not in others}
            last = await last_results.every(tx)
            asked = await questions.pending(tx, kind=KIND)
            pending = {each.agent: each for each in asked if each.agent not in others}
            since = self.services.clock() - _FOLLOW_S
            answered = [
                each for each in await questions.answered(tx, kind=KIND, since=since) if each.agent not in others
            ]
            watched = [row for row in rows.values() if row.name not in pending]
            found = await self._over(tx, watched, last)
        for question in pending.values():
            if question.agent not in rows:
                await self._withdraw(question, f"{question.agent} does not run any more.")
            elif _is_seen_to(question, last.get(question.agent)):
                await self._withdraw(question, f"Somebody handled {question.agent} otherwise.")
                await self._open(question.agent)
            else:
                await self._pause(rows[question.agent], question)
        for row, over in found:
            await self._ask(row, over, last.get(row.name))
        for question in answered:
            if question.answer == "go":
                await self.follow(question, "go")
            elif question.answer == SPOKEN:
                await self._open(question.agent)

    async def _settle_clock(self) -> None:
        """Move results that are dated in the future to now. Otherwise no use would count until then."""
        now = self.services.clock()
        async with self.services.store.read() as tx:
            ahead = [each for each in (await last_results.every(tx)).values() if each.at > now + last_results.AHEAD_S]
        if not ahead:
            return
        async with self.services.store.write(FOLLOWED) as tx:
            for each in ahead:
                await last_results.note(tx, each.agent, each.kind, now)

    async def _over(
        self, tx: AsyncConnection, rows: Sequence[AgentRow], last: Mapping[str, VisibleResult]
    ) -> list[tuple[AgentRow, RunawayFound]]:
        """Return the agents that used too much since their last visible result."""
        runaway = self.services.settings.pacing.runaway
        since = [(row, last[row.name].at if row.name in last else row.started_at) for row in rows]
        counted = [(row, at) for row, at in since if at is not None]
        if runaway is None or not counted:
            return []
        asked = [(f"agent:{row.name}", at) for row, at in counted]
        used = await usage_queries.used_many(tx, asked, until=self.services.clock() + usage_queries.AHEAD_S)
        limit, weights = RunawayLimit(tokens=runaway.tokens, usd=runaway.usd), self.services.settings.budgets.weights
        found = []
        for (row, _), sums in zip(counted, used, strict=True):
            if over := breaker(SpentSinceResult(tokens=weighed(sums, weights), usd=sums.usd), limit):
                found.append((row, over))
        return found

    # --- pausing ------------------------------------------------------------------------------------------------

    async def _ask(self, row: AgentRow, over: RunawayFound, last: VisibleResult | None) -> None:
        since = last.at if last is not None else row.started_at or 0.0
        spent, limit = amounts.amount(over.spent, over.unit), amounts.amount(over.limit, over.unit)
        ago = markdown.span(max(0.0, self.services.clock() - since))
        what = _RESULTS.get(last.kind if last is not None else "launch", "its last visible result")
        name = markdown.one_line(row.name)
        text = (
            f"🏃 **{name}** used {spent} and had nothing to show for it since {what}, {ago} ago; {limit} are allowed "
            "(`pacing.runaway` of muster.yaml). It is paused, with its conversation. May it go on?"
        )
        async with self.services.store.write(RUNAWAY) as tx:
            now = await agents.get(tx, row.name)
            if now is None or now.launch_id != row.launch_id or now.wanted != "running":
                return
            if await last_results.get(tx, row.name) != last or await questions.pending(tx, kind=KIND, agent=row.name):
                return  # meanwhile it showed something, or was asked about
            # One that was withdrawn, as the agent was frozen or stopped, was not answered: it is asked again.
            cause = f"{row.name}/{since:.3f}/{self.services.clock():.6f}"
            question = await self.services.questions.ask(tx, now, kind=KIND, cause=cause, text=text, choices=CHOICES)
        self.services.delivery.wake()
        log.warning("agent.runaway", agent=row.name, unit=over.unit, spent=over.spent, limit=over.limit)
        await self._pause(row, question)

    async def _pause(self, row: AgentRow, question: Question) -> None:
        """Close the agent's egress unless it is closed, and end its turn. Its session is kept."""
        with contextlib.suppress(UserError, MusterError):
            if self.services.egress_client is not None:
                client = await self.services.egress_client.ensure()
                if await denial_of(client, row.name) is None:
                    cause = (
                        f"it used much and had nothing to show for it; `muster answer {question.id} go` lets it go on"
                    )
                    await client.deny(row.name, action="cutoff", cause=cause, by=MUSTER, id=f"{KIND}/{question.id}")
            if self.services.agents.in_turn(row.name):
                await self.services.agents.cancel(row)

    async def _open(self, agent: str) -> bool:
        """Open the agent's egress if the guard closed it. Return False if the egress cannot be reached."""
        if self.services.egress_client is None:
            return True
        try:
            client = await self.services.egress_client.ensure()
            found = await denial_of(client, agent)
            if found is not None and is_ours(found.get("id")):
                await client.allow(agent, cause="an operator decided", by=MUSTER, id=f"{found['id']}/over")
        except MusterError as error:
            log.warning("agent.still_paused", agent=agent, reason=str(error))
            return False
        return True

    async def _withdraw(self, question: Question, why: str) -> None:
        async with self.services.store.write(FOLLOWED) as tx:
            await self.services.questions.withdraw(tx, question, why)
        self.services.delivery.wake()

    async def is_over(self, agent: str, denial: Mapping[str, Any]) -> bool:
        """Return whether a denial is ours and no question about the agent waits
        (bot.egress_client.client.EgressClient)."""
        if not is_ours(denial.get("id")):
            return False
        async with self.services.store.read() as tx:
            return not await is_paused(tx, agent)

    # --- answers ------------------------------------------------------------------------------------------------

    async def take(self, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
        """Apply an answer, in the transaction that records it (bot.approvals.questions.AnswerHandler)."""
        row = await agents.get(tx, question.agent)
        if row is None or row.wanted != "running":
            return f"{question.agent} does not run any more."
        if _is_seen_to(question, await last_results.get(tx, row.name)):
            raise UserError(
                f"Somebody handled {row.name} since this was asked; {command_line('ps')} shows what it does.",
                code="question.over",
            )
        desired_states = self.services.agents.desired_states
        await last_results.note(tx, row.name, "answer", self.services.clock())
        # Otherwise the agent would get a second message to go on.
        await auto_resume.drop(tx, row.name, f"{by} decided")
        match word:
            case "freeze":
                await desired_states.freeze(tx, row, now=True)
                return f"{row.name} is frozen."
            case "stop":
                await desired_states.stop(tx, row, now=True)
                return f"{row.name} stops."
            case _:
                return f"{row.name} goes on; its use is counted from zero."

    async def follow(self, question: Question, word: str) -> None:
        """Act on a committed answer (bot.approvals.questions.AnswerFollower). Repeated calls have no further effect."""
        name = question.agent
        if word != "go":
            self.services.agents.look_again(name)
            return
        message = f"{KIND}-{question.id}"
        async with self.services.store.read() as tx:
            row = await agents.get(tx, name)
            told = await agent_messages.get(tx, message) is not None
        if told or row is None or row.wanted != "running" or not await self._open(name):
            return
        async with self.services.store.write(FOLLOWED) as tx:
            text = (
                "You were paused, since you had used much without a visible result. An operator lets you go on: go on."
            )
            await self.services.agents.send(tx, row, text, message_id=message, by=MUSTER)
        self.services.agents.bring_mail(name)

    async def spoken_to(self, agent: str, by: str, through: str | None) -> None:
        """Take an operator's message to a paused agent as the answer to its question.

        Raises:
            RegisterError: the register cannot be used.
        """
        async with self.services.store.read() as tx:
            asked = await questions.pending(tx, kind=KIND, agent=agent)
        for question in asked:
            with contextlib.suppress(UserError):
                async with self.services.store.write(FOLLOWED) as tx:
                    await self.services.questions.answer(tx, question, "go", by=by, through=through, recorded=SPOKEN)
            await self._open(agent)
            self.services.delivery.wake()


def _is_seen_to(question: Question, last: VisibleResult | None) -> bool:
    return last is not None and last.kind in _SEEN_TO and last.at > question.asked_at
