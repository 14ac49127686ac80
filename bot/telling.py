"""Carries out what a story says must be told: rows in the outbox, states of messages, permission requests.

Everything here happens inside the caller's transaction, and under keys that come from the journal: told twice, it
stands once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bot import rendering
from bot.calls import call_id, call_of
from bot.choices import offered, question
from bot.commands.lines import command_line, written
from bot.saying import Place
from bot.story import Ask, Called, CallOver, Condition, Granted, Note, Progress, Receipt, Settle
from connectors import outbox
from connectors.messages import Emphasis, Priority, React, Replace
from register.queries import agent_messages, agents, approvals, audit, tool_calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.redaction import Redaction
    from bot.saying import Speaker
    from bot.story import Digest, Effect, Story
    from connectors.messages import Capabilities
    from fleet.events import GrantAdded, Position
    from register.queries.agent_messages import AgentMessage
    from register.queries.agents import AgentRow
    from register.queries.approvals import Approval

#: With this the outbox keys of permission requests begin.
QUESTION = "a/"
#: The reactions that show how far a message to an agent has come.
RECEIPTS = {
    "journaled": "📥",
    "accepted": "👀",
    "finished": "✅",
    "failed": "❌",
    "uncertain": "❓",
    "withdrawn": "↩️",
    "dead": "💀",
}
#: No secret that redaction knows has more characters (a private key of 16,384 bits has 13,000).
_LONGEST_SECRET = 32_768
#: States of a message that a state does not replace.
_FINAL = ("finished", "failed", "uncertain")
_LATER = {
    "journaled": ("journaled", "accepted", *_FINAL, "withdrawing", "withdrawn"),
    # What was taken back too late was read all the same, and shows so.
    "accepted": ("accepted", *_FINAL),
    "dead": ("journaled", "accepted", *_FINAL, "withdrawing", "withdrawn"),
}

_OUTCOMES = {
    "selected": "answered",
    "granted": "answered",
    "denied": "answered",
    "expired": "expired",
    "cancelled": "withdrawn",
    "lost": "withdrawn",
}


class Carried(Protocol):
    """Called with the message and its state (bot.task_steps.TaskSteps.receipt)."""

    async def __call__(
        self, tx: AsyncConnection, row: AgentRow, message: str, state: str, detail: str | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Teller:
    speaker: Speaker
    redaction: Redaction
    capabilities: Callable[[str], Capabilities]
    clock: Callable[[], float]
    time_of_day: Callable[[float], str]
    """A moment as the operator's clock shows it."""
    prefix: str
    """What commands begin with in chat."""
    carried: Carried | None = None
    """What else follows from how far a message has come, in the same transaction."""

    # --- places -------------------------------------------------------------------------------------------------

    def thread(self, row: AgentRow) -> Place:
        """The agent's own thread."""
        return Place(row.connector, thread_of=row.thread_key)

    def _place_of(self, row: AgentRow, message: AgentMessage | None) -> Place:
        if message is not None and message.connector and message.answer_in:
            return Place(message.connector, conversation=message.answer_in)
        return self.thread(row)

    async def _place(self, tx: AsyncConnection, row: AgentRow, message_id: str | None) -> Place:
        message = await agent_messages.get(tx, message_id) if message_id is not None else None
        return self._place_of(row, message)

    async def conversation(self, tx: AsyncConnection, row: AgentRow, message_id: str) -> tuple[str, str] | None:
        """Connector and conversation in which a message is answered; None while its thread does not stand yet."""
        place = await self._place(tx, row, message_id)
        if place.conversation is not None:
            return place.connector, place.conversation
        opener = await outbox.get(tx, place.thread_of) if place.thread_of is not None else None
        made = opener.made_conversation if opener is not None else None
        return None if made is None else (place.connector, made)

    # --- effects ------------------------------------------------------------------------------------------------

    async def carry_out(self, tx: AsyncConnection, row: AgentRow, effect: Effect) -> None:
        match effect:
            case Note(key=key, text=text, message=message):
                await self._say(tx, key, text, await self._place(tx, row, message))
            case Progress():
                await self._progress(tx, row, effect)
            case Receipt():
                await self._receipt(tx, row, effect)
            case Ask():
                await self._ask(tx, row, effect)
            case Settle():
                await self._settle(tx, row, effect)
            case Granted(key=key, granted=granted, at=at):
                await self._granted(tx, row, key, granted, at)
            case Called(asked=asked, at=at):
                await tool_calls.add(tx, call_of(row.name, asked, at))
            case CallOver(call=call, at=at):
                over = {"state": "over", "arguments": {}}
                await tool_calls.change(tx, call_id(row.name, call), only=["pending"], now=at, **over)
            case Condition(state=state, detail=detail, at=at, launch_id=launch_id):
                if row.wanted == "frozen" and state in {"failed", "stopped"}:
                    state = "frozen"  # however it ended, it is kept
                ended = {"stopped_at": at} if state in {"failed", "stopped", "frozen"} else {"stopped_at": None}
                begun = {"started_at": at} if state == "starting" else {}
                # What is read of an agent that was killed meanwhile does not bring its session back.
                kept = {"keep_session": True} if state == "idle" and row.wanted == "running" else {}
                redacted = self.redaction(detail) if detail else detail
                values = {"state": state, "detail": redacted, **ended, **begun, **kept}
                await agents.change(tx, row.name, under=launch_id, **values)

    async def note(self, tx: AsyncConnection, row: AgentRow, key: str, text: str) -> None:
        """Say something in the agent's thread."""
        await self._say(tx, key, text, self.thread(row))

    async def say(self, tx: AsyncConnection, key: str, text: str, place: Place) -> None:
        """Say something that nobody waits for."""
        await self._say(tx, key, text, place, priority=Priority.PROGRESS)

    async def _say(
        self,
        tx: AsyncConnection,
        key: str,
        text: str,
        place: Place,
        *,
        priority: Priority = Priority.REPLY,
        emphasis: Emphasis = Emphasis.NOTICE,
    ) -> None:
        can = self.capabilities(place.connector)
        redacted = self.redaction(written(text, self.prefix))
        for outbound in self.speaker.say(key, redacted, place, can, priority=priority, emphasis=emphasis):
            await outbox.put(tx, outbound, self.clock())

    async def _progress(self, tx: AsyncConnection, row: AgentRow, progress: Progress) -> None:
        """The turn's two messages: what the agent says, and, in one short message, what it does."""
        view, final = progress.view, progress.final
        message = await agent_messages.get(tx, view.message)
        place = self._place_of(row, message)
        can = self.capabilities(place.connector)
        stage = "end" if final else f"{progress.position.incarnation}.{progress.position.seq}"
        activity = view.activity()
        if activity is not None:
            await self._grow(tx, f"t/{row.name}/{view.turn}/did", stage, self.redaction(activity), place, can, final)
        text = self.redaction(view.said()) if final else self._growing(view.text, can)
        if text.strip():
            await self._grow(tx, f"t/{row.name}/{view.turn}/said", stage, text, place, can, final, speech=True)

    def _growing(self, text: str, can: Capabilities) -> str:
        """What may be shown of a text that more will come of. Of a long one only the end shows, so only that is looked
        through; with so much before it that no secret can begin there and reach what shows."""
        end = text[-(can.max_text + _LONGEST_SECRET) :]
        return ("" if end is text else "…") + self.redaction.of_growing(end)

    async def _grow(
        self,
        tx: AsyncConnection,
        key: str,
        stage: str,
        text: str,
        place: Place,
        can: Capabilities,
        final: bool,
        speech: bool = False,
    ) -> None:
        if not final and not can.edits:
            return
        now = self.clock()
        priority = Priority.FINAL if final else Priority.PROGRESS
        emphasis = Emphasis.TEXT if speech else Emphasis.NOTICE
        if await outbox.get(tx, key) is None:
            if final:
                for outbound in self.speaker.say(key, text, place, can, priority=priority, emphasis=emphasis):
                    await outbox.put(tx, outbound, now)
            else:
                await outbox.put(tx, self.speaker.begin(key, text, place, can, emphasis=emphasis), now)
            return
        replacements = self.speaker.replace(
            f"{key}/{stage}", key, text, place, can, priority=priority, final=final, emphasis=emphasis
        )
        for outbound in replacements:
            await outbox.put(tx, outbound, now)

    async def _receipt(self, tx: AsyncConnection, row: AgentRow, receipt: Receipt) -> None:
        detail = self.redaction(receipt.detail) if receipt.detail else None
        values: dict[str, Any] = {"state": receipt.state, "detail": detail}
        if receipt.turn is not None:
            values["turn"] = receipt.turn
        unless = _LATER.get(receipt.state, _FINAL)
        now = self.clock()
        if not await agent_messages.change(tx, receipt.message, now=now, unless=unless, **values):
            return
        if self.carried is not None:
            await self.carried(tx, row, receipt.message, receipt.state, detail)
        message = await agent_messages.get(tx, receipt.message)
        if message is None:
            return
        if message.event_id and message.connector and message.conversation:
            place = Place(message.connector, conversation=message.conversation)
            if self.capabilities(message.connector).reactions:
                mark = React(target=message.event_id, key=RECEIPTS[receipt.state])
                key = f"r/{message.id}/{receipt.state}"
                await outbox.put(tx, place.outbound(key, mark, Priority.RECEIPT), now)
        if receipt.state == "dead":
            retry = command_line(f"retry {message.id}")
            text = f"💀 This could not be delivered to {row.name}: {detail}. {retry} sends it again."
            # One that is sent again, and dies again, is told of again.
            key = f"r/{message.id}/dead/{message.give_up_at:.3f}"
            await self._say(tx, key, text, self._place_of(row, message))

    # --- permission requests ------------------------------------------------------------------------------------

    async def _ask(self, tx: AsyncConnection, row: AgentRow, ask: Ask) -> None:
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
        )
        await approvals.add(tx, approval)
        place = await self._place(tx, row, ask.message)
        can = self.capabilities(place.connector)
        hidden = self.redaction(approval.detail) != approval.detail
        until = self.time_of_day(approval.expires_at)
        text = self.redaction(question(approval, until=until, reactions=can.taps, hidden=hidden))
        await self._say(tx, approval.outbox_key, text, place, priority=Priority.APPROVAL)
        if can.taps:
            for choice in offered(approval.options):
                mark = React(target=approval.outbox_key, key=choice.mark, own=True)
                key = f"{approval.outbox_key}/{choice.name}"
                await outbox.put(tx, place.outbound(key, mark, Priority.RECEIPT), self.clock())

    async def _settle(self, tx: AsyncConnection, row: AgentRow, settle: Settle) -> None:
        answered = settle.answered
        approval = await approvals.by_request(tx, row.name, settle.incarnation, answered.request)
        if approval is None:
            return
        by = f" by {rendering.one_line(answered.by)}" if answered.by else ""
        chosen = next((option.get("name") for option in approval.options if option.get("id") == answered.option), None)
        # For the runtime it was an "allow once": what is always allowed is Muster's to remember.
        words = (
            "allowed for always" if (approval.answer or {}).get("always") else rendering.one_line(chosen or "answered")
        )
        outcome = {
            "selected": f"{words}{by}",
            "granted": f"allowed by an earlier “always”{by}",
            "denied": f"denied{by}",
            "expired": "nobody answered in time: denied",
            "cancelled": "the turn was cancelled",
            "lost": "the agent that asked is gone",
        }.get(answered.outcome, rendering.one_line(answered.outcome))
        state = _OUTCOMES.get(answered.outcome, "answered")
        await self._close(tx, row, approval, state, outcome, settle.at)

    async def _granted(self, tx: AsyncConnection, row: AgentRow, key: str, granted: GrantAdded, at: float) -> None:
        """Only what the agent host took stands: an "always" that came too late must allow nothing at the next start."""
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
        """The agent host did not take the answer."""
        by = str((approval.answer or {}).get("by", ""))
        place = self.thread(row)
        text = f"{rendering.one_line(by) or 'The answer'}: too late for request `{approval.id}`: {reason}"
        await self._say(tx, f"{approval.outbox_key}/late", text, place)
        await approvals.change(tx, approval.id, only=["answering"], state="expired", outcome=reason)

    async def _close(
        self, tx: AsyncConnection, row: AgentRow, approval: Approval, state: str, outcome: str, at: float
    ) -> None:
        now = self.clock()
        open_states = ["pending", "answering", "answered"]
        await approvals.change(
            tx, approval.id, only=open_states, state=state, outcome=self.redaction(outcome), answered_at=at
        )
        answer = approval.answer or {}
        await audit.add(
            tx,
            key=f"{approval.outbox_key}/closed",
            at=now,
            identity=str(answer.get("by") or "muster"),
            door="approval",
            connector=row.connector,
            conversation=None,
            action=f"permission of {row.name}",
            arguments={"id": approval.id, "title": self.redaction(approval.title)},
            outcome=state,
            detail=self.redaction(outcome),
        )
        asked = await outbox.get(tx, approval.outbox_key)
        if asked is None:
            return
        outbound = asked.outbound
        place = Place(outbound.connector, conversation=outbound.conversation, thread_of=outbound.thread_of)
        can = self.capabilities(place.connector)
        mark = "☑️" if state == "answered" else "⌛"
        text = self.redaction(f"{mark} {outcome}: {rendering.code(rendering.one_line(approval.title, 200))}")
        key = f"{approval.outbox_key}/closed"
        if can.edits:
            content = Replace(target=approval.outbox_key, message=rendering.message(text), final=True)
            await outbox.put(tx, place.outbound(key, content, Priority.REPLY), now)
        else:
            await self._say(tx, key, text, place)

    # --- ends and absences --------------------------------------------------------------------------------------

    async def gone(
        self, tx: AsyncConnection, row: AgentRow, story: Story, reason: str, outlook: str, words: str
    ) -> None:
        """The agent host is gone without a word: end what it left open."""
        key = f"gone/{row.name}/{story.position.incarnation}"
        if row.wanted != "running":
            text = f"⏹ {row.name}: {reason}."
        else:
            block = f"\n\n{rendering.code_block(words)}" if words.strip() else ""
            text = f"✖ {row.name}: {reason}.{block}\n\n{outlook}"
        await self._say(tx, key, text, self.thread(row))
        if story.view is not None:
            await self._progress(tx, row, Progress(story.view, story.position, final=True))
        for message in await agent_messages.in_states(tx, ["accepted"], agent=row.name):
            await self._receipt(
                tx, row, Receipt(message.id, "failed", detail="the agent died in the middle of the turn")
            )
        if story.view is not None:
            message_now = await agent_messages.get(tx, story.view.message)
            if message_now is not None and message_now.state in {"pending", "journaled"}:
                receipt = Receipt(message_now.id, "uncertain", story.view.turn, "the agent died just as it went to it")
                await self._receipt(tx, row, receipt)
        for approval in await approvals.in_states(tx, ["pending", "answering"], agent=row.name):
            await self._close(tx, row, approval, "withdrawn", "the agent that asked is gone", self.clock())

    async def digest(self, tx: AsyncConnection, row: AgentRow, digest: Digest, position: Position) -> None:
        """Tell a long stretch at once."""
        key = f"d/{row.name}/{position.incarnation}.{position.seq}"
        place = self.thread(row)
        can = self.capabilities(place.connector)
        text = f"**While nobody listened**, {row.name} finished {digest.turns} turns:\n\n{digest.text}"
        await self._say(tx, key, text, place)
        if can.files and digest.full:
            attachment = self.speaker.attach(f"{key}/all", self.redaction(digest.full), place, Priority.FINAL)
            await outbox.put(tx, attachment, self.clock())
