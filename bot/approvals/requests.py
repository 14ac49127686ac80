"""Permission requests in chat: asking, recording the outcome, and keeping grants."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.approvals.choices import DONE, choices_of, offered, question
from bot.messaging.agent_channel import AgentChannel
from bot.text import markdown
from database.queries.agents import agent_messages
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from database.queries.operations import audit_log
from fleet.journal import events
from fleet.journal.events import GrantAdded

#: Prefix of the outbox keys of permission requests.
QUESTION = "a/"

#: The most requests in one message, and the most characters of them.
_TOGETHER = 10
_TOGETHER_CHARACTERS = 6_000

_OUTCOMES = {
    "selected": "answered",
    "granted": "answered",
    "denied": "answered",
    "expired": "expired",
    "cancelled": "withdrawn",
    "lost": "withdrawn",
}


@dataclass(frozen=True, slots=True)
class PermissionRequests:
    channel: AgentChannel

    async def ask(self, tx: AsyncConnection, row: AgentRow, ask: AskPermission) -> None:
        """Ask operators for a runtime's permission, in the place where its message is answered."""
        asked = ask.asked
        if await approvals.by_request(tx, row.name, ask.incarnation, asked.request) is not None:
            return
        digest = hashlib.blake2s(f"{row.name}/{ask.incarnation}/{asked.session}/{asked.request}".encode()).hexdigest()
        length = 4
        while await approvals.get(tx, digest[:length]) is not None:
            length += 1
        approval = approvals.Approval(
            id=digest[:length],
            agent=row.name,
            incarnation=ask.incarnation,
            session=asked.session,
            request=asked.request,
            digest=asked.digest,
            title=asked.title,
            detail=asked.detail,
            options=tuple(asked.options),
            state="pending",
            outbox_key=f"{QUESTION}{digest[:20]}",
            asked_at=ask.at,
            expires_at=asked.expires_at,
            facts={**asked.facts, "sandboxed": asked.sandboxed} if asked.facts else None,
        )
        others = await self._others(tx, approval)
        approval = replace(approval, together=[other.id for other in others] or None)
        await approvals.add(tx, approval)
        message = await agent_messages.get(tx, ask.message) if ask.message is not None else None
        details = [each.detail for each in (approval, *others)]
        hidden = any(self.channel.redaction(detail) != detail for detail in details)
        until = self.channel.time_of_day(approval.expires_at)
        page = None if self.channel.dashboard is None else f"{self.channel.dashboard}/waiting/{approval.id}"

        def text(marks: bool) -> str:
            return question(
                approval, self.channel.redaction, until=until, marks=marks, hidden=hidden, others=others, page=page
            )

        answers = [(choice.name, choice.button) for choice in choices_of(approval)]
        place, also = self.channel.place_of(row, message), self.channel.asker(row, message)
        await self.channel.ask(tx, approval.outbox_key, text, place, answers, also=also)
        await self.channel.titles.show(tx, row.name)

    async def _others(self, tx: AsyncConnection, approval: Approval) -> list[Approval]:
        """Return the other requests of the agent that wait, if all of them can be shown whole in one message."""
        waiting = [
            other
            for other in await approvals.in_states(tx, ["pending"], agent=approval.agent)
            if other.incarnation == approval.incarnation and any(c.name == "allow" for c in offered(other.options))
        ]
        once = any(choice.name == "allow" for choice in offered(approval.options))
        characters = sum(len(each.detail) for each in (approval, *waiting))
        return waiting if once and len(waiting) < _TOGETHER and characters <= _TOGETHER_CHARACTERS else []

    async def settle(self, tx: AsyncConnection, row: AgentRow, settle: Settle) -> None:
        """Record the outcome that the agent host reports for a request."""
        answered = settle.answered
        approval = await approvals.by_request(tx, row.name, settle.incarnation, answered.request)
        if approval is None:
            return
        by = f" by {markdown.one_line(self._called(answered.by))}" if answered.by else ""
        kind = next((option.get("kind") for option in approval.options if option.get("id") == answered.option), None)
        # The runtime got "allow once"; only Muster knows that the answer was "always".
        always = (approval.answer or {}).get("always")
        words = DONE["allow_always"] if always else DONE.get(kind or "", "answered")
        outcome = {
            "selected": f"{words}{by}",
            "granted": f"allowed by an earlier “always”{by}",
            "denied": f"{words if kind == 'reject_always' else 'denied'}{by}",
            "expired": "nobody answered in time: denied",
            "cancelled": "the turn was cancelled",
            "lost": "the agent that asked is gone",
        }.get(answered.outcome, markdown.one_line(answered.outcome))
        if answered.rule is not None:
            word = "denied" if answered.outcome == "denied" else "allowed"
            outcome = f"{word} by rule {markdown.one_line(answered.rule)}"
        state = _OUTCOMES.get(answered.outcome, "answered")
        await self.close(tx, row, approval, state, outcome, settle.at)

    async def answered_by_rule(self, tx: AsyncConnection, row: AgentRow, by_rule: AnsweredByRule) -> None:
        """Record in the audit log what an approval rule allowed or denied."""
        answered = by_rule.answered
        word = "denied" if answered.outcome == "denied" else "allowed"
        await audit_log.add(
            tx,
            key=f"rule/{row.name}/{by_rule.incarnation}/{answered.request}",
            at=by_rule.at,
            identity=f"rule:{answered.rule}",
            through=None,
            door="approval",
            connector=None,
            conversation=None,
            action=f"permission of {row.name}",
            arguments={
                "rule": answered.rule,
                "title": self.channel.redaction(answered.title),
                "detail": self.channel.redaction(answered.detail),
            },
            outcome="answered",
            detail=self.channel.redaction(f"{word} by rule {answered.rule}: {answered.why}"),
        )

    def _called(self, identity: str) -> str:
        name = self.channel.bridge.people.get(identity)
        return identity if name is None else f"{name} ({identity})"

    async def granted(self, tx: AsyncConnection, row: AgentRow, key: str, granted: GrantAdded, at: float) -> None:
        """Record a grant that the agent host accepted. A late "always" must not apply at the next start."""
        approval = await approvals.always_answered(tx, row.name, granted.digest)
        mark = approval.id if approval is not None else hashlib.blake2s(key.encode()).hexdigest()[:8]
        grant = approvals.Grant(
            id=f"g{mark}",
            agent=row.name,
            digest=granted.digest,
            title=granted.title,
            detail=approval.detail if approval is not None else granted.title,
            granted_by=granted.by,
            granted_at=at,
        )
        await approvals.add_grant(tx, grant)

    async def too_late(self, tx: AsyncConnection, row: AgentRow, approval: Approval, reason: str) -> None:
        """Report that the agent host did not accept the answer in time."""
        by = str((approval.answer or {}).get("by", ""))
        place = self.channel.thread(row)
        text = f"{markdown.one_line(by) or 'The answer'}: too late for request `{approval.id}`: {reason}"
        await self.channel.speak(tx, f"{approval.outbox_key}/late", text, place)
        await approvals.change(tx, approval.id, only=["answering"], state="expired", outcome=reason)

    async def close(
        self, tx: AsyncConnection, row: AgentRow, approval: Approval, state: str, outcome: str, at: float
    ) -> None:
        """Record how a request ended, and show it in the message that asked."""
        now = self.channel.clock()
        open_states = ["pending", "answering", "answered"]
        await approvals.change(
            tx, approval.id, only=open_states, state=state, outcome=self.channel.redaction(outcome), answered_at=at
        )
        answer = approval.answer or {}
        by = str(answer.get("by") or "muster")
        await audit_log.add(
            tx,
            key=f"{approval.outbox_key}/closed",
            at=now,
            identity=by,
            through=answer.get("through"),
            door="approval",
            connector=self.channel.bridge.connector_of(by) or row.connector,
            conversation=None,
            action=f"permission of {row.name}",
            arguments={
                "id": approval.id,
                "title": self.channel.redaction(approval.title),
                "detail": self.channel.redaction(approval.detail),
            },
            outcome=state,
            detail=self.channel.redaction(outcome),
        )
        mark = "☑️" if state == "answered" else "⌛"
        gist = markdown.gist(approval.title, self.channel.redaction, 200)
        text = f"{mark} {outcome}: {markdown.code(gist)}"
        if gist != approval.detail:
            # The title may say very little: pi's requests have only the tool's name.
            text += f"\n\n{markdown.code_block(approval.detail)}"
        await self.channel.over(tx, approval.outbox_key, text)
        await self.channel.titles.show(tx, row.name)


@dataclass(frozen=True, slots=True)
class AskPermission:
    """A runtime's request for permission."""

    incarnation: int
    asked: events.PermissionAsked
    at: float
    message: str | None
    """The id of the message whose turn asks."""


@dataclass(frozen=True, slots=True)
class AnsweredByRule:
    """A permission request that an approval rule answered, so that nobody was asked."""

    incarnation: int
    answered: events.PermissionAnswered
    at: float


@dataclass(frozen=True, slots=True)
class Settle:
    """The end of a permission request."""

    incarnation: int
    answered: events.PermissionAnswered
    at: float
