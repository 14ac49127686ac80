"""What an operator said, and what must have come of it: the books are balanced after everything was killed.

every command      one reply in the room, one line in the audit
every message      reached the model once, or shows that it may not have: ❌, ❓, 💀 or ↩️
every answer       stands once, with its exact text
everything of ours stands once, under its key, and nothing is left lying in the register
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests import waiting
from tests.operator_client import Event, body, relation
from tests.system.installation import LIMIT
from tests.system.matrix_installation import KEY, Installation, reacts, replies_to

FINISHED = "✅"
#: The marks of a message that may not have reached its agent, or whose turn did not end well.
STRANDED = frozenset({"❌", "❓", "💀"})
WITHDRAWN = "↩️"
#: The marks of a message whose turn was cancelled.
CANCELLED = frozenset({"⏹️", "⏭️"})
FINAL = STRANDED | CANCELLED | {FINISHED, WITHDRAWN}
#: So begins a message that has many answers of an absence, a line each.
DIGEST = "**While nobody listened**"


@dataclass(frozen=True, slots=True)
class Message:
    """A message to an agent."""

    event_id: str
    token: str
    """Stands in this message alone."""
    answer: str | None
    """What the model answers, when it does so in one piece."""


@dataclass(slots=True)
class Books:
    home: Installation
    commands: dict[str, str] = field(default_factory=dict)
    """The line of each command, by its event."""
    messages: list[Message] = field(default_factory=list)
    kills: dict[str, str] = field(default_factory=dict)
    """Commands that are answered by a question, and what became of them stands apart."""
    may_be_cut: bool = False
    """Agent hosts were killed: a message may be stranded, if it shows that."""
    patience: float = LIMIT
    """For so many seconds each reply and each end of a message is waited for."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _looked: int = 0
    """So many events of the room are in `_replied` and `_ended`."""
    _replied: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)

    # --- saying ---------------------------------------------------------------------------------------------------

    def token(self) -> str:
        """A word that stands nowhere else."""
        return f"tok{next(self._numbers)}x"

    async def command(self, line: str, *, thread: str | None = None) -> str:
        """Give a command; its event."""
        event = await self.home.ana.say(self.home.room, line, thread=thread)
        self.commands[event] = line
        return event

    async def ask(self, line: str, *, thread: str | None = None) -> str:
        """Give a command and wait for its reply."""
        return await self.home.reply(await self.command(line, thread=thread), limit=self.patience)

    async def message(self, thread: str | None, orders: str | None = None, *, before: str = "") -> Message:
        """Write to an agent: `orders` for the simulated model, or else something that it answers in one piece.

        Args:
            thread: the agent's; None: the room, where words open a topic.
            orders: for the simulated model.
            before: what it does before that answer.
        """
        token = self.token()
        answer = f"answer to **{token}**" if orders is None else None
        text = f"{token} {before}[[say: {answer}]]" if orders is None else f"{token} {orders}"
        event = await self.home.ana.say(self.home.room, text, thread=thread)
        said = Message(event, token, answer)
        self.messages.append(said)
        return said

    async def picture(self, thread: str | None, content: bytes) -> Message:
        """Send a picture to an agent."""
        token = self.token()
        caption = f"{token} look [[say: seen {token}]]"
        event = await self.home.ana.send_file(
            self.home.room, content, "picture.png", "image/png", thread=thread, caption=caption
        )
        said = Message(event, token, f"seen {token}")
        self.messages.append(said)
        return said

    # --- seeing ---------------------------------------------------------------------------------------------------

    async def done(self, message: Message) -> str:
        """Wait until a message has come to an end; the mark that says which."""

        def ended(event: Event) -> bool:
            found = reacts(event)
            return found is not None and found[0] == message.event_id and found[1] in FINAL

        mark = reacts(await self.home.heard(ended, limit=self.patience))
        assert mark is not None
        return mark[1]

    def is_done(self, message: Message) -> bool:
        """Whether a message is known to have come to an end."""
        seen = self.home.ana.seen.get(self.home.room, [])
        return any((found := reacts(each)) and found[0] == message.event_id and found[1] in FINAL for each in seen)

    def waiting(self) -> int:
        """How many commands have no reply yet, and messages no end, as far as was seen."""
        seen = self.home.ana.seen.get(self.home.room, [])
        for event in seen[self._looked :]:
            found = reacts(event)
            if found is not None and found[1] in FINAL:
                self._ended.add(found[0])
            self._replied.add(replies_to(event) or "")
        self._looked = len(seen)
        return len(self.commands.keys() - self._replied) + len({each.event_id for each in self.messages} - self._ended)

    async def settled(self) -> None:
        """Wait until nothing is left to be done, said or heard."""
        for event in list(self.commands):
            await self.home.reply(event, limit=self.patience)
        for message in list(self.messages):
            await self.done(message)
        try:
            await waiting.until(lambda: not any(self._lying().values()), limit=self.patience)
        except TimeoutError:
            raise AssertionError(f"left lying: {self._lying()}\n{self.home.last_words()}") from None

    def _lying(self) -> dict[str, list[Any]]:
        """What the register holds that is not done."""
        with self.register() as register:
            return {
                name: register.execute(query).fetchall()
                for name, query in {
                    "inbox": "SELECT event_id, body FROM inbox WHERE state = 'new'",
                    "outbox": "SELECT key, detail FROM outbox WHERE state = 'pending'",
                    "commands": "SELECT id, name FROM command_runs WHERE state IN ('running', 'confirming')",
                    "messages": "SELECT id, state FROM agent_messages WHERE state IN "
                    "('pending', 'journaled', 'accepted')",
                    "calls": "SELECT id, tool FROM tool_calls WHERE state <> 'over'",
                    "approvals": "SELECT id, state FROM approvals WHERE state IN ('pending', 'answering')",
                }.items()
            }

    @contextlib.contextmanager
    def register(self) -> Iterator[sqlite3.Connection]:
        """The register, for looking into."""
        path = self.home.paths.state / "register.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            yield connection

    # --- balancing ------------------------------------------------------------------------------------------------

    async def balance(self) -> None:
        """Compare everything that was said with everything that came of it.

        Raises:
            AssertionError: something is missing, or there twice.
        """
        await self.settled()
        room = await self.home.ana.events(self.home.room)
        wrong = [
            *self._commands(room),
            *self._audit(),
            *self._messages(room),
            *self._answers(room),
            *self._twice(room),
            *self._failed(),
        ]
        if wrong:
            raise AssertionError("\n".join([*wrong, self.home.last_words(80)]))

    def _commands(self, room: list[Event]) -> Iterator[str]:
        replies = Counter(
            replies_to(event)
            for event in room
            if event["sender"] == self.home.bot.user_id and relation(event).get("rel_type") != "m.replace"
        )
        for event, line in self.commands.items():
            if replies[event] != 1:
                yield f"{line!r} has {replies[event]} replies"

    def _audit(self) -> Iterator[str]:
        with self.register() as register:
            rows = register.execute("SELECT action FROM audit WHERE door = 'chat' AND key LIKE 'command:%'").fetchall()
        written = Counter(action for (action,) in rows)
        looks = {"ps", "tail", "watch", "approvals", "grants", "dead-letters", "help", "health", "whoami"}
        lines = [*self.commands.values(), *self.kills.values()]
        given = Counter(" ".join(line.lstrip("!").split()[: _words_of_name(line)]) for line in lines)
        for name in looks:
            given.pop(name, None)
        if written != given:
            yield f"the audit has {dict(written)}, and what was given is {dict(given)}"

    def _messages(self, room: list[Event]) -> Iterator[str]:
        marks: dict[str, set[str]] = {}
        for event in room:
            found = reacts(event)
            if event["sender"] == self.home.bot.user_id and found is not None:
                marks.setdefault(found[0], set()).add(found[1])
        asked = Counter[str]()
        for entry in self.home.models.ledger.entries:
            if entry.results == 0:
                asked.update(message.token for message in self.messages if f"{message.token} " in f"{entry.text} ")
        for message in self.messages:
            ended = marks.get(message.event_id, set()) & FINAL
            times = asked[message.token]
            if len(ended) != 1:
                yield f"{message.token} shows {sorted(ended)}, and one end is wanted"
            elif ended == {FINISHED} and times != 1:
                yield f"{message.token} is said to be finished, and the model saw it {times} times"
            elif ended == {WITHDRAWN} and times != 0:
                yield f"{message.token} was taken back, and the model saw it {times} times"
            elif ended & STRANDED and not self.may_be_cut:
                yield f"{message.token} shows {sorted(ended)}, and no agent was killed"
            elif times > 1:
                yield f"{message.token} reached the model {times} times"

    def _answers(self, room: list[Event]) -> Iterator[str]:
        """A digest has many answers."""
        now = [text for _, text in self.standing(room)]
        standing = Counter(now)
        digests = [text.splitlines() for text in now if text.startswith(DIGEST)]
        standing += Counter(
            answer for lines in digests for line in lines if (answer := line.removeprefix("- ")) not in standing
        )
        ended = {found[0]: found[1] for event in room if (found := reacts(event)) and found[1] in FINAL}
        for message in self.messages:
            if message.answer is None or ended.get(message.event_id) != FINISHED:
                continue
            if standing[message.answer] != 1:
                alike = [text for text in standing if message.token in text]
                yield f"{message.answer!r} stands {standing[message.answer]} times; there is {alike}"

    def standing(self, room: list[Event]) -> list[tuple[Event, str]]:
        """Every message of ours, and how it reads now."""
        ours = [
            event for event in room if event["sender"] == self.home.bot.user_id and event["type"] == "m.room.message"
        ]
        first = {event["event_id"]: event for event in ours if relation(event).get("rel_type") != "m.replace"}
        now = {event_id: body(event) for event_id, event in first.items()}
        now |= {relation(event)["event_id"]: body(event) for event in ours if event["event_id"] not in first}
        return [(first[event_id], text) for event_id, text in now.items()]

    def _twice(self, room: list[Event]) -> Iterator[str]:
        ours = [event for event in room if event["sender"] == self.home.bot.user_id]
        for key, times in Counter(event["content"][KEY] for event in ours if KEY in event["content"]).items():
            if times > 1:
                yield f"{key} stands {times} times"
        for mark, times in Counter(filter(None, map(reacts, ours))).items():
            if times > 1:
                yield f"the reaction {mark} stands {times} times"

    def _failed(self) -> Iterator[str]:
        with self.register() as register:
            for key, detail in register.execute("SELECT key, detail FROM outbox WHERE state = 'dead'"):
                yield f"{key} is a dead letter: {detail}"
            for event, detail in register.execute("SELECT event_id, detail FROM inbox WHERE state = 'failed'"):
                yield f"{event} was given up: {detail}"
            for name, reply in register.execute("SELECT name, reply FROM command_runs WHERE state = 'failed'"):
                # Who cancels a turn just as the agent dies is told that the agent does not answer.
                if not (name == "cancel" and self.may_be_cut):
                    yield f"{name} failed: {json.loads(reply)}"


def _words_of_name(line: str) -> int:
    """How many words of a line are the command's name."""
    return {"!task": 2, "!approvals": 3, "!project": 2, "!topic": 2}.get(line.split()[0], 1)
