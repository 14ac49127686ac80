"""The step *settle*: a round is over, and people are told, or asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import QuestionChoice
from bot.issue_runs.intake.notices import notice
from bot.issue_runs.rounds import text
from bot.issue_runs.rounds.publishing import EMPTY
from bot.issue_runs.rounds.round_state import DONE, GIVEN_UP, OPENED, RoundContext, issue_of, order_key, thread_of
from bot.issue_runs.services import IssueServices
from bot.runs.issue_lines import sentence_of
from bot.text.errors import UserError
from database.queries.agents import agents
from database.queries.agents.runs import AgentRun
from database.queries.chat import questions
from database.queries.chat.questions import Question
from database.queries.forge import forge_events, forge_orders, issue_runs
from database.queries.forge.forge_events import ForgeEventRow
from database.queries.forge.forge_orders import ForgeOrder
from database.queries.forge.issue_runs import ACTIVE, IssueRun, IssueWake
from forge.runs.order_book import Acted
from forge.runs.round import PublishResult, RoundStep, WorkResult

#: The kind of questions about what is in the way of a push.
REFUSED: Final = "issue run"
_MEND: Final = QuestionChoice("✏️", "mend", "have the agent mend it")
_RETRY: Final = QuestionChoice("🔁", "retry", "try again with what there is")
_AGAIN: Final = QuestionChoice("▶️", "go", "have the agent go on")
GO_ON: Final = QuestionChoice("▶️", "go", "go on")


@dataclass(frozen=True, slots=True)
class SettleStep:
    """Ends a round."""

    round: RoundContext

    async def act(self, run: IssueRun) -> Acted:
        """Do the step.

        Raises:
            RegisterError: the register cannot be used.
        """
        services = self.round.services
        async with services.store.read() as tx:
            work = await self.round.work_of(tx, run)
            worked = _outcome(await forge_orders.get(tx, order_key(run.id, run.round, RoundStep.WORK)))
            published = _outcome(await forge_orders.get(tx, order_key(run.id, run.round, RoundStep.PUBLISH)))
            posts = [
                _outcome(await forge_orders.get(tx, order_key(run.id, run.round, step)))
                for step in (RoundStep.PROPOSE, RoundStep.RECORD)
            ]
        waits = worked not in (WorkResult.SIGNALLED, WorkResult.SILENT) or published in (None, PublishResult.REFUSED)
        waits = waits or GIVEN_UP in posts

        async def also(tx: AsyncConnection) -> None:
            state = "failed" if waits else "frozen"
            why = self._why(run, worked) if waits else None
            now = services.clock()
            if run.pull_request is not None:
                # What the forge shows of it is read once more, whichever event was lost or came too early.
                await forge_events.add(tx, [_event(run, now)])
            if not await issue_runs.change(tx, run.id, only=ACTIVE, state=state, detail=why, active_at=now):
                return
            if published == PublishResult.REFUSED and run.findings:
                await self._ask(tx, run, work)
            elif why is not None:
                words = text.failed(run, work, why, services.redact)
                await self.round.tell(tx, run, f"{run.round}/settled", words)
            else:
                words = text.settled(run, work, services.redact, published=published, is_new=OPENED in posts)
                await self.round.tell(tx, run, f"{run.round}/settled", words)

        return Acted(DONE, also)

    def _why(self, run: IssueRun, worked: str | None) -> str:
        if run.findings:
            return sentence_of(run.findings[0])
        return run.detail or f"Its agent's work ended: {worked or 'not begun'}."

    async def _ask(self, tx: AsyncConnection, run: IssueRun, work: AgentRun | None) -> None:
        services = self.round.services
        row = await agents.get(tx, run.agent)
        is_empty = all(each.get("kind") == EMPTY for each in run.findings or ())
        words = text.nothing(run, work) if is_empty else text.refused(run, work, services.redact)
        if is_empty:
            link, at = self.round.link, issue_of(run)
            told = text.stopped_short(run, link.settings.organization)
            await forge_orders.add(tx, notice(link, at, f"empty/{run.round}", told, now=services.clock(), run=run.id))
        if row is None:
            await self.round.tell(tx, run, f"{run.round}/settled", words)
            return
        await services.questions.ask(
            tx,
            row,
            kind=REFUSED,
            cause=f"{run.id}/{run.round}",
            text=words,
            choices=(_AGAIN,) if is_empty else (_MEND, _RETRY),
            place=thread_of(run),
        )


def question_id(kind: str, run: IssueRun) -> str:
    """Return the id that `bot.approvals.questions` gives the question about the current round of a run."""
    return hashlib.blake2s(f"{kind}/{run.id}/{run.round}".encode(), digest_size=10).hexdigest()[:8]


async def withdraw_questions(tx: AsyncConnection, services: IssueServices, run: IssueRun, why: str) -> None:
    """Close the questions about the current round of a run that nobody answered."""
    for kind in (REFUSED, issue_runs.USED_UP):
        question = await questions.get(tx, question_id(kind, run))
        if question is not None:
            await services.questions.withdraw(tx, question, why)


async def decided(tx: AsyncConnection, question: Question, word: str, *, by: str, now: float) -> str:
    """Take an answer to such a question: it is a reason to go on.

    Raises:
        UserError: the run does not wait for it any more.
    """
    run = await issue_runs.of_agent(tx, question.agent)
    if run is None or run.state != "failed":
        raise UserError("This run does not wait for a decision now; nothing was changed.", code="issue.not_waiting")
    mends = word != _RETRY.word
    wake = IssueWake(
        run=run.id,
        cause=f"{word}/{question.id}",
        kind="mend" if mends else "retry",
        author=by,
        is_member=True,
        text=text.for_agent(run.findings or ()) if mends else "",
        at=now,
    )
    await issue_runs.add_wake(tx, wake)
    return f"{run.agent} {'mends it' if word == _MEND.word else 'goes on'}." if mends else "It is tried again."


def _event(run: IssueRun, now: float) -> ForgeEventRow:
    return ForgeEventRow(
        forge=run.forge,
        delivery=f"round/{run.id}/{run.round}",
        name="round",
        repository=run.repository,
        number=run.pull_request,
        sha=None,
        received_at=now,
    )


def _outcome(order: ForgeOrder | None) -> str | None:
    return None if order is None or order.outcome is None else str(order.outcome["is"])
