"""Delivery of messages, answers and revocations to an agent host, each retried until the host has it.

Undelivered items are read from the register each time, so a restarted delivery continues where the last was killed. The
agent host knows the ids of messages, and accepts each only once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from bot.agents.context import AgentContext
from bot.agents.journal.projection import Receipt
from bot.agents.messages import onboarding_prompt
from bot.agents.messages.peer_messages import OURS
from bot.approvals.service import fallback, fallen_back
from bot.messaging.attachments import encoded
from core.crash_points import around, declare
from database.queries.agents import agent_messages, agents, peer_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from fleet.control.agent_host_client import AgentLink
from fleet.errors import AgentRefused, AgentUnreachable

log = structlog.get_logger(__name__)

HAND_OVER = declare("message.hand_over")
HANDED_OVER = declare("message.handed_over")
ANSWER = declare("approval.answer")
ANSWERED = declare("approval.answered")

#: Temporary refusals of an agent host: the message waits until the host runs again, has space, or can write.
PASSING = frozenset({"stopping", "queue_full", "not_writable"})
#: For each state that an agent host reports of a message it already had, the states that the message went through. The
#: journal may have been read past those entries.
_STATES = {
    "accepted": ("journaled", "accepted"),
    "finished": ("journaled", "accepted", "finished"),
    "cancelled": ("journaled", "accepted", "cancelled"),
    "steered": ("journaled", "accepted", "steered"),
    "failed": ("journaled", "failed"),
    "cut": ("journaled", "accepted", "failed"),
    "uncertain": ("journaled", "uncertain"),
    "withdrawn": ("withdrawn",),
}
#: The detail of a message whose turn is cancelled if it has begun when the message is withdrawn.
END = "its turn is ended, too"
#: Seconds between retries, and between checks for items without a notification.
LOOK_AGAIN = 30.0


def deadlines(
    known: Mapping[tuple[str, float], float], waiting: Sequence[AgentMessage], *, now: float, steady: float
) -> dict[tuple[str, float], float]:
    """Return when each waiting message is given up, in `steady` seconds.

    Deadlines in `known` are kept, so that a change of the system clock does not make messages expire.
    """
    found = {(message.id, message.give_up_at): steady + message.give_up_at - now for message in waiting}
    return {key: known.get(key, deadline) for key, deadline in found.items()}


@dataclass(slots=True)
class MessageDelivery:
    """The message delivery of one agent."""

    name: str
    context: AgentContext
    link: Callable[[], AgentLink | None]
    """Returns the open link to the agent host, or None."""
    steady: Callable[[], float] = time.monotonic
    """A monotonic clock in seconds."""
    _deadlines: dict[tuple[str, float], float] = field(default_factory=dict)
    """When each waiting message is given up, in `steady` seconds."""
    idle: bool = False
    """Whether nothing is known to wait, so that the register need not be read. `mail` resets it."""
    _mail: asyncio.Event = field(default_factory=asyncio.Event)
    _held_back: bool = False
    """Whether the agent host accepts no messages for now, so that it is not asked for each new one."""

    def mail(self) -> None:
        """Note that something waits for delivery."""
        self.idle = False
        self._mail.set()

    def look_again(self) -> None:
        """Note that something waits for delivery, possibly without a notification."""
        self._held_back = False
        self.mail()

    def room(self) -> None:
        """Note that the agent host is connected, or accepts messages again."""
        self._held_back = False
        self._mail.set()

    async def run(self) -> None:
        """Deliver messages, answers and revocations to the agent host in order, until cancelled."""
        while True:
            self._mail.clear()
            if not self.idle:
                await self._carry_all()
            try:
                async with asyncio.timeout(None if self.idle else LOOK_AGAIN):
                    await self._mail.wait()
            except TimeoutError:
                self._held_back = False

    async def _carry_all(self) -> None:
        # A notification during the delivery sets this to False again.
        self.idle = True
        nothing_left = False
        try:
            nothing_left = await self._carry()
        finally:
            self.idle = self.idle and nothing_left

    async def _carry(self) -> bool:
        """Deliver what waits. Return whether nothing is left."""
        try:
            await self._give_up_old()
            link = self.link()
            if link is None:
                return False
            await self._carry_withdrawals(link)
            await self._carry_messages(link)
            answered = await self._carry_answers(link)
            await self._carry_revocations(link)
        except (AgentUnreachable, AgentRefused) as error:
            log.info("agent.carry_failed", agent=self.name, reason=str(error))
            return False
        return answered and not self._held_back

    async def _give_up_old(self) -> None:
        async with self.context.store.read() as tx:
            row = await agents.get(tx, self.name)
            if row is not None and row.wanted == "frozen":
                return  # what is said to a frozen agent waits with it
            waiting = await agent_messages.in_states(tx, ["pending"], agent=self.name)
        self._deadlines = deadlines(self._deadlines, waiting, now=self.context.clock(), steady=self.steady())
        for message in waiting:
            if self._deadlines[message.id, message.give_up_at] <= self.steady():
                await self._settle(message.id, "dead", detail="it could not be delivered in time")

    async def _rewritten(self, link: AgentLink, message: AgentMessage) -> None:
        """Bring the agent host the text of a message that its author edited while the first one was brought."""
        sent = message.text
        while True:
            async with self.context.store.read() as tx:
                now = await agent_messages.get(tx, message.id)
            if now is None or now.text == sent:
                return
            await link.edit(now.id, now.text)
            sent = now.text

    async def _settle(
        self, message_id: str, *states: str, detail: str | None = None, told: Mapping[str, str] | None = None
    ) -> None:
        async with self.context.store.write(HANDED_OVER) as tx:
            if told is not None:
                await peer_messages.tell(tx, self.name, told, self.context.clock())
            row = await agents.get(tx, self.name)
            if row is not None:
                for state in states:
                    await self.context.journal_effects.carry_out(tx, row, Receipt(message_id, state, detail=detail))
        self.context.wake_delivery()

    async def _carry_withdrawals(self, link: AgentLink) -> None:
        async with self.context.store.read() as tx:
            taken_back = await agent_messages.in_states(tx, ["withdrawing"], agent=self.name)
        for message in taken_back:
            with around(HAND_OVER):
                taken = await link.withdraw(message.id, end=message.detail == END)
            # If the turn is cancelled with it, the journal reports the message's end.
            if not taken.withdrawn and not taken.ending:
                # Either the message never arrived, or its turn has begun and the journal reports its end.
                async with self.context.store.write(HANDED_OVER) as tx:
                    now = self.context.clock()
                    await agent_messages.change(tx, message.id, now=now, only=["withdrawing"], state="withdrawn")

    async def _carry_messages(self, link: AgentLink) -> None:
        if self._held_back:
            return
        async with self.context.store.read() as tx:
            waiting = await agent_messages.in_states(tx, ["pending"], agent=self.name)
            told = await peer_messages.told(tx, self.name) if waiting else None
            others = onboarding_prompt.fleet(await agents.every(tx), but=self.name) if waiting else {}
        for message in waiting:
            # Changes in the fleet are sent along with a message that begins a turn; they do not wake an agent.
            news = onboarding_prompt.news(told, others) if told is not None else ""
            try:
                images = [await asyncio.to_thread(encoded, item) for item in message.attachments]
            except OSError as error:
                await self._settle(message.id, "dead", detail=f"a picture that came with it is gone: {error.strerror}")
                continue
            try:
                with around(HAND_OVER):
                    answer = await link.send(
                        id=message.id,
                        text=message.text,
                        mode=message.mode,
                        sender=message.sender,
                        images=images,
                        note=news,
                    )
            except AgentRefused as refusal:
                if refusal.refusal in PASSING:
                    log.info("agent.not_now", agent=self.name, message=message.id, reason=str(refusal))
                    self._held_back = True
                    return
                await self._settle(message.id, "dead", detail=str(refusal))
            else:
                await self._rewritten(link, message)
                states = _STATES.get(answer.state, ("journaled",))
                known = "the agent had it already when it was sent again" if answer.state in _STATES else None
                changed = others if told is None or news else None
                await self._settle(message.id, *states, detail=known, told=changed)
                told = told if changed is None else changed
        if waiting:
            # Messages may have been withdrawn during their delivery.
            await self._carry_withdrawals(link)

    async def _carry_answers(self, link: AgentLink) -> bool:
        """Deliver answers. Return False if the agent host accepts none now."""
        async with self.context.store.read() as tx:
            answering = await approvals.in_states(tx, ["answering"], agent=self.name)
        for approval in answering:
            if approval.incarnation == OURS:
                continue
            bringing: Approval | None = approval
            try:
                while bringing is not None:
                    bringing = await self._carry_answer(link, bringing)
            except AgentRefused as refusal:
                log.info("agent.not_now", agent=self.name, approval=approval.id, reason=str(refusal))
                return False
        return True

    async def _carry_answer(self, link: AgentLink, approval: Approval) -> Approval | None:
        """Deliver one answer. Return the replacement to deliver if the agent host refused it.

        Raises:
            AgentRefused: the agent host accepts no answers now.
        """
        answer = approval.answer or {}
        try:
            with around(ANSWER):
                outcome = await link.answer(
                    incarnation=approval.incarnation,
                    session=approval.session,
                    request=approval.request,
                    digest=approval.digest,
                    option=answer.get("option"),
                    always=bool(answer.get("always")),
                    by=str(answer.get("by", "")),
                )
        except AgentRefused as refusal:
            if refusal.refusal in PASSING:
                raise
            return await self._answer_refused(approval, refusal)
        log.info("approval.answered", agent=self.name, approval=approval.id, outcome=outcome)
        async with self.context.store.write(ANSWERED) as tx:
            await approvals.change(tx, approval.id, only=["answering"], state="answered", outcome=outcome)
        self.context.wake_delivery()
        return None

    async def _answer_refused(self, approval: Approval, refusal: AgentRefused) -> Approval | None:
        """Replace an answer that the agent host refused, unless the request is over."""
        instead = fallback(approval, refusal.refusal)
        async with self.context.store.write(ANSWERED) as tx:
            row = await agents.get(tx, self.name)
            if row is not None and instead is None:
                await self.context.journal_effects.requests.too_late(tx, row, approval, str(refusal))
            elif row is not None:
                await approvals.change(tx, approval.id, only=["answering"], answer=instead)
                text = fallen_back(approval, instead or {}, refusal)
                await self.context.journal_effects.note(tx, row, f"{approval.outbox_key}/not-taken", text)
        self.context.wake_delivery()
        return None if row is None or instead is None else replace(approval, answer=instead)

    async def _carry_revocations(self, link: AgentLink) -> None:
        async with self.context.store.read() as tx:
            taken_back = [
                grant
                for grant in await approvals.list_grants(tx, agent=self.name, standing=False)
                if grant.revoked_at is not None and not grant.held
            ]
            standing = {grant.digest for grant in await approvals.list_grants(tx, agent=self.name)}
        for grant in taken_back:
            if grant.digest not in standing:
                with around(ANSWER):
                    await link.revoke(digest=grant.digest, by=grant.revoked_by or "")
            async with self.context.store.write(ANSWERED) as tx:
                await approvals.change_grant(tx, grant.id, held=True)
