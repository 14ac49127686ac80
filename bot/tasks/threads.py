"""Threads of tasks: in a chat room, the answer to `task add` opens one for the messages about the task.

Everything that opens, posts, renames or closes happens in the transaction of its cause, and once per key.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from bot.auth.permissions import is_person
from bot.commands.context import Context
from bot.commands.syntax import command_line, written
from bot.messaging.composer import MessagePlace
from bot.messaging.outbox_keys import answer_key, end_key
from bot.pacing.services import PacingServices
from bot.tasks import text as task_words
from bot.text import markdown
from connectors.contract.messages import OpenThread, Priority, Replace, Retitle
from connectors.delivery import outbox
from core.crash_points import Step
from database.queries import tasks
from database.queries.chat import thread_owners, thread_titles
from database.queries.task_states import ENDED
from database.queries.tasks import Task

#: Threads of tasks that ended this many seconds ago keep their titles.
_LOOK_BACK_S = 2 * 86_400.0


@dataclass(frozen=True, slots=True)
class TaskThreads:
    services: PacingServices

    # --- opening ------------------------------------------------------------------------------------------------

    def key_for(self, ctx: Context[PacingServices]) -> str | None:
        """Return the outbox key under which the answer to this command opens a thread, or None.

        Only a person's command in a chat room with threads opens one.
        """
        origin = ctx.origin
        if ctx.door != "chat" or origin is None or origin.parent is not None or not is_person(ctx.identity):
            return None
        return answer_key(ctx.run_id) if self.services.capabilities(origin.connector).threads else None

    async def open(self, tx: AsyncConnection, task: Task) -> None:
        """Open the thread of a task that is being added, if it gets one.

        The answer to the command replaces the opening message (`bot.messaging.replies.Replies.outcome`).
        """
        if task.thread_key is None or task.connector is None:
            return
        journal_effects = self.services.agents.journal_effects
        marked = journal_effects.titles.has(task.connector)
        title = task_words.title(task, journal_effects.redaction, marked=marked)
        message = markdown.message(task_words.opened(task, journal_effects.redaction), reply_to=task.event_id)
        place = MessagePlace(task.connector, conversation=task.conversation)
        opener = place.outbound(task.thread_key, OpenThread(title=title, message=message), Priority.REPLY)
        await thread_owners.note(tx, task.thread_key, "task", task.id)
        if await outbox.put_first(tx, opener, self.services.clock()) and marked:
            await thread_titles.rename(tx, task.thread_key, title, archived=False)

    # --- what is told -------------------------------------------------------------------------------------------

    async def say(self, tx: AsyncConnection, task: Task, what: str, text: str) -> None:
        """Post a text in the task's thread, once per `what`."""
        assert task.connector is not None
        place = MessagePlace(task.connector, thread_of=task.thread_key)
        await self.services.agents.journal_effects.speak(tx, f"task/{task.id}/{what}", text, place)
        await self.show(tx, task.id, spoken=True)

    async def waits_for_word(self, tx: AsyncConnection, task: Task, agent: str) -> None:
        """Announce in the task's thread that the agent's thread has a question about the task."""
        if task.thread_key is None:
            return
        closing = command_line(f"task close {task.id}")
        text = (
            f"✋ {agent} asks in its thread how to end this. {closing} answers that, too; what you write here "
            f"continues the task."
        )
        await self.say(tx, task, f"asks/{task.attempt}", text)

    async def close(
        self, tx: AsyncConnection, task_id: str, text: str | None = None, *, elsewhere: tuple[str, str] | None = None
    ) -> None:
        """Archive the thread of a task that is over, and show the result in its opening message.

        The chat room shows the result this way without another message.

        Args:
            tx: the transaction.
            task_id: the id of the task, which may have no thread.
            text: the new text of the opening message (Markdown); None: the default.
            elsewhere: key and text for the chat rooms that mirror this one.
        """
        task = await tasks.get(tx, task_id)
        if task is None or task.thread_key is None or task.connector is None:
            return
        journal_effects = self.services.agents.journal_effects
        await self.show(tx, task.id)
        place = MessagePlace(task.connector, conversation=task.conversation)
        opener = await outbox.get(tx, task.thread_key)
        # If no thread could be opened, the last message is in the chat room already.
        if opener is not None and not (opener.state == "sent" and opener.made_conversation is None):
            words = journal_effects.redaction(
                written(text or task_words.closed(task, journal_effects.redaction), journal_effects.prefix)
            )
            content = Replace(target=task.thread_key, message=markdown.message(words), final=True)
            await outbox.put(
                tx, place.outbound(end_key(task.thread_key), content, Priority.REPLY), self.services.clock()
            )
        if elsewhere is None or not journal_effects.bridge.joins(place):
            return
        for key, at in journal_effects.bridge.spread(elsewhere[0], place)[1:]:
            await journal_effects.speak_there(tx, key, elsewhere[1], at)

    # --- what it is called --------------------------------------------------------------------------------------

    async def show(self, tx: AsyncConnection, task_id: str, *, spoken: bool = False) -> None:
        """Rename the task's thread according to the task's state, including changes of this transaction.

        `spoken` means that Muster posted something in the thread.
        """
        task = await tasks.get(tx, task_id)
        if task is None or task.thread_key is None or task.connector is None:
            return
        names = self.services.agents.journal_effects.titles
        if names.has(task.connector):
            await names.call(tx, task.connector, task.thread_key, self._title(task), spoken=spoken)

    def _title(self, task: Task) -> Retitle:
        redact = self.services.agents.journal_effects.redaction
        return Retitle(title=task_words.title(task, redact, marked=True), archived=task.state in ENDED)

    async def sweep(self, step: Step) -> bool:
        """Rename the threads whose titles are outdated. Return whether there were any."""
        has = self.services.agents.journal_effects.titles.has
        async with self.services.store.read() as tx:
            found = await tasks.with_threads(tx, since=self.services.clock() - _LOOK_BACK_S)
            found = [task for task in found if task.connector is not None and has(task.connector)]
            known = await thread_titles.every(tx) if found else {}
        wrong = []
        for task in found:
            title = self._title(task)
            if known.get(task.thread_key or "") != (title.title, title.archived):
                wrong.append(task.id)
        for task_id in wrong:
            async with self.services.store.write(step) as tx:
                await self.show(tx, task_id)
        return bool(wrong)
