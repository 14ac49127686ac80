"""Questions to operators in an agent's thread. They are answered by a reaction, a button or `answer ID WORD`.

A question's id is derived from its cause, so asking twice posts it once. Only operators may answer. The first answer
counts, and it is recorded in the transaction that acts on it. The module that asks registers the effect of an answer
for its kind of question (`Questions.on`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permission import OPERATOR, Permission
from bot.commands.syntax import command_line
from bot.egress_client.services import EgressServices
from bot.messaging.agent_channel import ANSWERS
from bot.messaging.bridge import original
from bot.messaging.composer import MessagePlace
from bot.messaging.thread_lifecycle import OFFERS
from bot.text import markdown
from bot.text.errors import UserError
from connectors.contract.messages import Button
from database.queries.agents.agents import AgentRow
from database.queries.chat import questions
from database.queries.chat.questions import Question
from database.queries.operations import audit_log

#: Prefix of the outbox keys of questions.
ASKED = "q/"


@dataclass(frozen=True, slots=True)
class QuestionChoice:
    """One choice: its reaction or button, its word for the command, and its label."""

    mark: str
    word: str
    label: str

    @property
    def button(self) -> Button:
        return Button(key=self.mark, label=f"{self.mark} {self.label[:1].upper()}{self.label[1:]}")


class AnswerHandler(Protocol):
    """A callback that acts on an answer, in the transaction that records it, and returns a sentence about it.

    It raises UserError if the answer is not possible now; the question then stays open.
    """

    async def __call__(self, tx: AsyncConnection, question: Question, word: str, *, by: str) -> str: ...


class AnswerFollower(Protocol):
    """A callback for a committed answer. A crash may prevent the call, so nothing may depend on it alone."""

    async def __call__(self, question: Question, word: str) -> None: ...


def bare(mark: str) -> str:
    """Return a reaction without skin tones and variation selectors."""
    return "".join(char for char in mark if char != "\ufe0f" and not "\U0001f3fb" <= char <= "\U0001f3ff")


def word_of(question: Question, mark: str) -> str | None:
    """Return the word of the choice that a reaction means, or None."""
    return next((each["word"] for each in question.choices if bare(each["mark"]) == bare(mark)), None)


@dataclass(slots=True)
class Questions:
    services: EgressServices
    _takers: dict[str, AnswerHandler] = field(default_factory=dict)
    _followers: dict[str, AnswerFollower] = field(default_factory=dict)
    _needs: dict[tuple[str, str], Permission] = field(default_factory=dict)

    def on(
        self,
        kind: str,
        taker: AnswerHandler,
        follower: AnswerFollower | None = None,
        *,
        needs: Mapping[str, Permission] | None = None,
    ) -> None:
        """Register what answers to a kind of question do, and which answers need more than an operator."""
        self._takers[kind] = taker
        self._needs |= {(kind, word): permission for word, permission in (needs or {}).items()}
        if follower is not None:
            self._followers[kind] = follower

    def needs(self, question: Question, word: str) -> Permission:
        """Return the permission that this answer needs."""
        return self._needs.get((question.kind, word), OPERATOR)

    # --- asking -------------------------------------------------------------------------------------------------

    async def ask(
        self,
        tx: AsyncConnection,
        row: AgentRow | None,
        *,
        kind: str,
        cause: str,
        text: str,
        choices: Sequence[QuestionChoice],
        task: str | None = None,
        place: MessagePlace | None = None,
    ) -> Question:
        """Ask in the agent's thread or in `place`, once per kind and `cause`.

        Args:
            tx: the transaction that records the cause.
            row: the agent in question; None if the question is about no agent, and is asked in `place`.
            kind: the kind of question, which selects the callback (`on`).
            cause: the globally unique cause, such as a task and its attempt.
            text: the question in Markdown; the choices follow it.
            choices: the choices.
            task: the task in question.
            place: where to ask; None means the agent's thread.
        """
        digest = hashlib.blake2s(f"{kind}/{cause}".encode(), digest_size=10).hexdigest()
        if (known := await questions.get(tx, digest[:8])) is not None:
            return known
        now = self.services.clock()
        question = Question(
            id=digest[:8],
            kind=kind,
            agent="" if row is None else row.name,
            task=task,
            outbox_key=f"{ASKED}{digest}",
            choices=[{"mark": each.mark, "word": each.word, "label": each.label} for each in choices],
            state="pending",
            asked_at=now,
        )
        await questions.add(tx, question)
        journal_effects = self.services.agents.journal_effects
        answers = [(each.word, each.button) for each in choices]
        shown = partial(asked, question, text)
        if place is None:
            assert row is not None
            place = journal_effects.thread(row)
        await journal_effects.ask(tx, question.outbox_key, shown, place, answers)
        await journal_effects.titles.show(tx, question.agent)
        return question

    # --- answering ----------------------------------------------------------------------------------------------

    async def answer(
        self,
        tx: AsyncConnection,
        question: Question,
        word: str,
        *,
        by: str,
        through: str | None,
        recorded: str | None = None,
    ) -> str:
        """Record an answer if the question still waits for one. Call `after` once `tx` is committed.

        Args:
            tx: the transaction.
            question: the question as it was read.
            word: the word of one of its choices.
            by: the identity that answers; the caller has checked its permission.
            through: the group that grants the permission, or None if it is the person's own.
            recorded: the answer to record, if it was not given by its word.

        Returns:
            A sentence that says what was done.

        Raises:
            UserError: the question is over, or this answer is not possible.
        """
        chosen = next((each for each in question.choices if each["word"] == word), None)
        if chosen is None:
            raise UserError(
                f"Question `{question.id}` cannot be answered with {markdown.one_line(word, 40)!r}; "
                f"allowed is {', '.join(question.words)}.",
                code="question.invalid_answer",
            )
        now = self.services.clock()
        answered = {"state": "answered", "answer": recorded or word, "answered_by": by, "answered_at": now}
        closed = await questions.close(tx, question.id, **answered)
        if not closed:
            raise UserError(_over(await questions.get(tx, question.id) or question), code="question.over")
        taker = self._takers.get(question.kind)
        text = await taker(tx, question, word, by=by) if taker is not None else f"{chosen['label']}."
        said = f"{chosen['mark']} {text} (by {markdown.one_line(by, 120)})"
        await self._closed(tx, question, said, word, by, through)
        return text

    async def after(self, question: Question, word: str) -> None:
        """Run the follow-up of a committed answer."""
        follower = self._followers.get(question.kind)
        if follower is not None:
            await follower(question, word)
        self.services.delivery.wake()

    async def withdraw(self, tx: AsyncConnection, question: Question, why: str) -> bool:
        """Close a question whose answer is no longer needed. Return False if it was closed already."""
        if not await questions.close(tx, question.id, state="withdrawn", answered_at=self.services.clock()):
            return False
        await self._closed(tx, question, f"⌛ {why}", "withdrawn", "muster", None)
        return True

    async def about(self, key: str) -> Question | None:
        """Return the question that the message with this outbox key asks, or None."""
        async with self.services.store.read() as tx:
            return await questions.by_outbox_key(tx, original(key))

    async def is_mark(self, mark: str) -> bool:
        """Return whether this reaction would answer any open question."""
        async with self.services.store.read() as tx:
            return any(word_of(question, mark) is not None for question in await questions.pending(tx))

    # --- saying -------------------------------------------------------------------------------------------------

    async def _closed(
        self, tx: AsyncConnection, question: Question, text: str, outcome: str, by: str, through: str | None
    ) -> None:
        journal_effects = self.services.agents.journal_effects
        await audit_log.add(
            tx,
            key=f"{question.outbox_key}/closed",
            at=self.services.clock(),
            identity=by,
            through=through,
            door="question",
            connector=journal_effects.bridge.connector_of(by),
            action=f"question about {question.subject}",
            arguments={"id": question.id, "kind": question.kind, "task": question.task},
            outcome="answered" if outcome != "withdrawn" else "withdrawn",
            detail=outcome,
        )
        await journal_effects.over(tx, question.outbox_key, text, below=question.kind in OFFERS)
        await journal_effects.titles.show(tx, question.agent)


def asked(question: Question, text: str, marks: bool) -> str:
    """Return the message that asks, with its choices."""
    lines = []
    for each in question.choices:
        mark = f"{each['mark']} " if marks else ""
        way = command_line(f"answer {question.id} {each['word']}")
        lines.append(f"{mark}{each['label']}: {way}")
    return text + ANSWERS + "\n- ".join(lines)


def _over(question: Question) -> str:
    if question.state == "withdrawn":
        return f"question `{question.id}` about {question.subject} is over: nobody needs its answer any more."
    by = f" by {markdown.one_line(question.answered_by)}" if question.answered_by else ""
    return f"question `{question.id}` about {question.subject} was answered{by}: {question.answer}."
