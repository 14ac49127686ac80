"""Gathers what waits for an answer."""

from __future__ import annotations

from bot.approvals.choices import ADDING, WHILE_S, ApprovalChoice, choices_of
from bot.approvals.services import ApprovalServices
from bot.auth.permission import ADMIN
from bot.read_models.waiting import AnswerChoice, PendingQuestion, PendingRequest, WaitingModel
from connectors.contract.messages import Message
from connectors.delivery import outbox
from database.queries.chat import approvals, questions
from database.queries.chat.approvals import Approval
from database.queries.chat.questions import Question


async def load(services: ApprovalServices) -> WaitingModel:
    """Return all that waits for an answer, oldest first.

    Raises:
        RegisterError: the register cannot be used.
    """
    async with services.store.read() as tx:
        requests = await approvals.in_states(tx, ["pending", "answering"])
        asked = await questions.pending(tx)
        messages = await outbox.rows(tx, *(each.outbox_key for each in asked))
    said = {key: row.outbound.content for key, row in messages.items()}
    return WaitingModel(
        requests=tuple(_request(each) for each in requests),
        questions=tuple(
            _question(
                each,
                text=content.text if isinstance(content := said.get(each.outbox_key), Message) else None,
                admin={word for word in each.words if services.questions.needs(each, word) >= ADMIN},
            )
            for each in asked
        ),
    )


def _request(approval: Approval) -> PendingRequest:
    return PendingRequest(
        id=approval.id,
        agent=approval.agent,
        title=approval.title,
        detail=approval.detail,
        choices=tuple(_choice(approval.id, each) for each in choices_of(approval)),
        state="answering" if approval.state == "answering" else "pending",
        asked_at=approval.asked_at,
        expires_at=approval.expires_at,
        together=tuple(approval.together or ()),
    )


def _choice(request: str, choice: ApprovalChoice) -> AnswerChoice:
    arguments: dict[str, str | bool | float] = {"id": request}
    if choice.name == "while":
        arguments["for"] = f"{WHILE_S / 60:.0f}m"
    elif choice.name not in {"allow", "deny"}:
        arguments[choice.name] = True
    return AnswerChoice(
        word=choice.name,
        mark=choice.mark,
        label=choice.label,
        command="deny" if choice.name == "deny" else "approve",
        arguments=arguments,
        style=choice.button.style.value,
        needs_admin=choice.name in ADDING,
    )


def _question(question: Question, *, text: str | None, admin: set[str]) -> PendingQuestion:
    return PendingQuestion(
        id=question.id,
        kind=question.kind,
        agent=question.agent or None,
        task=question.task,
        text=text,
        choices=tuple(
            AnswerChoice(
                word=each["word"],
                mark=each["mark"],
                label=each["label"],
                command="answer",
                arguments={"id": question.id, "word": each["word"]},
                needs_admin=each["word"] in admin,
            )
            for each in question.choices
        ),
        asked_at=question.asked_at,
    )
