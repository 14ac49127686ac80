"""Brings messages, answers and revocations to an agent host, each until it has it.

What has not arrived yet is read off the register each time, so a carrier that is restarted goes on where the last
one was killed; the agent host knows the ids of messages, and takes each of them once.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from bot.agents.journal.projection import Receipt
from bot.agents.messages import onboarding_prompt
from bot.agents.messages.peer_messages import OURS
from bot.approvals.service import fallback, fallen_back
from bot.messaging.attachments import encoded
from core.crash_points import around, declare
from database.queries.agents import agent_messages, agents, peer_messages
from database.queries.chat import approvals
from fleet.errors import AgentRefused, AgentUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bot.agents.context import AgentContext
    from database.queries.agents.agent_messages import AgentMessage
    from database.queries.chat.approvals import Approval
    from fleet.control.agent_host_client import AgentLink

log = structlog.get_logger(__name__)

HAND_OVER = declare("message.hand_over")
HANDED_OVER = declare("message.handed_over")
ANSWER = declare("approval.answer")
ANSWERED = declare("approval.answered")

#: Refusals of an agent host that pass: the message waits for it to run again, to have room, to be able to write.
PASSING = frozenset({"stopping", "queue_full", "not_writable"})
#: What the agent host says of a message that it had already, as the states that the message has then been through: its
#: journal may have been told past that.
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
#: The detail of a message that is taken back together with its turn, where that has begun.
END = "its turn is ended, too"
#: What could not be brought is tried again so often, and what no one spoke of is looked for, seconds.
LOOK_AGAIN = 30.0


def deadlines(
    known: Mapping[tuple[str, float], float], waiting: Sequence[AgentMessage], *, now: float, steady: float
) -> dict[tuple[str, float], float]:
    """Return when each of the messages that wait is given up, in `steady` seconds; by what is `known` for those that
    waited before, so that nothing grows old because someone sets the clock."""
    found = {(message.id, message.give_up_at): steady + message.give_up_at - now for message in waiting}
    return {key: known.get(key, deadline) for key, deadline in found.items()}


@dataclass(slots=True)
class Carrier:
    """Carries for one agent."""

    name: str
    context: AgentContext
    link: Callable[[], AgentLink | None]
    """The open link to the agent host, when there is one."""
    steady: Callable[[], float] = time.monotonic
    """Seconds, however the clock is set."""
    _deadlines: dict[tuple[str, float], float] = field(default_factory=dict)
    """When each message that waits is given up, in `steady` seconds."""
    idle: bool = False
    """Nothing is to be brought, as far as is known: the register need not be asked. `mail` ends that."""
    _mail: asyncio.Event = field(default_factory=asyncio.Event)
    _held_back: bool = False
    """The agent host takes no messages for now; it is not asked for each that comes."""

    def mail(self) -> None:
        """There is something to bring."""
        self.idle = False
        self._mail.set()

    def look_again(self) -> None:
        """Something is to be brought, of which no one may have said so."""
        self._held_back = False
        self.mail()

    def room(self) -> None:
        """There is someone to bring things to, or what could not be taken before can be taken now."""
        self._held_back = False
        self._mail.set()

    async def run(self) -> None:
        """Bring messages, answers and revocations to the agent host, in order, until it has them; until cancelled."""
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
        # What is put in meanwhile ends this again.
        self.idle = True
        nothing_left = False
        try:
            nothing_left = await self._carry()
        finally:
            self.idle = self.idle and nothing_left

    async def _carry(self) -> bool:
        """Bring what there is; return whether nothing is left."""
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
                await self._settle(message.id, "dead", detail="it could not be delivered in the time that it had")

    async def _settle(
        self, message_id: str, *states: str, detail: str | None = None, told: Mapping[str, str] | None = None
    ) -> None:
        async with self.context.store.write(HANDED_OVER) as tx:
            if told is not None:
                await peer_messages.tell(tx, self.name, told, self.context.clock())
            row = await agents.get(tx, self.name)
            if row is not None:
                for state in states:
                    await self.context.teller.carry_out(tx, row, Receipt(message_id, state, detail=detail))
        self.context.wake_delivery()

    async def _carry_withdrawals(self, link: AgentLink) -> None:
        async with self.context.store.read() as tx:
            taken_back = await agent_messages.in_states(tx, ["withdrawing"], agent=self.name)
        for message in taken_back:
            with around(HAND_OVER):
                taken = await link.withdraw(message.id, end=message.detail == END)
            # Of what is ended with its turn the journal says what happens to it.
            if not taken.withdrawn and not taken.ending:
                # It never arrived; or its turn has begun, and then the journal says what happens to it.
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
            # What changed in the fleet is told with what begins a turn: an agent is not woken for it.
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
                states = _STATES.get(answer.state, ("journaled",))
                known = "the agent had it already when it was sent again" if answer.state in _STATES else None
                changed = others if told is None or news else None
                await self._settle(message.id, *states, detail=known, told=changed)
                told = told if changed is None else changed
        if waiting:
            # What was taken back while it was on its way.
            await self._carry_withdrawals(link)

    async def _carry_answers(self, link: AgentLink) -> bool:
        """Bring answers; return False where the agent host takes none now."""
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
        """Bring one answer. What is to be brought instead, when the agent host did not take it.

        Raises:
            AgentRefused: it takes none now.
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
        """The agent host did not take an answer: it gets another, unless the request is over."""
        instead = fallback(approval, refusal.refusal)
        async with self.context.store.write(ANSWERED) as tx:
            row = await agents.get(tx, self.name)
            if row is not None and instead is None:
                await self.context.teller.requests.too_late(tx, row, approval, str(refusal))
            elif row is not None:
                await approvals.change(tx, approval.id, only=["answering"], answer=instead)
                text = fallen_back(approval, instead or {}, refusal)
                await self.context.teller.note(tx, row, f"{approval.outbox_key}/not-taken", text)
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
