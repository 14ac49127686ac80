"""Reactions to Muster's messages, and buttons: they confirm commands, and answer permission requests and questions."""

from __future__ import annotations

from dataclasses import dataclass

from bot.agents.services import AgentServices
from bot.approvals import service as answering
from bot.approvals.choices import ADDING, CONFIRMING, by_mark
from bot.approvals.questions import ASKED, word_of
from bot.approvals.requests import QUESTION
from bot.auth.permission import OPERATOR
from bot.auth.permissions import Authority
from bot.interfaces.chat.confirmations import Confirmations
from bot.messaging.bridge import original
from bot.messaging.own_messages import OwnMessages
from bot.messaging.replies import Replies, confirmation_key, derived_id
from bot.text.errors import UserError
from connectors.contract.messages import Reaction
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from core.crash_points import declare
from database.queries.chat import approvals
from database.queries.chat.questions import Question
from database.queries.operations import audit_log

REACT = declare("chat.react")

#: The reply to a button of a message that is no longer known.
_GONE = "This button's message is out of date, and so old that nothing more is known of it."

#: Refusals of an answer to a request that still waits.
_NOT_LATE = ("approval.admins_only", "approval_rule.too_many")


@dataclass(frozen=True, slots=True)
class Reactions:
    services: AgentServices
    replies: Replies
    confirmations: Confirmations
    own_messages: OwnMessages

    async def take(self, arrival: Arrival, body: Reaction, authority: Authority) -> None:
        """Process a reaction of an operator or a viewer."""
        inbound = arrival.inbound
        choice, asking = by_mark(body.key), self.services.questions
        row = None
        if choice is not None or await asking.is_mark(body.key):
            row = await self.own_messages.find(
                inbound.connector,
                (QUESTION, ASKED, confirmation_key("")),
                lambda tx: outbox.by_event(tx, inbound.connector, body.target),
            )
        if row is not None and (question := await asking.about(row.key)) is not None:
            await self._to_question(arrival, question, word_of(question, body.key), authority)
            return
        async with self.services.store.read() as tx:
            approval = await approvals.by_outbox_key(tx, original(row.key)) if row is not None else None
        if row is None or choice is None:
            await self.replies.answer(
                arrival, _GONE if body.pressed else None, detail="a reaction that means nothing here"
            )
            return
        key = original(row.key)
        run_id = key.removeprefix("confirm/")
        if run_id != key and choice not in (*CONFIRMING, "deny"):
            await self.replies.answer(arrival, None, detail="a reaction that means nothing here")
            return
        if run_id != key:
            await self.confirmations.decide(arrival, run_id, confirmed=choice in CONFIRMING)
            return
        if approval is None:
            await self.replies.answer(
                arrival, _GONE if body.pressed else None, detail="a reaction to nothing that asks"
            )
            return
        now = self.services.clock()
        async with self.services.store.write(REACT) as tx:
            if authority.permission < OPERATOR:
                outcome = detail = "refused"
                said: str | None = f"Only operators answer permission requests; you are {authority.permission}."
            else:
                try:
                    detail = await answering.answer(
                        tx,
                        approval,
                        choice,
                        by=inbound.identity,
                        through=authority.through,
                        source=inbound.event_id,
                        now=now,
                        redact=self.services.redact,
                        permission=authority.permission,
                    )
                    outcome, said = "done", None
                except UserError as error:
                    late = "" if error.code in _NOT_LATE else "Too late. "
                    outcome, detail, said = "refused", str(error), f"{late}{error}"
                    given = approval.answer or {}
                    if body.pressed and (given.get("by"), given.get("choice")) == (inbound.identity, choice):
                        outcome, said = "done", None  # pressed twice
            await audit_log.add(
                tx,
                key=f"reaction/{derived_id('r', inbound)}",
                at=now,
                identity=inbound.identity,
                through=authority.through,
                door="chat",
                connector=inbound.connector,
                conversation=inbound.conversation,
                action=f"answer {choice}",
                arguments={"id": approval.id, "agent": approval.agent},
                outcome=outcome,
                detail=self.services.redact(detail),
            )
            if said is not None:
                await self.replies.say(tx, inbound, derived_id("n", inbound), said, private=True)
            await inbox.finish(tx, arrival.seq, now, detail=outcome)
        self.services.agents.bring_mail(approval.agent)
        if choice in ADDING:
            self.services.agents.rules_changed()
        self.services.delivery.wake()

    async def _to_question(self, arrival: Arrival, question: Question, word: str | None, authority: Authority) -> None:
        if word is None:
            await self.replies.answer(arrival, None, detail="a reaction that means nothing here")
            return
        needs = self.services.questions.needs(question, word)
        if authority.permission < needs:
            await self.replies.answer(
                arrival, f"Only {needs}s answer this; you are {authority.permission}.", detail="refused"
            )
            return
        try:
            async with self.services.store.write(REACT) as tx:
                await self.services.questions.answer(
                    tx, question, word, by=arrival.inbound.identity, through=authority.through
                )
                await inbox.finish(tx, arrival.seq, self.services.clock(), detail="done")
        except UserError as error:  # and nothing of it stands
            await self.replies.answer(arrival, f"Not done: {error}", detail="refused")
        else:
            await self.services.questions.after(question, word)
