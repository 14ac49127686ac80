"""The queue of messages, and one turn at a time for each.

A message is taken once it is in the journal; it waits there for the turn before it to end, unless it steers, which
cancels that turn and goes first.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from fleet.errors import AgentRefused
from fleet.host import current_turn_file, message_images
from fleet.host.acp.acp_client import PromptEnd, RuntimeTrouble
from fleet.host.acp.update_parser import clean, usage_fields
from fleet.host.background_tasks import BackgroundTasks
from fleet.host.journal_fanout import JournalFanout
from fleet.host.journal_writer import JournalNotWritable
from fleet.host.permission_requests import PendingPermissions
from fleet.host.runtime_lifetime import RuntimeLife
from fleet.host.runtime_process import hint_for
from fleet.host.state import STARTED
from fleet.host.update_recorder import UpdateRecorder
from fleet.journal.events import (
    MessageEdited,
    MessagePutFirst,
    MessageQueued,
    MessageWithdrawn,
    Notice,
    TurnEnded,
    TurnStarted,
    UsageReported,
)

TEXT_CHARACTERS: Final = 1_000_000
NOTE_CHARACTERS: Final = 10_000
QUEUED_MESSAGES: Final = 200
QUEUED_BYTES: Final = 6 * 2**20
_ID_CHARACTERS: Final = 200


class TurnQueue:
    """Takes messages at any time; their turns run while `run` does, on the runtime that `serve` named."""

    def __init__(
        self, chronicle: JournalFanout, transcript: UpdateRecorder, desk: PendingPermissions, tasks: BackgroundTasks
    ) -> None:
        self._chronicle = chronicle
        self._transcript = transcript
        self._desk = desk
        self._tasks = tasks
        self._life: RuntimeLife | None = None
        self._lock = asyncio.Lock()
        self._count = 0
        self._cancel_wanted: str | None = None
        self._steered: str | None = None
        """The turn that a message which steers cancelled last."""
        self._paused = False
        self._closed = False

    # --- who may begin what ---------------------------------------------------------------------------------------

    def serve(self, life: RuntimeLife) -> None:
        """This runtime takes prompts now."""
        self._life = life
        self._tell(life, None)

    def pause(self) -> None:
        """Begin no further turn. Messages are still taken."""
        self._paused = True

    def resume(self) -> None:
        """Begin turns again."""
        self._paused = False
        self._chronicle.pulse.ring()

    def close(self) -> None:
        """Take no further message."""
        self._closed = True

    async def settled(self) -> None:
        """Wait until a turn that was just being begun has begun."""
        async with self._lock:
            pass

    # --- the queue ------------------------------------------------------------------------------------------------

    async def send(
        self, message: str, text: str, mode: str, sender: str, pictures: Sequence[Any], note: str = ""
    ) -> dict[str, Any]:
        """Take a message into the durable queue, with a `note` of Muster's own before it. A known id changes nothing.

        Raises:
            AgentRefused: it is not taken, and the message says why.
            JournalNotWritable: it could not be kept.
        """
        if not 0 < len(message) <= _ID_CHARACTERS or not message.isascii():
            raise AgentRefused(f"A message's id has 1 to {_ID_CHARACTERS} characters of ASCII.", refusal="invalid")
        if mode not in {"queue", "steer"}:
            raise AgentRefused(f"A message's mode is queue or steer, not {mode!r}.", refusal="invalid")
        self._check_length(text)
        chronicle = self._chronicle
        if pictures and message not in chronicle.state.fates:
            await self._images_wanted()
        async with self._lock:
            if (fate := chronicle.state.fates.get(message)) is not None:
                return {"state": fate, "queued": len(chronicle.state.queue)}
            self._check_room(text)
            try:
                paths = (
                    await asyncio.to_thread(message_images.keep, chronicle.folder, message, pictures)
                    if pictures
                    else ()
                )
            except OSError as error:
                raise JournalNotWritable(f"The pictures could not be kept: {error.strerror or error}.") from None
            queued = MessageQueued(
                id=message, text=clean(text), mode=mode, sender=clean(sender)[:500], images=paths, note=clean(note)
            )
            await chronicle.journal.append(queued)
        if mode == "steer":
            self._steered = self.cancel() or self._steered
        return {"state": chronicle.state.fates.get(message, STARTED), "queued": len(chronicle.state.queue)}

    async def _images_wanted(self) -> None:
        await self._chronicle.pulse.until(lambda: self._life is not None or self._closed)
        if self._life is None or not self._life.session.images:
            runtime = self._chronicle.spec.runtime
            raise AgentRefused(f"The runtime {runtime} takes no pictures; say it in words.", refusal="no_images")

    def _check_length(self, text: str) -> None:
        if len(text) > TEXT_CHARACTERS:
            sentence = f"The message has {len(text)} characters; an agent takes {TEXT_CHARACTERS} at most."
            raise AgentRefused(sentence, refusal="too_long")

    def _check_room(self, text: str) -> None:
        if self._closed:
            raise AgentRefused("The agent is about to end; send it when it runs again.", refusal="stopping")
        self._check_size(self._chronicle.state.queue, text)

    def _check_size(self, queue: Sequence[MessageQueued], text: str) -> None:
        size = sum(len(json.dumps(message.text)) for message in queue) + len(json.dumps(text))
        if len(queue) >= QUEUED_MESSAGES or size > QUEUED_BYTES:
            sentence = f"{len(queue)} messages wait for this agent already; send it when some are done."
            raise AgentRefused(sentence, refusal="queue_full")

    async def withdraw(self, message: str) -> bool:
        """Take a message out of the queue; False when its turn has begun, or it is not known."""
        async with self._lock:
            found = self._waiting(message)
            if found is None:
                return False
            await self._chronicle.journal.append(MessageWithdrawn(id=message))
        await asyncio.to_thread(message_images.forget, found.images)
        return True

    async def edit(self, message: str, text: str) -> bool:
        """Give a message that waits another text; False when its turn has begun, or it is not known.

        Raises:
            AgentRefused: the text is too long.
            JournalNotWritable: it could not be kept.
        """
        async with self._lock:
            found = self._waiting(message)
            if found is None:
                return False
            text = clean(text)
            if found.text != text:
                self._check_length(text)
                others = [each for each in self._chronicle.state.queue if each.id != message]
                self._check_size(others, text)
                await self._chronicle.journal.append(MessageEdited(id=message, text=text))
        return True

    async def put_first(self, message: str) -> bool:
        """Let a message that waits have the next turn; False when its turn has begun, or it is not known.

        Raises:
            JournalNotWritable: it could not be kept.
        """
        async with self._lock:
            if self._waiting(message) is None:
                return False
            if self._chronicle.state.queue[0].id != message:
                await self._chronicle.journal.append(MessagePutFirst(id=message))
        return True

    def waiting(self) -> list[str]:
        """Return the ids of the messages that wait, in the order of their turns."""
        return [each.id for each in self._chronicle.state.queue]

    def _waiting(self, message: str) -> MessageQueued | None:
        return next((each for each in self._chronicle.state.queue if each.id == message), None)

    def end(self, message: str) -> bool:
        """Cancel the turn that a message began, be it accepted or not yet; False when no such turn runs."""
        turn = self._chronicle.state.turn
        return turn is not None and turn.message == message and self.cancel(turn.turn) is not None

    def cancel(self, only: str | None = None) -> str | None:
        """Cancel the running turn, with `only` if it is that one; its id, or None when none runs. How it ends comes
        with its end."""
        turn = self._chronicle.state.turn
        if turn is None or only not in {None, turn.turn}:
            return None
        self._cancel_wanted = turn.turn
        self._desk.cancel_all(turn.turn)
        if self._transcript.prompting == turn.turn and self._life is not None:
            self._tasks.hold(asyncio.create_task(self._life.cancel(turn.session), name="cancel"))
        return turn.turn

    # --- the turns ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the turns of what is queued, one after the other, until it is cancelled."""
        while True:
            await self._chronicle.pulse.until(self._may_begin)
            async with self._lock:
                begun = await self._begin()
            if begun is not None:
                life, turn, message = begun
                await self._turn(life, turn, message)

    def _may_begin(self) -> bool:
        ready = self._life is not None and not self._life.silent
        return ready and bool(self._chronicle.state.queue) and self._chronicle.journal.writable and not self._paused

    async def _begin(self) -> tuple[RuntimeLife, str, MessageQueued] | None:
        if not self._may_begin():
            return None
        life = self._life
        assert life is not None
        chronicle = self._chronicle
        message = chronicle.state.queue[0]
        self._count += 1
        turn = f"{chronicle.journal.incarnation}-{self._count}"
        self._transcript.begin()
        try:
            await chronicle.journal.append(TurnStarted(turn=turn, message=message.id, session=life.session.session))
        except JournalNotWritable:
            return None
        return life, turn, message

    async def _turn(self, life: RuntimeLife, turn: str, message: MessageQueued) -> None:
        journal = self._chronicle.journal
        pictures = await asyncio.to_thread(message_images.load, message.images)
        lost = len(message.images) - len(pictures)
        if lost:
            journal.record(Notice(text=f"{lost} pictures of this message are gone and were left out.", turn=turn))
        if self._cancel_wanted == turn:
            end = PromptEnd(stop_reason="cancelled")
        else:
            self._transcript.prompted(turn)
            self._tell(life, turn, message.id)
            try:
                end = await life.prompt(self._text(message), pictures)
            except RuntimeTrouble as error:
                if life.silent:
                    # What happened to the turn is told with the runtime's end, which cancels this.
                    await asyncio.Event().wait()
                said = str(error)
                hint = hint_for(said, self._chronicle.spec.hints)
                end = PromptEnd(stop_reason="error", detail=f"{said} {hint}" if hint else said)
            finally:
                self._transcript.answered()
                self._tell(life, None)
            if end.stop_reason != "error":
                self._transcript.accept(turn)
        self._desk.cancel_all(turn)
        if usage := usage_fields(end.usage):
            journal.record(UsageReported(turn=turn, fields=usage))
        journal.record(
            TurnEnded(
                turn=turn,
                message=message.id,
                stop_reason=end.stop_reason,
                accepted=self._transcript.accepted(turn),
                detail=end.detail,
                steered=end.stop_reason == "cancelled" and self._steered == turn,
            )
        )
        await self._chronicle.pulse.until(lambda: self._chronicle.state.turn is None)
        await asyncio.to_thread(message_images.forget, message.images)

    def _tell(self, life: RuntimeLife, turn: str | None, message: str | None = None) -> None:
        current_turn_file.write(self._chronicle.folder, session=life.session.session, turn=turn, message=message)

    def _text(self, message: MessageQueued) -> list[str]:
        """Return what the runtime is given, block by block: before the first message of a session what the role
        says."""
        instructions = "" if self._chronicle.state.introduced else self._chronicle.spec.instructions
        return [*filter(None, (instructions, message.note)), message.text]
