"""Where what someone does in private waits until it is known which roles they have in the server.

Discord is asked beside everything else, for one person after the other, so that strangers who write to the bot hold up
no one but one another. What else is done in the same conversation waits behind.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from connectors.contract.connector_protocol import NotReady
from connectors.contract.messages import Inbound
from connectors.discord.member_roles import Roles

MOST = 2_000
"""What waits here at most. Whoever comes then counts as somebody without roles."""

#: Seconds until Discord is asked again when it gave no answer.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingMessage:
    """Something that someone did, and the event by which it was told; none, where it did not come as one."""

    found: Inbound
    event: str = ""


@dataclass(kw_only=True)
class PendingDirectMessages:
    roles: Roles
    known: Callable[[], None]
    """Told when there is something to `take`."""
    _waiting: dict[str, deque[PendingMessage]] = field(default_factory=dict)
    _answers: deque[tuple[str, tuple[str, ...]]] = field(default_factory=deque)
    """Conversations, with the groups of whoever did what waits first there."""
    _to_ask: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    _count: int = 0

    def __len__(self) -> int:
        return self._count

    def holds(self, conversation: str) -> bool:
        """Return whether something waits that was done there."""
        return conversation in self._waiting

    def put(self, waiting: PendingMessage) -> None:
        """Someone did this in private."""
        conversation = waiting.found.conversation
        if conversation not in self._waiting:
            self._waiting[conversation] = deque()
            self._to_ask.put_nowait(conversation)
        self._waiting[conversation].append(waiting)
        self._count += 1

    def take(self) -> list[PendingMessage]:
        """Return what waits no more, with the groups of who did it; of each conversation in the order in which
        it came."""
        found: list[PendingMessage] = []
        while self._answers:
            conversation, groups = self._answers.popleft()
            queue = self._waiting[conversation]
            sender = queue[0].found.sender
            while queue and queue[0].found.sender == sender:
                each = queue.popleft()
                self._count -= 1
                found.append(replace(each, found=replace(each.found, groups=groups)))
            if queue:
                self._to_ask.put_nowait(conversation)
            else:
                del self._waiting[conversation]
        return found

    @property
    def answered(self) -> bool:
        """Whether there is something to `take`."""
        return bool(self._answers)

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            conversation = await self._to_ask.get()
            groups = await self._groups(self._waiting[conversation][0].found.sender)
            self._answers.append((conversation, groups))
            self.known()

    async def _groups(self, person: str) -> tuple[str, ...]:
        pause = FIRST_PAUSE
        while True:
            try:
                return await self.roles.of(person, {})
            except NotReady as error:
                _log.info("discord_roles_not_known", person=person, reason=str(error))
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
