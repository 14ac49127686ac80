"""What comes in from chat, and where it goes: commands to the table, words to agents, reactions to what they answer.

`handle` is given every event of the inbox, in order per conversation. It finishes the inbox row in the same transaction
as the last thing that the event causes; until then a crash brings the event here again, and everything that it causes
is keyed to the event, so that it stands once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bot import approvals as answering
from bot import held_turns, rendering
from bot.addressees import addressee
from bot.choices import by_mark
from bot.commands.context import Origin
from bot.commands.execution import Request
from bot.commands.lines import command_line, written
from bot.commands.table import NONE, OPERATOR, Permission
from bot.doors import chat
from bot.errors import UserError
from bot.headway import Headway
from bot.questions import ASKED, word_of
from bot.saying import Place
from bot.telling import QUESTION
from budget.dispatch import TURN
from connectors import inbox, outbox
from connectors.messages import Edit, Priority, React, Reaction, Redaction, Text
from fleet.drift import ENDED
from fleet.revival import Record
from register.crashpoints import declare
from register.queries import agent_messages, approvals, audit, tasks

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bot.commands.execution import Executor, Outcome
    from bot.pictures import Pictures
    from bot.saying import Speaker
    from bot.services import Services
    from bot.strangers import Strangers
    from bot.utterances import Utterances
    from connectors.inbox import Arrival
    from connectors.messages import Inbound
    from register.queries.agents import AgentRow
    from register.queries.questions import Question

log = structlog.get_logger(__name__)

TALK = declare("chat.talk")
REACT = declare("chat.react")
WITHDRAW = declare("chat.withdraw")
REMARK = declare("chat.remark")

#: A message to an agent may have so many characters; more belongs into a file in its workspace.
LONGEST_MESSAGE = 100_000


def derived_id(kind: str, inbound: Inbound) -> str:
    """The id of what an event causes: the same whenever the event is looked at."""
    digest = hashlib.blake2s(f"{inbound.connector}\0{inbound.event_id}".encode(), digest_size=10).hexdigest()
    return f"{kind}{digest}"


def confirmation_key(run_id: str) -> str:
    """The outbox key of the message that asks whether a command is really meant."""
    return f"confirm/{run_id}"


def answer_key(run_id: str) -> str:
    """The outbox key of the answer to a command."""
    return f"c/{run_id}"


@dataclass(frozen=True, slots=True)
class Conversations:
    services: Services
    executor: Executor
    speaker: Speaker
    strangers: Strangers
    pictures: Pictures
    utterances: Utterances

    async def handle(self, arrival: Arrival) -> None:
        """Deal with one inbound event."""
        inbound = arrival.inbound
        permission = await self.services.operators.permission(inbound.identity)
        if permission is NONE:
            await self.strangers.turn_away(arrival)
            return
        match inbound.body:
            case Text():
                await self._text(arrival, inbound.body, permission)
            case Reaction():
                await self._reaction(arrival, inbound.body, permission)
            case Redaction(target=target):
                await self._redaction(arrival, target, permission)
            case Edit(target=target):
                await self._edit(arrival, target)

    # --- saying -------------------------------------------------------------------------------------------------

    async def _say(self, tx: AsyncConnection, inbound: Inbound, key: str, text: str) -> None:
        """Answer in the conversation that an event came from."""
        place = Place(inbound.connector, conversation=inbound.conversation)
        can = self.services.capabilities(inbound.connector)
        reply_to = inbound.event_id if isinstance(inbound.body, Text) else None
        redacted = self.services.redact(written(text, self.services.command_prefix))
        for outbound in self.speaker.say(key, redacted, place, can, priority=Priority.REPLY, reply_to=reply_to):
            await outbox.put(tx, outbound, self.services.clock())

    async def _outcome(self, tx: AsyncConnection, inbound: Inbound, outcome: Outcome) -> None:
        """Answer with what became of a command; of one that waits for a confirmation, ask for it."""
        if outcome.state != "confirming":
            await self._say(tx, inbound, answer_key(outcome.run_id), outcome.text)
            if (file := outcome.reply.file) is not None:
                place = Place(inbound.connector, conversation=inbound.conversation)
                behind = place.outbound(f"{answer_key(outcome.run_id)}/attached", file, Priority.REPLY)
                await outbox.put(tx, behind, self.services.clock())
            await self._headway(inbound).end(tx, outcome.state)
            return
        key = confirmation_key(outcome.run_id)
        can = self.services.capabilities(inbound.connector)
        react = "React with ✅, or write" if can.taps else "Write"
        await self._say(
            tx,
            inbound,
            key,
            f"{command_line(outcome.name)} cannot be undone. {react} {command_line('confirm')} within three minutes; "
            f"{command_line('decline')} takes it back.",
        )
        if can.taps:
            place = Place(inbound.connector, conversation=inbound.conversation)
            mark = React(target=key, key="✅", own=True)
            await outbox.put(tx, place.outbound(f"{key}/yes", mark, Priority.RECEIPT), self.services.clock())

    async def lapse(self) -> None:
        """End what nobody confirmed in time, and say so where it was asked for."""

        async def finish(tx: AsyncConnection, outcome: Outcome) -> None:
            if outcome.origin is None:
                return
            place = Place(outcome.origin.connector, conversation=outcome.origin.conversation)
            can = self.services.capabilities(place.connector)
            for outbound in self.speaker.say(answer_key(outcome.run_id), outcome.text, place, can):
                await outbox.put(tx, outbound, self.services.clock())

        if await self.executor.lapse(finish=finish):
            self.services.delivery.wake()

    async def given_up(self, tx: AsyncConnection, arrival: Arrival, reason: str) -> None:
        """An event that could not be dealt with, in the transaction that gives it up: whoever wrote it is told."""
        log.error(
            "chat.given_up", connector=arrival.inbound.connector, event_id=arrival.inbound.event_id, reason=reason
        )
        text = "⚠️ A fault in Muster kept me from dealing with this. The log says more; write it again to try once more."
        await self._say(tx, arrival.inbound, derived_id("x", arrival.inbound), text)
        await self._headway(arrival.inbound).end(tx, "failed")

    def _headway(self, inbound: Inbound) -> Headway:
        """How far the command has got that an event gave."""
        place = Place(inbound.connector, conversation=inbound.conversation)
        return Headway(self.services, self.speaker, place, derived_id("p", inbound))

    async def _answer(self, arrival: Arrival, text: str | None, *, detail: str | None = None) -> None:
        """Finish an event, with words or without."""
        async with self.services.store.write(REMARK) as tx:
            if text is not None:
                await self._say(tx, arrival.inbound, derived_id("n", arrival.inbound), text)
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail=detail)
        self.services.delivery.wake()

    # --- text ---------------------------------------------------------------------------------------------------

    async def _text(self, arrival: Arrival, body: Text, permission: Permission) -> None:
        inbound = arrival.inbound
        said = chat.interpret(body.text, prefix=self.services.command_prefix, mentioned=body.mentions_us)
        if isinstance(said, chat.Talk):
            await self._talk(arrival, body, said.text, permission)
            return
        origin = Origin(
            connector=inbound.connector,
            conversation=inbound.conversation,
            parent=inbound.parent,
            event_id=inbound.event_id,
        )
        run_id = derived_id("c", inbound)

        async def finish(tx: AsyncConnection, outcome: Outcome) -> None:
            await self._outcome(tx, inbound, outcome)
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail=outcome.state)

        confirmation = chat.confirmation(said.line)
        if confirmation is not None:
            await self._confirm_by_command(arrival, confirmation)
            return
        ready = chat.prepare(self.services.table, said.line, permission)
        request = Request(
            id=run_id,
            name=ready.name,
            arguments=ready.arguments,
            identity=inbound.identity,
            permission=permission,
            door="chat",
            origin=origin,
        )
        if ready.refusal is not None:
            await self.executor.refuse(request, ready.refusal, reason=ready.reason or "usage", finish=finish)
        else:
            async with self._headway(inbound).shown(answer_key(run_id)) as progress:
                await self.executor.run(request, finish=finish, progress=progress)
        self.services.delivery.wake()

    async def _talk(self, arrival: Arrival, body: Text, text: str, permission: Permission) -> None:
        inbound = arrival.inbound
        if not text.strip() and not body.attachments:
            await self._answer(arrival, None, detail="empty")
            return
        if permission < OPERATOR:
            await self._answer(arrival, f"You may look ({command_line('ps')}), but only operators talk to agents.")
            return
        if len(text) > LONGEST_MESSAGE:
            await self._answer(
                arrival,
                f"This message has {len(text):,} characters, and an agent takes {LONGEST_MESSAGE:,}. Nothing was sent. "
                "Put the text into a file in the agent's workspace and name the file.",
            )
            return
        try:
            row, answer_in = await addressee(inbound, self.services.store, self.utterances)
        except UserError as error:
            await self._answer(arrival, str(error))
            return
        attachments = await self.pictures.fetch(inbound, body.attachments)
        hold = await held_turns.held(self.services, row)
        key = derived_id("m", inbound)
        await self.services.runaway.spoken_to(row.name, inbound.identity)
        async with self.services.store.write(TALK) as tx:
            whence = {
                "connector": inbound.connector,
                "conversation": inbound.conversation,
                "event_id": inbound.event_id,
                "answer_in": answer_in,
            }
            kept = attachments.kept
            if hold is None:
                await self.services.agents.send(
                    tx, row, text, message_id=key, by=inbound.identity, attachments=kept, **whence
                )
            else:
                task = await held_turns.add(
                    tx, self.services, row, hold, text, cause=key, by=inbound.identity, attachments=kept, **whence
                )
                await self._say(tx, inbound, f"{key}/held", held_turns.told(self.services, row, task, hold))
            if attachments.refused:
                await self._say(tx, inbound, f"{key}/note", "\n".join(attachments.refused))
            if (absent := _absent(row)) is not None:
                await self._say(tx, inbound, _absence(row, inbound.conversation), absent)
            await inbox.finish(tx, arrival.seq, self.services.clock())
        self.services.agents.bring_mail(row.name)
        if hold is not None:
            self.services.dispatcher.wake()
        self.services.delivery.wake()

    # --- confirmations ------------------------------------------------------------------------------------------

    async def _confirm_by_command(self, arrival: Arrival, confirmation: chat.Confirmation) -> None:
        inbound = arrival.inbound
        run_id = confirmation.run_id
        if run_id is None:
            waiting = await self.executor.waiting(inbound.identity, inbound.conversation)
            if not waiting:
                await self._answer(arrival, "Nothing of yours waits for a confirmation here.")
                return
            run_id = waiting[-1].id
        await self._decide(arrival, run_id, confirmed=confirmation.yes)

    async def _decide(self, arrival: Arrival, run_id: str, *, confirmed: bool) -> None:
        inbound = arrival.inbound

        async def finish(tx: AsyncConnection, outcome: Outcome) -> None:
            await self._outcome(tx, inbound, outcome)
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail=outcome.state)

        try:
            if confirmed:
                async with self._headway(inbound).shown(answer_key(run_id)) as progress:
                    await self.executor.confirm(run_id, inbound.identity, finish=finish, progress=progress)
            else:
                await self.executor.decline(run_id, inbound.identity, finish=finish)
        except UserError as error:
            await self._answer(arrival, str(error))
        self.services.delivery.wake()

    # --- reactions ----------------------------------------------------------------------------------------------

    async def _reaction(self, arrival: Arrival, body: Reaction, permission: Permission) -> None:
        inbound = arrival.inbound
        choice, asking = by_mark(body.key), self.services.questions
        row = None
        if choice is not None or await asking.is_mark(body.key):
            row = await self.utterances.find(
                inbound.connector,
                (QUESTION, ASKED, confirmation_key("")),
                lambda tx: outbox.by_event(tx, inbound.connector, body.target),
            )
        if row is not None and (question := await asking.about(row.key)) is not None:
            await self._reaction_to_question(arrival, question, word_of(question, body.key), permission)
            return
        async with self.services.store.read() as tx:
            approval = await approvals.by_outbox_key(tx, row.key) if row is not None else None
        if row is None or choice is None:
            await self._answer(arrival, None, detail="a reaction that means nothing here")
            return
        run_id = row.key.removeprefix("confirm/")
        if run_id != row.key:
            await self._decide(arrival, run_id, confirmed=choice != "deny")
            return
        if approval is None:
            await self._answer(arrival, None, detail="a reaction to nothing that asks")
            return
        now = self.services.clock()
        async with self.services.store.write(REACT) as tx:
            if permission < OPERATOR:
                outcome = detail = "refused"
                said: str | None = f"Only operators answer permission requests; you are {permission}."
            else:
                try:
                    detail = await answering.answer(
                        tx, approval, choice, by=inbound.identity, source=inbound.event_id, now=now
                    )
                    outcome, said = "done", None
                except UserError as error:
                    outcome, detail, said = "refused", str(error), f"Too late: {error}"
            await audit.add(
                tx,
                key=f"reaction/{derived_id('r', inbound)}",
                at=now,
                identity=inbound.identity,
                door="chat",
                connector=inbound.connector,
                conversation=inbound.conversation,
                action=f"answer {choice}",
                arguments={"id": approval.id, "agent": approval.agent},
                outcome=outcome,
                detail=self.services.redact(detail),
            )
            if said is not None:
                await self._say(tx, inbound, derived_id("n", inbound), said)
            await inbox.finish(tx, arrival.seq, now, detail=outcome)
        self.services.agents.bring_mail(approval.agent)
        self.services.delivery.wake()

    async def _reaction_to_question(
        self, arrival: Arrival, question: Question, word: str | None, permission: Permission
    ) -> None:
        if word is None:
            await self._answer(arrival, None, detail="a reaction that means nothing here")
            return
        if permission < OPERATOR:
            await self._answer(arrival, f"Only operators answer this; you are {permission}.", detail="refused")
            return
        try:
            async with self.services.store.write(REACT) as tx:
                await self.services.questions.answer(tx, question, word, by=arrival.inbound.identity)
                await inbox.finish(tx, arrival.seq, self.services.clock(), detail="done")
        except UserError as error:  # and nothing of it stands
            await self._answer(arrival, f"Not done: {error}", detail="refused")
        else:
            await self.services.questions.after(question, word)

    # --- taking back and editing --------------------------------------------------------------------------------

    async def _redaction(self, arrival: Arrival, target: str, permission: Permission) -> None:
        """Who takes a message back while it is still queued does not want it read."""
        inbound = arrival.inbound
        async with self.services.store.write(WITHDRAW) as tx:
            messages = [
                message
                for message in await agent_messages.by_event(tx, inbound.connector, target)
                # Some chat systems let people who may only look here take back what others wrote.
                if permission >= OPERATOR or message.sender == inbound.identity
            ]
            for message in messages:
                if await self.services.agents.withdraw(tx, message):
                    # Words that the pace held, and that are just being given to their agent.
                    held = await tasks.by_message(tx, message.id)
                    if held is not None:
                        await self.services.task_steps.cancel(tx, held, by=inbound.identity)
            for task in await tasks.by_event(tx, inbound.connector, target):
                if permission >= OPERATOR or task.operator == inbound.identity:
                    await self.services.task_steps.cancel(tx, task, by=inbound.identity)
            await inbox.finish(tx, arrival.seq, self.services.clock())
        for name in {message.agent for message in messages}:
            self.services.agents.bring_mail(name)

    async def _edit(self, arrival: Arrival, target: str) -> None:
        """An edit is never input; who edits a message that went to an agent is told so."""
        inbound = arrival.inbound
        async with self.services.store.read() as tx:
            messages = await agent_messages.by_event(tx, inbound.connector, target)
            waiting = [] if messages else await tasks.by_event(tx, inbound.connector, target)
        read_by = [(each.id, each.agent) for each in messages] + [(each.id, each.agent or "") for each in waiting]
        if not read_by:
            await self._answer(arrival, None, detail="an edit")
            return
        task = waiting[0] if waiting and waiting[0].kind != TURN else None
        read = f"{rendering.one_line(read_by[0][1])} has the message as it was first written."
        if task is not None:
            read = f"Task {rendering.code(task.id)} stays as it was first written."
        async with self.services.store.write(REMARK) as tx:
            await self._say(
                tx,
                inbound,
                f"edit/{read_by[0][0]}",
                f"Edits are not read: {read} Delete it while it is queued, or write a new one.",
            )
            await inbox.finish(tx, arrival.seq, self.services.clock(), detail="an edit")
        self.services.delivery.wake()


def _absent(row: AgentRow) -> str | None:
    """What is said of an agent that reads nothing now; None: it does."""
    if row.wanted == "frozen":
        back = command_line(f"resume {row.name}")
        return f"{row.name} is frozen; this waits for it, and so does what follows, until {back} brings it back."
    if row.wanted == "running" and row.state in ENDED and Record.from_json(row.revival).try_at is not None:
        return f"{row.name} is down at the moment; it starts again by itself, and reads this then."
    if row.wanted != "stopped" and row.state not in {"failed", "stopped"}:
        return None
    now = row.state if row.state in {"failed", "stopped"} else "about to stop"
    again = command_line(f"launch {row.name}")
    return f"{row.name} is {now}; it will read this, and what follows, when it runs again: {again}."


def _absence(row: AgentRow, conversation: str) -> str:
    """The key of what is said once there of an agent that does not run, until it has run again."""
    return f"absence/{row.name}/{row.launch_id}/{row.started_at or 0:.3f}/{row.wanted}/{conversation}"
