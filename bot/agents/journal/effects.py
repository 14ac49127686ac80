"""Execution of a projection's effects: outbox rows, states of messages, permission requests.

All functions run in the caller's transaction and use keys derived from the journal. Repeating an effect therefore
changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.agents.journal import aside_text
from bot.agents.journal.projection import (
    AgentCondition,
    AsideOver,
    Called,
    CallOver,
    Digest,
    Effect,
    Fell,
    GrantGiven,
    Handover,
    JournalProjection,
    Note,
    Progress,
    Receipt,
)
from bot.agents.journal.tool_calls import call_id, call_of
from bot.approvals.requests import AnsweredByRule, AskPermission, PermissionRequests, Settle
from bot.commands.syntax import command_line
from bot.messaging import mirror_inbound
from bot.messaging.agent_channel import AgentChannel, by, nameless
from bot.messaging.bridge import copy_key
from bot.messaging.composer import MessagePlace
from bot.text import markdown
from connectors.contract.messages import Capabilities, Emphasis, Priority, React
from connectors.delivery import outbox
from connectors.delivery.capability_fallbacks import beside_byline
from database.queries.agents import agent_messages, agents, tool_calls
from database.queries.agents.agent_messages import AgentMessage
from database.queries.agents.agents import AgentRow
from database.queries.chat import approvals
from database.queries.operations import audit_log, command_runs
from fleet.journal.events import JournalPosition

#: The reactions that show the delivery state of a message to an agent.
RECEIPTS = {
    "journaled": "📥",
    "accepted": "👀",
    "finished": "✅",
    "cancelled": "⏹️",
    "steered": "⏭️",
    "failed": "❌",
    "uncertain": "❓",
    "withdrawn": "↩️",
    "dead": "💀",
}
#: States that the register stores as another state, because only their receipts differ.
_KEPT_AS = {"cancelled": "finished", "steered": "finished"}
#: Upper bound for the length of a secret in characters (a private key of 16,384 bits has 13,000).
_LONGEST_SECRET = 32_768
#: States of a message that a given new state must not replace.
_FINAL = ("finished", "failed", "uncertain")
_LATER = {
    "journaled": ("journaled", "accepted", *_FINAL, "withdrawing", "withdrawn"),
    # A message that was withdrawn too late has been read, and its receipt shows that.
    "accepted": ("accepted", *_FINAL),
    "dead": ("journaled", "accepted", *_FINAL, "withdrawing", "withdrawn"),
}


class Carried(Protocol):
    """A callback for a message's new state (bot.tasks.state_machine.TaskSteps.receipt)."""

    async def __call__(
        self, tx: AsyncConnection, row: AgentRow, message: str, state: str, detail: str | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class JournalEffects(AgentChannel):
    carried: Carried | None = None
    """Called with each new state of a message, in the same transaction."""
    told: Carried | None = None
    """Called in the same way, with states as receipts have them: a turn that was cancelled is not only finished."""
    announced: set[str] = field(default_factory=set)
    """Events that commands announce in the agent's own thread, so that no note repeats them (`Note.announces`)."""

    async def announce(self, tx: AsyncConnection, row: AgentRow, conversation: str | None, *what: str) -> None:
        """Suppress the notes about these events if the command's reply appears in the agent's thread anyway."""
        thread = await self.conversation(tx, row, "")
        if conversation is not None and thread is not None and thread[1] == conversation:
            self.announced.update(what)

    @property
    def requests(self) -> PermissionRequests:
        """The permission requests of runtimes."""
        return PermissionRequests(self)

    async def carry_out(self, tx: AsyncConnection, row: AgentRow, effect: Effect) -> None:
        match effect:
            case Note(announces=announces) if announces in self.announced:
                self.announced.discard(announces)
            case Note(announces=str(event)) if await outbox.get(tx, event) is not None:
                pass  # told already, under the event's own name
            case Note(key=key, text=text, message=message):
                asked = await agent_messages.get(tx, message) if message is not None else None
                await self.speak(tx, key, text, self.place_of(row, asked), agent=nameless(row, text))
                if (asker := self.asker(row, asked)) is not None:
                    await self.speak(tx, copy_key(key, asker.connector), mirror_inbound.of(row.name, text), asker)
            case AsideOver(key=key, ended=end, question=question):
                text = aside_text.answer(row.name, question, end, self.redaction)
                speech = Emphasis.TEXT if end.outcome == "answered" else Emphasis.NOTICE
                await self.speak(tx, key, text, self.thread(row), emphasis=speech, agent=nameless(row, text))
                run = await command_runs.get(tx, end.id)
                if run is not None and run.connector and run.conversation and run.connector != row.connector:
                    # Who asked on another chat system may not see the agent's thread.
                    asker = MessagePlace(run.connector, conversation=run.conversation)
                    await self.speak_there(tx, copy_key(key, run.connector), text, asker, emphasis=speech)
                await self.titles.show(tx, row.name, spoken=True)
            case Handover():
                await self._handover(tx, row, effect)
            case Fell(key=key, text=text, launch_id=launch_id):
                if row.wanted != "running" or row.launch_id != launch_id:
                    await self.note(tx, row, key, text)
            case Progress():
                await self._progress(tx, row, effect)
            case Receipt():
                await self._receipt(tx, row, effect)
            case AskPermission():
                await self.requests.ask(tx, row, effect)
            case Settle():
                await self.requests.settle(tx, row, effect)
            case AnsweredByRule():
                await self.requests.answered_by_rule(tx, row, effect)
            case GrantGiven(key=key, granted=granted, at=at):
                await self.requests.granted(tx, row, key, granted, at)
            case Called(asked=asked, at=at):
                await tool_calls.add(tx, call_of(row.name, asked, at))
            case CallOver(call=call, at=at):
                over = {"state": "over", "arguments": {}}
                await tool_calls.change(tx, call_id(row.name, call), only=["pending"], now=at, **over)
            case AgentCondition(state=state, detail=detail, at=at, launch_id=launch_id):
                if row.wanted == "frozen" and state in {"failed", "stopped"}:
                    state = "frozen"  # however it ended, it is kept
                ended = {"stopped_at": at} if state in {"failed", "stopped", "frozen"} else {"stopped_at": None}
                begun = {"started_at": at} if state == "starting" else {}
                # A late journal entry of a killed agent must not restore the session that the kill gave up.
                kept = {"keep_session": True} if state == "idle" and row.wanted == "running" else {}
                redacted = self.redaction(detail) if detail else detail
                values = {"state": state, "detail": redacted, **ended, **begun, **kept}
                await agents.change(tx, row.name, under=launch_id, **values)
                await self.titles.show(tx, row.name)

    async def _handover(self, tx: AsyncConnection, row: AgentRow, handover: Handover) -> None:
        """Tell the agent's thread and the audit log that a terminal has the agent, or had it."""
        who = self.redaction(markdown.one_line(handover.by, 100))
        if handover.ended is None:
            waits = "What you write waits until it is given back."
            text = f"🖥 {row.name} is handed over to a terminal by {who}. {waits}"
        else:
            how = self.redaction(markdown.one_line(handover.ended, 300))
            text = f"🖥 {row.name} is given back by the terminal of {who}. {how}"
        await self.speak(tx, handover.key, text, self.thread(row), agent=nameless(row, text))
        await self.titles.show(tx, row.name, spoken=True)
        await audit_log.add(
            tx,
            key=handover.key,
            at=handover.at,
            identity=self.redaction(handover.by),
            door="terminal",
            action="handover begins" if handover.ended is None else "handover ends",
            arguments={"name": row.name},
            outcome="done",
            detail=None if handover.ended is None else self.redaction(handover.ended),
        )

    async def _progress(self, tx: AsyncConnection, row: AgentRow, progress: Progress) -> None:
        """Show the turn in two messages: the agent's answer, and a short list of its actions."""
        view, final = progress.view, progress.final
        message = await agent_messages.get(tx, view.message)
        place = self.place_of(row, message)
        can = self.capabilities(place.connector)
        stage = "end" if final else f"{progress.position.incarnation}.{progress.position.seq}"
        activity = view.activity(self.redaction)
        if activity is not None:
            await self._grow(tx, row.name, f"t/{row.name}/{view.turn}/did", stage, activity, place, can, final)
        text = view.said(self.redaction) if final else self._growing(view.text, can)
        if text.strip():
            key = f"t/{row.name}/{view.turn}/said"
            await self._grow(tx, row.name, key, stage, text, place, can, final, speech=True)
            if final:
                await self._mirror(tx, row, key, text, place, message)
        if final and place.conversation is not None:
            await self.titles.spoken_in(tx, place.connector, place.conversation)

    async def _mirror(
        self, tx: AsyncConnection, row: AgentRow, key: str, text: str, place: MessagePlace, message: AgentMessage | None
    ) -> None:
        """Copy a complete answer to the places where people do not see it grow."""
        speech = Emphasis.TEXT
        if (asker := self.asker(row, message)) is not None:
            shown = mirror_inbound.of(row.name, text)
            at_key = copy_key(key, asker.connector)
            await self.speak(tx, at_key, shown, asker, priority=Priority.FINAL, emphasis=speech)
        shown = text if message is None else mirror_inbound.to(self.bridge.who(message.sender), text)
        for at_key, at in self.bridge.spread(key, place)[1:]:
            await self.speak_there(tx, at_key, shown, at, priority=Priority.FINAL, emphasis=speech)

    def _growing(self, text: str, can: Capabilities) -> str:
        """Return the part of a growing text that may be shown.

        Only the end of a long text is shown, so only the end is redacted. The end is long enough that no secret can
        start before it and reach into the visible part.
        """
        end = text[-(can.max_text + _LONGEST_SECRET) :]
        return ("" if end is text else "…") + self.redaction.of_growing(end)

    async def _grow(
        self,
        tx: AsyncConnection,
        agent: str,
        key: str,
        stage: str,
        text: str,
        place: MessagePlace,
        can: Capabilities,
        final: bool,
        speech: bool = False,
    ) -> None:
        if not final and not can.edits:
            return
        now = self.clock()
        priority = Priority.FINAL if final else Priority.PROGRESS
        emphasis = Emphasis.TEXT if speech else Emphasis.NOTICE
        can = beside_byline(can, agent)
        if await outbox.get(tx, key) is None:
            if final:
                said = self.speaker.say(key, text, place, can, priority=priority, emphasis=emphasis)
            else:
                said = [self.speaker.begin(key, text, place, can, emphasis=emphasis)]
        else:
            said = self.speaker.replace(
                f"{key}/{stage}", key, text, place, can, priority=priority, final=final, emphasis=emphasis
            )
        for outbound in (by(agent, said[0]), *said[1:]):
            await outbox.put(tx, outbound, now)

    async def _receipt(self, tx: AsyncConnection, row: AgentRow, receipt: Receipt) -> None:
        detail = self.redaction(receipt.detail) if receipt.detail else None
        state = _KEPT_AS.get(receipt.state, receipt.state)
        values: dict[str, Any] = {"state": state, "detail": detail}
        if receipt.turn is not None:
            values["turn"] = receipt.turn
        unless = _LATER.get(state, _FINAL)
        now = self.clock()
        if not await agent_messages.change(tx, receipt.message, now=now, unless=unless, **values):
            return
        if self.carried is not None:
            await self.carried(tx, row, receipt.message, state, detail)
        if self.told is not None:
            await self.told(tx, row, receipt.message, receipt.state, detail)
        message = await agent_messages.get(tx, receipt.message)
        if message is None:
            return
        if message.event_id and message.connector and message.conversation:
            place = MessagePlace(message.connector, conversation=message.conversation)
            if self.capabilities(message.connector).reactions:
                mark = React(target=message.event_id, key=RECEIPTS[receipt.state])
                key = f"r/{message.id}/{receipt.state}"
                await outbox.put(tx, place.outbound(key, mark, Priority.RECEIPT), now)
                await self.titles.spoken_in(tx, message.connector, message.conversation)
        if receipt.state == "dead":
            retry = command_line(f"retry {message.id}")
            text = f"💀 This could not be delivered to {row.name}: {detail}. {retry} sends it again."
            # The key includes the deadline, so that a message that is retried and fails again is reported again.
            key = f"r/{message.id}/dead/{message.give_up_at:.3f}"
            await self.speak(tx, key, text, self.place_of(row, message))

    # --- ends and absences --------------------------------------------------------------------------------------

    async def gone(
        self, tx: AsyncConnection, row: AgentRow, projection: JournalProjection, reason: str, outlook: str, words: str
    ) -> None:
        """Close everything that an agent host left open when it vanished."""
        key = f"gone/{row.name}/{projection.position.incarnation}"
        if row.wanted != "running":
            text = f"⏹ {row.name}: {reason}."
        else:
            block = f"\n\n{markdown.code_block(words)}" if words.strip() else ""
            text = f"✖ {row.name}: {reason}.{block}\n\n{outlook}"
        await self.speak(tx, key, text, self.thread(row))
        if (lost := projection.lost_aside("The agent ended in the middle of it.")) is not None:
            await self.carry_out(tx, row, lost)
        if projection.view is not None:
            await self._progress(tx, row, Progress(projection.view, projection.position, final=True))
        for message in await agent_messages.in_states(tx, ["accepted"], agent=row.name):
            await self._receipt(
                tx, row, Receipt(message.id, "failed", detail="the agent died in the middle of the turn")
            )
        if projection.view is not None:
            message_now = await agent_messages.get(tx, projection.view.message)
            if message_now is not None and message_now.state in {"pending", "journaled"}:
                receipt = Receipt(
                    message_now.id, "uncertain", projection.view.turn, "the agent died while receiving it"
                )
                await self._receipt(tx, row, receipt)
        for approval in await approvals.in_states(tx, ["pending", "answering"], agent=row.name):
            await self.requests.close(tx, row, approval, "withdrawn", "the agent that asked is gone", self.clock())
        await self.titles.show(tx, row.name, spoken=True)

    async def digest(self, tx: AsyncConnection, row: AgentRow, digest: Digest, position: JournalPosition) -> None:
        """Report a long stretch of the journal in one message."""
        key = f"d/{row.name}/{position.incarnation}.{position.seq}"
        place = self.thread(row)
        can = self.capabilities(place.connector)
        text = f"**While nobody listened**, {row.name} finished {digest.turns} turns:\n\n{digest.text}"
        await self.speak(tx, key, text, place)
        if can.files and digest.full:
            attachment = self.speaker.attach(f"{key}/all", self.redaction(digest.full), place, Priority.FINAL)
            await outbox.put(tx, attachment, self.clock())
