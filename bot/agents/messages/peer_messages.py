"""Messages between agents.

They take the same path as an operator's: the same durable queue and the same receipts. Muster's own text names the
sender, and the sender's text follows after ``>``, so no agent can write in another's name. If a pair of agents exceeds
its messages per minute or hour, further ones wait for an operator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal.effects import JournalEffects
from bot.agents.messages.onboarding_prompt import address
from bot.approvals.requests import AskPermission, Settle
from bot.messaging.composer import MessagePlace
from bot.text import markdown
from bot.text.errors import UserError
from core.validation_errors import there_are
from database.queries.agents import agent_messages, agents, last_results, peer_messages
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from database.queries.chat.approvals import Approval
from database.queries.operations import audit_log
from fleet.journal.events import PermissionAnswered, PermissionAsked

#: The incarnation of requests that Muster itself makes; incarnations of journals start at 1.
OURS: Final = 0
#: Maximum number of characters of a message, and of a report.
MESSAGE_LIMIT: Final = 16_000
REPORT_LIMIT: Final = 4_000
#: Maximum number of a pair's messages that may wait for an operator.
HELD: Final = 20
#: The spans over which messages are counted, in seconds.
_SPANS: Final = {"a minute": 60.0, "an hour": 3600.0}
#: Seconds for which a pair may not write after an operator dropped its messages.
_CLOSED: Final = 600.0
_OPTIONS: Final = (
    {"id": "go", "name": "Let them go on", "kind": "allow_once"},
    {"id": "drop", "name": "Drop what waits", "kind": "reject_once"},
)


class SendMessage(Protocol):
    """A callback that queues a message for an agent (bot.agents.service.Agents.send)."""

    def __call__(
        self, tx: AsyncConnection, row: AgentRow, text: str, *, message_id: str, by: str, mode: str = "queue"
    ) -> Awaitable[AgentMessage]: ...


@dataclass(frozen=True, slots=True)
class Posted:
    """The result of sending a message, for its sender."""

    text: str
    bring_to: str | None = None
    """The agent that has mail to deliver now."""


@dataclass(slots=True)
class Peers:
    """Messages and reports of agents."""

    send: SendMessage
    journal_effects: JournalEffects
    clock: Callable[[], float]
    redact: Callable[[str], str]
    per_minute: int = 10
    per_hour: int = 60
    shown: bool = True
    """Whether the room shows a line for each message."""
    ask_for: float = 900.0
    """Seconds after which a pair that waits for an operator counts as refused."""
    give_up_after: float = 86_400.0
    asked: bool = field(default=True, init=False)
    """Whether a question to an operator about a waiting pair may still be open."""

    # --- messages -----------------------------------------------------------------------------------------------

    async def post(
        self,
        tx: AsyncConnection,
        sender: AgentRow,
        to: str,
        text: str,
        *,
        message_id: str,
        thread: str | None = None,
        mode: str = "queue",
    ) -> Posted:
        """Send a message from one agent to another, once per `message_id`.

        Raises:
            UserError: the message cannot be sent; the text is for the sender.
        """
        receiver = await self._receiver(tx, sender, to)
        _check_length(text, MESSAGE_LIMIT)
        pair = _pair(sender.name, receiver.name)
        if thread is not None and not await peer_messages.in_thread(tx, pair, thread):
            raise UserError(
                f"There is no thread {markdown.one_line(thread, 20)!r} between you and {receiver.name}; leave thread "
                "out to begin one.",
                code="thread.unknown",
            )
        thread = thread or hashlib.blake2s(message_id.encode()).hexdigest()[:6]
        now = self.clock()
        found = await peer_messages.pair_of(tx, pair)
        if found.closed_until > now:
            raise UserError(
                f"An operator stopped the messages between you and {receiver.name}. Go on without; in "
                f"{markdown.span(found.closed_until - now)} you may write again.",
                code="thread.closed",
            )
        waiting = await peer_messages.held(tx, pair)
        full = await self._full(tx, pair, now, found.counted_from)
        hold = bool(waiting) or full is not None
        if hold and len(waiting) >= HELD:
            raise UserError(
                f"{len(waiting)} messages between you and {receiver.name} wait for an operator already.",
                code="thread.full",
            )
        gist = markdown.code(markdown.gist(text, self.redact, 160))
        line = f"💬 **{sender.name}** → **{receiver.name}** {gist}"
        message = peer_messages.PeerMessage(
            id=message_id,
            sender=sender.name,
            receiver=receiver.name,
            pair=pair,
            thread=thread,
            held=hold,
            line=line,
            sent_at=now,
        )
        if not await peer_messages.add(tx, message):
            return Posted(f"Sent to {receiver.name}, thread {thread}.")
        await self.send(
            tx,
            receiver,
            framed(sender, text, thread),
            message_id=message_id,
            by=f"agent:{sender.name}",
            mode="queue" if hold else mode,
        )
        if hold:
            await agent_messages.change(tx, message_id, now=now, only=["pending"], state="held")
            if full is None or waiting:
                return Posted(
                    f"Messages between you and {receiver.name} wait for an operator, and so does this. Do not send it "
                    "again."
                )
            await self._ask(tx, sender, message, full)
            return Posted(
                f"You and {receiver.name} wrote to one another {full}, so this waits, and an operator is asked. Do not "
                "send it again."
            )
        await self._show(tx, receiver, message)
        reads = "reads it now, or when its turn ends" if receiver.wanted == "running" else "does not run now"
        return Posted(f"Sent to {receiver.name}, thread {thread}. It {reads}.", receiver.name)

    async def report(self, tx: AsyncConnection, sender: AgentRow, text: str, *, key: str) -> str:
        """Put an agent's report to people into its thread.

        Raises:
            UserError: the text is empty or too long.
        """
        _check_length(text, REPORT_LIMIT)
        await self.journal_effects.note(tx, sender, key, f"📣 {markdown.shown(text.strip())}")
        await last_results.note(tx, sender.name, "report", self.clock())
        return "It is in your thread."

    async def listing(self, tx: AsyncConnection, asker: AgentRow) -> str:
        """Return a list of the other agents and their states."""
        lines = [
            f'- {address(row)}, {row.role}, {row.state}: send_message with to="{row.name}"'
            for row in await agents.every(tx)
            if row.name != asker.name and (row.wanted == "running" or row.state not in {"stopped", "failed"})
        ]
        me = f"You are {address(asker)}, {asker.role}."
        return "\n".join([me, *(lines or ["There are no other agents now."])])

    async def _receiver(self, tx: AsyncConnection, sender: AgentRow, to: str) -> AgentRow:
        name = to.strip().removeprefix(f"[{sender.host}:").removesuffix("]")
        row = await agents.get(tx, name)
        if row is None:
            names = [each.name for each in await agents.every(tx) if each.name != sender.name]
            known = there_are(names) if names else "There are no others"
            raise UserError(f"No agent is called {markdown.one_line(to, 60)!r}. {known}.", code="agent.unknown")
        if row.name == sender.name:
            raise UserError(
                "You cannot write to yourself. Write to another agent, or report to people.", code="agent.itself"
            )
        return row

    async def _show(self, tx: AsyncConnection, row: AgentRow, message: peer_messages.PeerMessage) -> None:
        if self.shown:
            await self.journal_effects.say(
                tx, f"p/{message.id}", message.line, MessagePlace(row.connector, conversation=row.room)
            )

    # --- the pace of a pair -------------------------------------------------------------------------------------

    async def _full(self, tx: AsyncConnection, pair: str, now: float, counted_from: float) -> str | None:
        """Return how much a pair at its limit wrote, like ``10 times within a minute``, or None below the limit."""
        for (span, seconds), allowed in zip(_SPANS.items(), (self.per_minute, self.per_hour), strict=True):
            passed = await peer_messages.count(tx, pair, max(now - seconds, counted_from))
            if passed >= allowed:
                return f"{passed} times within {span}"
        return None

    async def _ask(self, tx: AsyncConnection, sender: AgentRow, first: peer_messages.PeerMessage, full: str) -> None:
        now = self.clock()
        detail = (
            f"{first.sender} and {first.receiver} wrote to one another {full}. The next messages wait: each costs both "
            f"of them a turn.\n\nThe first that waits is: {first.line}"
        )
        asked = PermissionAsked(
            request=f"{first.pair}/{first.id}",
            turn=None,
            session="peers",
            digest=first.pair,
            title=f"to go on writing to {first.receiver}",
            detail=detail,
            options=_OPTIONS,
            expires_at=now + self.ask_for,
        )
        await self.journal_effects.carry_out(tx, sender, AskPermission(OURS, asked, now, None))
        self.asked = True

    async def settle(self, tx: AsyncConnection) -> list[str]:
        """Act on operators' answers about waiting pairs, and on questions that expired.

        Returns:
            The agents that have mail now.
        """
        now = self.clock()
        asked = [each for each in await approvals.in_states(tx, ["pending", "answering"]) if each.incarnation == OURS]
        self.asked = bool(asked)
        mail: list[str] = []
        for approval in asked:
            if approval.state == "answering" or approval.expires_at <= now:
                mail += await self._settle(tx, approval, now)
        return mail

    async def _settle(self, tx: AsyncConnection, approval: Approval, now: float) -> list[str]:
        answer = approval.answer or {}
        go = approval.state == "answering" and answer.get("option") == "go"
        pair = approval.digest
        mail = []
        for message in await peer_messages.held(tx, pair):
            state = "pending" if go else "withdrawn"
            await agent_messages.change(
                tx, message.id, now=now, only=["held"], state=state, give_up_at=now + self.give_up_after
            )
            await peer_messages.let_go(tx, message.id, now)
            receiver = await agents.get(tx, message.receiver)
            if go and receiver is not None:
                await self._show(tx, receiver, message)
                mail.append(message.receiver)
        # Messages that were released must not count again, so the count starts over.
        found = peer_messages.Pair(counted_from=now, closed_until=0.0 if go else now + _CLOSED)
        await peer_messages.set_pair(tx, pair, found)
        sender = await agents.get(tx, approval.agent)
        if sender is None:
            await approvals.change(tx, approval.id, only=["pending", "answering"], state="expired")
            return mail
        outcome = "expired" if approval.state == "pending" else "selected" if go else "denied"
        answered = PermissionAnswered(
            request=approval.request, outcome=outcome, option=answer.get("option"), by=answer.get("by")
        )
        await self.journal_effects.carry_out(tx, sender, Settle(OURS, answered, now))
        return mail

    async def record(
        self,
        tx: AsyncConnection,
        sender: AgentRow,
        action: str,
        arguments: dict[str, Any],
        outcome: str,
        detail: str,
        key: str,
    ) -> None:
        """Add an audit row for what an agent did without a command."""
        await audit_log.add(
            tx,
            key=f"tool:{key}",
            at=self.clock(),
            identity=f"agent:{sender.name}",
            door="tools",
            connector=None,
            conversation=None,
            action=action,
            arguments=arguments,
            outcome=outcome,
            detail=markdown.gist(detail, self.redact, 300),
        )


def framed(sender: AgentRow, text: str, thread: str) -> str:
    """Return a message as the receiving agent reads it. Every line of the sender's text is marked."""
    words = "\n".join(f"> {markdown.shown(line)}" for line in text.strip().splitlines())
    return (
        f"{address(sender)} ({sender.role}) writes to you, in thread {thread}. To answer: send_message with "
        f'to="{sender.name}" and thread="{thread}".\n\n{words}'
    )


def _check_length(text: str, limit: int) -> None:
    if not text.strip():
        raise UserError("There is no text.", code="message.empty")
    if len(text) > limit:
        raise UserError(
            f"The text has {len(text):,} characters, and {limit:,} are allowed. Put long text into a file in your "
            f"workspace, and name the file.",
            code="message.too_long",
        )


def _pair(one: str, other: str) -> str:
    return "/".join(sorted((one, other)))
