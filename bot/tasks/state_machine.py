"""Lifecycle of tasks that agents have, driven by the states of their messages and by reports of agents and people.

Everything happens in the caller's transaction, so the receipt of a message and the step of its task are atomic. A step
is possible only from certain states. So a repeated step changes nothing, and a repeated text appears once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.questions import QuestionChoice
from bot.auth.permissions import is_person
from bot.commands.syntax import command_line
from bot.config.dispatch import NEVER
from bot.config.schema import Settings
from bot.messaging.composer import MessagePlace
from bot.pacing.services import PacingServices
from bot.pacing.window_loader import weigh
from bot.tasks import retry_after_limit, run_now, wait_reasons
from bot.tasks import text as task_words
from bot.tasks.threads import TaskThreads
from bot.text import markdown
from bot.text.errors import UserError
from budget.dispatch.next_task import LONGEST_RETRY_S, TURN, TaskWait, aside
from budget.tokens import Weights
from database.queries import tasks
from database.queries.agents import agent_messages, agents, last_results
from database.queries.agents.agents import AgentRow
from database.queries.chat import questions
from database.queries.chat.questions import Question
from database.queries.spending import usage_queries
from database.queries.spending.usage_queries import Sums
from database.queries.task_states import ENDED, LIVE, OPEN, TaskEvent
from database.queries.tasks import Task, TaskStep
from fleet.control.task_attempt_ids import attempt_of
from fleet.runtimes import RUNTIMES
from scheduler.dispatch.fairness_charges import correct

log = structlog.get_logger(__name__)

#: Kind of the questions whether a task is done.
QUESTION = "task"
#: Choices of these questions.
CHOICES = (
    QuestionChoice(mark="✅", word="done", label="It is done"),
    QuestionChoice(mark="❌", word="failed", label="It failed"),
)
#: Seconds before the first retry of a failed task; the pause doubles with each attempt.
FIRST_RETRY_S = 30.0
#: Maximum number of characters of an agent's summary.
LONGEST_SUMMARY = 4000
#: The event that ends a task in each state.
_ENDS = {"done": TaskEvent.FINISH, "failed": TaskEvent.FAIL, "cancelled": TaskEvent.CANCEL}
#: Final states of a message.
MESSAGE_OVER = ("finished", "failed", "uncertain", "withdrawn", "dead", "retried")


def weighed(settings: Settings, used: Sums) -> tuple[float, float]:
    """Return weighted tokens, and USD as far as prices are known."""
    return float(weigh(used, Weights.of(settings.budgets.weights))), used.usd


def has_task_done(runtime: str | None) -> bool:
    """Return whether agents of this runtime have the tool `task_done`."""
    known = RUNTIMES.get(runtime or "")
    return known is None or known.tools


def closes(task: Task) -> Sequence[str]:
    """Return the states in which a report ends the task: waiting, or any live one if its agent cannot report."""
    return ["waiting"] if has_task_done(task.runtime) else LIVE


def retry_pause(attempt: int) -> float:
    """Return the seconds before a retry, given the number of the failed attempt."""
    # No power of two that a number could not hold: of so many the pause is the longest.
    return min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(attempt - 1, 20))


@dataclass(slots=True)
class TaskSteps:
    """Steps of tasks, and the messages about them."""

    services: PacingServices
    ending: Callable[[str], None] = lambda _: None
    """Callback with the id of a task that an agent had and that is about to end."""

    @property
    def threads(self) -> TaskThreads:
        """The tasks' own threads."""
        return TaskThreads(self.services)

    # --- what is heard ------------------------------------------------------------------------------------------

    async def receipt(
        self, tx: AsyncConnection, row: AgentRow, message: str, state: str, detail: str | None = None
    ) -> None:
        """Process the new state of a message, and of the task that it carries, if any."""
        carried = attempt_of(message)
        if carried is None:
            if state in ("accepted", "finished"):
                await self._spoken_to(tx, row, message)
            return
        task_id, attempt = carried
        task = await tasks.get(tx, task_id)
        if task is None or task.attempt != attempt or task.state in ENDED:
            return
        now = self.services.clock()
        is_turn = task.kind == TURN
        if state == "accepted":
            await tasks.change(tx, task.id, TaskEvent.ACCEPT, attempt_is=attempt, now=now, started_at=now)
        elif state == "finished" and is_turn:
            await self._end(tx, task, "done", None)
        elif state == "finished" and not has_task_done(row.runtime):
            # Such an agent cannot report a result, so the end of its turn ends the task.
            if task.state != "waiting":
                await self._end(tx, task, "done", None)
        elif state == "finished":
            await self._ask(tx, row, task, "Its turn ended without a result for")
        elif state == "uncertain" and not is_turn:
            await self._ask(tx, row, task, "It crashed as it was given, so it is unknown whether it read,")
        elif task.state == "waiting":
            return  # a person was asked already, as it said that it is blocked
        elif state in ("failed", "dead", "uncertain"):
            await self._failed(tx, task, detail or "its turn failed")
        elif state == "withdrawn":
            await self._end(tx, task, "cancelled", "taken back")

    async def _spoken_to(self, tx: AsyncConnection, row: AgentRow, message: str) -> None:
        """Restart the period for which waiting tasks keep an agent, because a person's message reached it."""
        known = await agent_messages.get(tx, message)
        if known is None or not is_person(known.sender):
            return
        for task in await tasks.of_agent(tx, row.name, states=["waiting"]):
            await tasks.change(tx, task.id, TaskEvent.REPLY, now=self.services.clock(), step=False)

    async def _failed(self, tx: AsyncConnection, task: Task, why: str) -> None:
        """Retry the task if it has retries left. Meeting a limit does not count as an attempt."""
        limit = await retry_after_limit.again_at(tx, task, why, self.services.clock())
        why = markdown.gist(why, self.services.redact, 300)
        if task.kind == TURN or (limit is None and task.retries < 1):
            await self._end(tx, task, "failed", why)
            return
        now = self.services.clock()
        pause = retry_pause(task.attempt)
        if limit is None and task.deadline is not None and now + pause >= task.deadline:
            await self._end(tx, task, "failed", f"{why}; tried again, it would begin after its deadline")
            return
        values: dict[str, Any] = {
            "retries": task.retries - (limit is None),
            "why": "retry",
            "reason": f"Attempt {task.attempt} {'failed' if limit is None else 'met a limit'}: {why}",
            "look_at": now + pause if limit is None else limit,
            "started_at": None,
            # Tasks behind it do not wait for the retry.
            "lane": aside(task.lane),
        }
        if await tasks.change(tx, task.id, TaskEvent.RETRY, attempt_is=task.attempt, now=now, **values):
            text = f"🔁 Task {markdown.code(task.id)} is tried again in {markdown.span(pause)}: {why}"
            if limit is not None:
                text = f"⏸ Task {markdown.code(task.id)} met a limit, and is in the queue until that is over: {why}"
            await self.tell(tx, task, f"again/{task.attempt}", text, also=await self._holder(tx, task))

    async def _ask(self, tx: AsyncConnection, row: AgentRow, task: Task, why: str) -> None:
        """Ask the operator for the result, because the agent no longer has the task and did not report one."""
        now = self.services.clock()
        reason = "waits for an operator's word"
        if await tasks.change(tx, task.id, TaskEvent.ASK, attempt_is=task.attempt, now=now, reason=reason):
            await self._question(tx, row, task, f"❔ {why} task {task_words.named(task, self.services.redact)}.")

    async def _question(self, tx: AsyncConnection, row: AgentRow, task: Task, text: str) -> None:
        await self.threads.waits_for_word(tx, task, row.name)
        done, failed = command_line(f"task close {task.id}"), command_line(f"task close {task.id} --failed")
        await self.services.questions.ask(
            tx,
            row,
            kind=QUESTION,
            cause=f"{task.id}/{task.attempt}",
            text=f"{text} Is it done? Answer here with {done} or {failed}; anything else that you write in this "
            f"thread continues the task. {self._held_back(row)}".rstrip(),
            choices=CHOICES,
            task=task.id,
        )

    def _held_back(self, row: AgentRow) -> str:
        """Return a sentence about how long the agent gets no other task."""
        unanswered = self.services.settings.dispatch.unanswered
        if unanswered == 0:
            return ""
        until = "until then" if unanswered >= NEVER else f"until then, or for {markdown.span(unanswered)}"
        return f"{row.name} gets no other task {until}."

    # --- what is said -------------------------------------------------------------------------------------------

    async def said_by_agent(
        self,
        tx: AsyncConnection,
        row: AgentRow,
        status: str,
        summary: str,
        *,
        turn: str | None = None,
        which: str | None = None,
    ) -> str:
        """Process `task_done`, an agent's report about its task. Return the reply to the agent.

        Args:
            tx: the transaction that handles the call.
            row: the agent.
            status: done, failed or blocked.
            summary: the agent's summary.
            turn: the turn in which the agent called the tool.
            which: the task's id, if the agent gave one.

        Raises:
            UserError: the agent has no such task, or the status is invalid.
        """
        if status not in ("done", "failed", "blocked"):
            raise UserError(
                f"The status {markdown.one_line(status, 40)!r} is not a status: allowed is done, failed or blocked.",
                code="task.invalid_status",
            )
        task = await self._meant(tx, row, turn, which)
        # A key that is cut in two can no longer be recognized as a secret, so redaction comes first.
        summary = self.services.redact(summary.strip())[:LONGEST_SUMMARY]
        if status == "blocked":
            now = self.services.clock()
            values: dict[str, Any] = {"reason": "the agent is blocked", "summary": summary}
            if await tasks.change(tx, task.id, TaskEvent.BLOCK, attempt_is=task.attempt, now=now, **values):
                said = f"🚧 {row.name} is blocked on task {markdown.code(task.id)}: {markdown.shown(summary[:600])}"
                await self._question(tx, row, task, said)
            return f"Task {task.id} waits for your operator, who was told why."
        await self._end(tx, task, status, summary)
        await self._withdraw_questions(tx, task, "The agent said so itself.")
        return f"Task {task.id} is {status}. End your turn now; the next task arrives by itself."

    async def _meant(self, tx: AsyncConnection, row: AgentRow, turn: str | None, which: str | None) -> Task:
        """Return the task that an agent means: that of its turn, or the only one that waits for a report.

        Raises:
            UserError: there is no such task, or several are possible.
        """
        own = [task for task in await tasks.of_agent(tx, row.name) if task.kind != TURN]
        if which is not None:
            wanted = which.strip().strip("`").casefold()
            found = next((task for task in own if task.id == wanted), None)
            if found is None:
                raise UserError(
                    f"You have no task {markdown.one_line(which, 20)!r}, so there is none to end.", code="task.unknown"
                )
            return found
        about = [] if turn is None else await agent_messages.of_turn(tx, row.name, turn)
        for carried in (attempt_of(message.id) for message in about):
            if carried is None:
                continue
            task = next((task for task in own if (task.id, task.attempt) == carried), None)
            if task is None:
                raise UserError(
                    f"Task {carried[0]} is over, or no longer yours.",
                    code="task.over",
                )
            return task
        if turn is None or about:
            # A task that has not begun cannot be meant, unless its turn is not known yet.
            own = [task for task in own if task.state != "dispatched"]
        if not own:
            raise UserError("You have no task at the moment, so there is none to end.", code="task.none")
        if len(own) > 1:
            listed = ", ".join(f"{task.id} ({task_words.gist(task, self.services.redact)})" for task in own)
            raise UserError(
                f"You have several tasks: {listed}. Call task_done again, with the id as task.", code="task.ambiguous"
            )
        return own[0]

    async def close(self, tx: AsyncConnection, task: Task, state: str, *, by: str) -> None:
        """Close a task that waits for a report, with an operator's result.

        Raises:
            UserError: the task does not wait for a report.
        """
        summary = task.summary or f"{state}, says {by}"
        if not await self._end(tx, task, state, summary, only=closes(task)):
            raise UserError(
                f"Task {markdown.code(task.id)} does not wait for an answer any more.", code="task.not_waiting"
            )
        await self._withdraw_questions(tx, task, f"{by} said so by command.")

    async def answered(self, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str:
        """Apply an operator's answer to the question (bot.approvals.questions.AnswerHandler)."""
        task = None if question.task is None else await tasks.get(tx, question.task)
        if task is None or task.state != "waiting":
            return "The task is over already."
        await self._end(tx, task, word, task.summary or f"{word}, says {by}", only=["waiting"])
        return f"Task {markdown.code(task.id)} is {word}."

    async def after_answer(self, question: Question, word: str) -> None:
        """Wake the dispatcher after the answer is committed (bot.approvals.questions.AnswerFollower)."""
        del question, word
        self.services.dispatcher.wake()

    async def cancel(self, tx: AsyncConnection, task: Task, *, by: str) -> bool:
        """End a task in any open state. Return False if it is already over."""
        if not await self._end(tx, task, "cancelled", f"cancelled by {by}", only=OPEN):
            return False
        await self._withdraw_questions(tx, task, "The task is cancelled.")
        return True

    async def _end(
        self, tx: AsyncConnection, task: Task, state: str, summary: str | None, *, only: Sequence[str] = LIVE
    ) -> bool:
        """End a task. Its use and its last message follow when its turn is over (`settle`)."""
        now = self.services.clock()
        values: dict[str, Any] = {
            "summary": summary,
            "why": None,
            "reason": None,
            "look_at": None,
            "ended_at": now,
        }
        if task.attempt:
            self.ending(task.id)
        if not await tasks.change(tx, task.id, _ENDS[state], only=only, attempt_is=task.attempt, now=now, **values):
            return False
        if not task.attempt:
            # Without an attempt, there is no use to count.
            await self.threads.close(tx, task.id)
        if state == "done" and task.kind != TURN and task.assigned is not None:
            # Requests among agents show people no more than a report does.
            await last_results.note(tx, task.assigned, "task" if is_person(task.operator) else "report", now)
        return True

    async def _withdraw_questions(self, tx: AsyncConnection, task: Task, why: str) -> None:
        for question in await questions.pending(tx):
            if question.task == task.id:
                await self.services.questions.withdraw(tx, question, why)

    # --- what it came to ----------------------------------------------------------------------------------------

    async def is_over(self, tx: AsyncConnection, task: Task) -> bool:
        """Return whether an ended task uses nothing more, because its turn is over."""
        message = None if task.message is None else await agent_messages.get(tx, task.message)
        return message is None or message.state in MESSAGE_OVER

    async def runs_on(self, tx: AsyncConnection, task: Task) -> tuple[AgentRow, str] | None:
        """Return the agent and the turn of a canceled task whose turn began all the same, or None."""
        message = None if task.message is None else await agent_messages.get(tx, task.message)
        if task.state != "cancelled" or message is None or message.state != "accepted" or message.turn is None:
            return None
        row = await agents.get(tx, message.agent)
        return None if row is None else (row, message.turn)

    async def settle(self, tx: AsyncConnection, task: Task, *, whole: bool) -> bool:
        """Record the use of an ended task, if known, and post its last message. Return False if it has changed.

        Args:
            tx: the transaction.
            task: the task as it ended.
            whole: whether the register has all of its use, so that no entry means no use.
        """
        used = (await usage_queries.by_task(tx, [task.id])).get(task.id)
        now = self.services.clock()
        if used is not None or whole:
            tokens, usd = (0.0, 0.0) if used is None else weighed(self.services.settings, used)
            unpriced = used is not None and used.unpriced
            values: dict[str, Any] = {"actual_tokens": tokens, "actual_usd": None if unpriced else usd}
            if not await tasks.change(
                tx, task.id, TaskEvent.SETTLE, attempt_is=task.attempt, now=now, step=False, **values
            ):
                return False
            await correct(tx, task, tokens, now=now)
        over = await tasks.get(tx, task.id)
        if over is not None and task.kind != TURN:
            said = task_words.over(over, self.services.redact)
            await self.tell(tx, task, f"over/{task.attempt}", said, also=await self._holder(tx, task))
            await self.threads.close(tx, task.id, elsewhere=(f"task/{task.id}/over/{task.attempt}", said))
        return True

    # --- telling ------------------------------------------------------------------------------------------------

    async def _holder(self, tx: AsyncConnection, task: Task) -> AgentRow | None:
        return None if task.assigned is None else await agents.get(tx, task.assigned)

    async def tell(
        self,
        tx: AsyncConnection,
        task: Task,
        what: str,
        text: str,
        *,
        also: AgentRow | None = None,
        in_thread_alone: bool = False,
    ) -> None:
        """Post a text about a task, once per `what`.

        It appears in the task's thread, or else where the task was requested, and in the thread of the agent `also`.
        """
        services = self.services
        journal_effects = services.agents.journal_effects
        thread = None
        if also is not None:
            thread = await journal_effects.conversation(tx, also, "")
            await journal_effects.note(tx, also, f"task/{task.id}/{what}/thread", text)
        if in_thread_alone or task.connector is None or task.conversation is None:
            return
        if thread == (task.connector, task.conversation):
            return
        if task.thread_key is not None:
            await self.threads.say(tx, task, what, text)
            return
        place = MessagePlace(task.connector, conversation=task.conversation)
        await journal_effects.speak(tx, f"task/{task.id}/{what}", text, place)

    async def told_wait(self, tx: AsyncConnection, task: Task, text: str | None, wait: TaskWait) -> None:
        """Announce that a task waits, and record the announcement. Without a text, only record it."""
        now = self.services.clock()
        decision = wait_reasons.decision_of(wait)
        await tasks.tell(tx, TaskStep(task=task.id, at=now, state="told", reason=wait.text, decision=decision))
        if text is None:
            return
        if task.connector is None or task.conversation is None:
            await self.tell(tx, task, f"waits/{now:.3f}", text)
            return
        row = None if task.agent is None else await agents.get(tx, task.agent)
        place = MessagePlace(task.connector, conversation=task.conversation)
        if task.thread_key is not None:
            place = MessagePlace(task.connector, thread_of=task.thread_key)
        await run_now.ask(tx, self.services, row, task, text, place)
