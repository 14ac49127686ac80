"""Replies to the author of an event: in its conversation, and once each, under keys derived from the event."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.commands.executor import RunOutcome
from bot.commands.runs import asked_about
from bot.commands.syntax import command_line, written
from bot.messaging import mirror_inbound
from bot.messaging.composer import Composer, MessagePlace
from bot.messaging.outbox_keys import answer_key, end_key, event_digest
from bot.messaging.progress_message import ProgressMessage
from bot.messaging.services import MessagingServices
from bot.text import markdown
from connectors.contract.messages import (
    Button,
    ButtonStyle,
    CommandReading,
    Emphasis,
    Inbound,
    Message,
    OpenThread,
    Priority,
    React,
    Reaction,
    Replace,
    Text,
)
from connectors.delivery import inbox, outbox
from connectors.delivery.inbox import Arrival
from core.crash_points import declare

REMARK = declare("chat.remark")

_YES = Button(key="✅", label="✅ Confirm", style=ButtonStyle.DANGER)
_NO = Button(key="❌", label="❌ Take it back")
#: The answer to a choice from a menu, if the command has already answered in the conversation.
_ANSWERED = "Answered in this conversation."
#: Text of the confirmation message afterwards, by the final state of the command.
_CLOSED = {"done": "☑️ {}: confirmed.", "failed": "☑️ {}: confirmed.", "lapsed": "⌛ {}: not confirmed in time."}


def derived_id(kind: str, inbound: Inbound) -> str:
    """Return an id derived from an event, so that it is the same on each processing."""
    return f"{kind}{event_digest(inbound.connector, inbound.event_id)}"


def confirmation_key(run_id: str) -> str:
    """Return the outbox key of the message that asks to confirm a command."""
    return f"confirm/{run_id}"


def was_pressed(inbound: Inbound) -> bool:
    """Return whether a person pressed a button."""
    return isinstance(inbound.body, Reaction) and inbound.body.pressed


def _was_chosen(inbound: Inbound) -> bool:
    return isinstance(inbound.body, Text) and inbound.body.reading is CommandReading.COMMAND


@dataclass(frozen=True, slots=True)
class Replies:
    services: MessagingServices
    speaker: Composer

    async def say(
        self,
        tx: AsyncConnection,
        inbound: Inbound,
        key: str,
        text: str,
        *,
        elsewhere: str = "",
        buttons: tuple[Button, ...] = (),
        private: bool = False,
        into: bool = False,
    ) -> None:
        """Answer in the conversation of an event. Rooms that mirror it show answers to messages, too.

        Args:
            tx: the transaction that handles the event.
            inbound: the event.
            key: the key of the answer.
            text: the answer (Markdown).
            elsewhere: the text for the other rooms, if it differs.
            buttons: buttons below the answer.
            private: the answer concerns only its recipient; after a button press, only that person sees it.
            into: replace the message under `key`, which opened a thread, by the answer.
        """
        private = private and was_pressed(inbound)
        for at_key, at, here in self._places(inbound, key):
            can = self.services.capabilities(at.connector)
            words = text if here else mirror_inbound.to(self.services.bridge.who(inbound.identity), elsewhere or text)
            redacted = self.services.redact(written(words, self.services.command_prefix))
            if here and into:
                await self._complete(tx, key, redacted, at)
                continue
            for outbound in self.speaker.say(
                at_key,
                redacted,
                at,
                can,
                priority=Priority.REPLY if here else Priority.FINAL,
                reply_to=inbound.event_id if here and (private or isinstance(inbound.body, Text)) else None,
                buttons=buttons if here else (),
                private=private,
            ):
                await outbox.put(tx, outbound, self.services.clock())

    async def _complete(self, tx: AsyncConnection, key: str, text: str, place: MessagePlace) -> None:
        """Replace the thread's opening message under `key` by the answer, unless it already shows the final result."""
        if await outbox.get(tx, end_key(key)) is not None:
            return
        can = self.services.capabilities(place.connector)
        for outbound in self.speaker.replace(
            f"{key}/said", key, text, place, can, priority=Priority.REPLY, final=not can.edits, emphasis=Emphasis.NOTICE
        ):
            await outbox.put(tx, outbound, self.services.clock())

    def _places(self, inbound: Inbound, key: str) -> list[tuple[str, MessagePlace, bool]]:
        """Return the key and place of each copy of an answer, and whether it is the event's own place."""
        place = MessagePlace(inbound.connector, conversation=inbound.conversation)
        if not isinstance(inbound.body, Text):
            return [(key, place, True)]
        return [(each, at, at == place) for each, at in self.services.bridge.spread(key, place)]

    async def outcome(self, tx: AsyncConnection, inbound: Inbound, outcome: RunOutcome) -> None:
        """Answer with the outcome of a command, or ask for its confirmation."""
        if outcome.state != "confirming":
            answer = answer_key(outcome.run_id)
            progress = self.progress(inbound)
            there = await outbox.rows(tx, answer, progress.key)
            stands = there.get(answer)
            opened = stands is not None and isinstance(stands.outbound.content, OpenThread)
            elsewhere = f"{outcome.text} It has a thread on **{inbound.connector}**." if opened else ""
            # The chat system of a menu waits for an answer to each choice.
            text = outcome.text or (_ANSWERED if _was_chosen(inbound) else "")
            if text:
                await self.say(tx, inbound, answer, text, elsewhere=elsewhere, into=opened)
            if (file := outcome.reply.file) is not None:
                for key, at, _ in self._places(inbound, f"{answer_key(outcome.run_id)}/attached"):
                    await outbox.put(tx, at.outbound(key, file, Priority.REPLY), self.services.clock())
            if progress.key in there:
                await progress.end(tx, outcome.state)
            return
        await self.progress(inbound).end(tx, outcome.state)
        key = confirmation_key(outcome.run_id)
        can = self.services.capabilities(inbound.connector)
        way = "Press a button, or write" if can.buttons else "React with ✅, or write" if can.taps else "Write"
        await self.say(
            tx,
            inbound,
            key,
            f"{outcome.text} {way} {command_line('confirm')} within three minutes; {command_line('decline')} cancels "
            "it.",
            elsewhere=f"{outcome.text.removesuffix('.')}, and waits for their confirmation there.",
            buttons=(_YES, _NO) if can.buttons else (),
        )
        if can.taps and not can.buttons:
            place = MessagePlace(inbound.connector, conversation=inbound.conversation)
            mark = React(target=key, key="✅", own=True)
            await outbox.put(tx, place.outbound(f"{key}/yes", mark, Priority.RECEIPT), self.services.clock())

    async def close(self, tx: AsyncConnection, outcome: RunOutcome) -> None:
        """Remove the buttons from the confirmation message when the confirmation is over."""
        key = confirmation_key(outcome.run_id)
        asked = await outbox.get(tx, key)
        if (
            outcome.state == "confirming"
            or asked is None
            or not self.services.capabilities(asked.outbound.connector).buttons
        ):
            return
        place = MessagePlace(asked.outbound.connector, conversation=asked.outbound.conversation)
        question = asked.outbound.content.text if isinstance(asked.outbound.content, Message) else ""
        words = _CLOSED.get(outcome.state, "✖ {}: not done.").replace("{}", asked_about(question))
        content = Replace(target=key, message=markdown.message(words), final=True)
        await outbox.put(tx, place.outbound(f"{key}/closed", content, Priority.RECEIPT), self.services.clock())

    async def finish(self, tx: AsyncConnection, arrival: Arrival, outcome: RunOutcome) -> None:
        """Finish the event of a command with the command's outcome."""
        await self.outcome(tx, arrival.inbound, outcome)
        await inbox.finish(tx, arrival.seq, self.services.clock(), detail=outcome.state)

    def progress(self, inbound: Inbound) -> ProgressMessage:
        """Return the progress message of an event's command."""
        place = MessagePlace(inbound.connector, conversation=inbound.conversation)
        return ProgressMessage(self.services, self.speaker, place, derived_id("p", inbound))

    async def answer(self, arrival: Arrival, text: str | None, *, detail: str | None = None) -> None:
        """Finish an event, with or without an answer."""
        async with self.services.store.write(REMARK) as tx:
            if text is not None:
                await self.say(tx, arrival.inbound, derived_id("n", arrival.inbound), text, private=True)
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail=detail)
        self.services.delivery.wake()
